"""The model of a deployment, from what came of planning each role on each host: for tests of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app_plans import variables as app_variables
from worker_plans import variables as worker_variables

from ansible_collections.celeryops.stack.plugins.plugin_utils.model.build import Planned, assemble
from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import (
    App,
    Deployment,
    Machine,
    RunningClass,
    Server,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans import celery_app, celery_worker

GIB = 2**30
GROUPS = {"all": ["app1", "mq1"], "celery_workers": ["app1"], "rabbitmq": ["mq1"]}


def role(values: Mapping[str, Any], *given: str, **changes: Any) -> Planned:
    readers = {"celery_app_name": celery_app.read, "celery_worker_app": celery_worker.read}
    read = next((reader(values) for name, reader in readers.items() if name in values), None)
    return Planned(values, {}, frozenset(given), frozenset(), read=read, **changes)


def app(*given: str, **own: Any) -> Planned:
    return role(app_variables(**own), *given)


def worker(*given: str, **own: Any) -> Planned:
    return role(worker_variables(**own), *given)


def model(
    planned: Mapping[tuple[str, str], Planned],
    groups: Mapping[str, list[str]] | None = None,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    said: Mapping[tuple[str, str], Any] | None = None,
) -> Deployment:
    """Return the model; ``said`` are variables of hosts, (host, name) -> value."""
    return assemble(
        groups or GROUPS,
        planned,
        lambda host: (facts or {}).get(host, {}),
        lambda host, name, default: (said or {}).get((host, name), default),
    )


def shop(*given: str, **own: Any) -> App:
    return model({("celery_app", "app1"): app(*given, **own)}).apps["shop"]


def machine(facts: Mapping[str, Any], **said: Any) -> Machine:
    found = model(
        {("celery_app", "app1"): app()},
        facts={"app1": facts},
        said={("app1", name): value for name, value in said.items()},
    )
    return found.machines["app1"]


def one_class(settings: Mapping[str, Any] | None = None, **keys: Any) -> RunningClass:
    found = model(
        {
            ("celery_app", "app1"): app(settings=dict(settings or {})),
            ("celery_worker", "app1"): worker(classes={"high": keys}),
        }
    )
    (only,) = found.classes
    return only


def rabbitmq(facts: Mapping[str, Any] | None = None, **own: Any) -> Server:
    values = {"rabbitmq_port": 5672, "rabbitmq_consumer_timeout": "30m", **own}
    (server,) = model({("rabbitmq", "mq1"): role(values)}, facts={"mq1": facts or {}}).servers
    return server
