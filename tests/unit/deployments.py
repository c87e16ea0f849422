"""A sound deployment, which tests of rules change, and what the rules tell of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import (
    App,
    Deployment,
    Duty,
    Machine,
    Route,
    RunningClass,
    Server,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import Finding
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules.catalogue import RULES

HOUR, DAY, GIB = 3600, 86400, 2**30
HIGH = RunningClass("shop", "app1", "high", ("payments",), concurrency=4, stop_timeout=300, written={"concurrency": 4})
DEFAULT = RunningClass("shop", "app1", "default", ("default",), stop_timeout=300)
SHOP = App(
    "shop",
    hosts=("app1",),
    broker_addresses=("mq1:5672/shop",),
    queues={"default": "quorum", "payments": "quorum"},
    routes=(Route("shop.payments.*", "payments"),),
    classes=(HIGH, DEFAULT),
    longest_eta=HOUR,
    longest_task=1800,
    variables={"celery_app_key_prefix": "shop:"},
    variants=(("app1", {}),),
)
RABBITMQ = Server("rabbitmq", "mq1", ("0.0.0.0",), 5672, consumer_timeout=2 * HOUR)
REDIS = Server("redis", "mq1", ("10.0.0.1",), 6379, variables={"redis_maxmemory_policy": "noeviction"})
STACK = Deployment(
    machines={"app1": Machine("app1", "app1"), "app2": Machine("app2", "app2"), "mq1": Machine("mq1", "mq1")},
    apps={"shop": SHOP},
    servers=(RABBITMQ, REDIS),
    groups={"rabbitmq": ["mq1"], "redis": ["mq1"], "celery_workers": ["app1"]},
)
REDIS_BROKER = {"broker": "redis", "broker_addresses": ("mq1:6379/0",), "visibility_timeout": 3 * HOUR}


def with_app(stack: Deployment = STACK, **changes: Any) -> Deployment:
    return replace(stack, apps={"shop": replace(SHOP, **changes)})


def with_class(**changes: Any) -> Deployment:
    return with_app(classes=(replace(HIGH, **changes), DEFAULT))


def with_server(server: Server, **changes: Any) -> Deployment:
    others = tuple(other for other in STACK.servers if other.kind != server.kind)
    return replace(STACK, servers=(*others, replace(server, **changes)))


def two_apps(stack: Deployment = STACK, **changes: Any) -> Deployment:
    first = stack.apps["shop"]
    return replace(stack, apps={"shop": first, "blog": replace(first, name="blog", hosts=(), classes=(), **changes)})


def found(deployment: Deployment) -> dict[str, list[Finding]]:
    """Return what each rule finds, rules that find nothing left out."""
    told = {rule.name: list(rule.find(deployment)) for rule in RULES}
    return {name: findings for name, findings in told.items() if findings}


def only(deployment: Deployment, rule: str) -> Finding:
    told = found(deployment)
    assert list(told) == [rule], told
    (finding,) = told[rule]
    return finding


def beats(*schedulers: str) -> Deployment:
    hosts = ("app1", "app2")
    duties = [
        Duty("celery_beat", "shop", host, {"celery_beat_scheduler": scheduler})
        for host, scheduler in zip(hosts, schedulers, strict=False)
    ]
    return replace(STACK, duties=tuple(duties))


def declaring(stack: Deployment = STACK, **variables: Any) -> Deployment:
    """Return a stack whose RabbitMQ has objects of the inventory."""
    own = {f"rabbitmq_{name}": value for name, value in variables.items()}
    return replace(stack, servers=(replace(RABBITMQ, variables=own), REDIS))


def limit(**changes: Any) -> dict[str, Any]:
    """Return a policy that does not keep dead letters."""
    return {"vhost": "shop", "name": "limit", "pattern": "^pay", "definition": {"max-length": 5}, **changes}


DEAD = {"variables": {**SHOP.variables, "celery_app_dead_letter_queue": "dead"}}


def apps(*several: App, **changes: Any) -> Deployment:
    return replace(STACK, **{"apps": {app.name: app for app in several}, **changes})


def named(name: str, **changes: Any) -> App:
    """An app of its own, as the shop but without classes, unless ``changes`` say otherwise."""
    own = {"name": name, "classes": (), "variables": {"celery_app_key_prefix": f"{name}:"}, **changes}
    return replace(SHOP, **own)


def about(finding: Finding) -> tuple[str, Any, str, str | None]:
    """Return the variable, its value, the subject and the app of what was found."""
    return finding.problem.variable, finding.problem.value, finding.subject, finding.app
