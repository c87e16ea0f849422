"""Settings that lose messages, or that a broker refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from deployments import (
    DAY,
    RABBITMQ,
    REDIS,
    REDIS_BROKER,
    SHOP,
    about,
    apps,
    found,
    only,
    with_app,
    with_server,
)
from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import Deployment, Server

PERMIT = "deprecated_features.permit.transient_nonexcl_queues"
CLASSIC = {"default": "classic", "payments": "classic"}


def test_delayed_tasks_without_quorum_queues() -> None:
    classic = {"queues": CLASSIC, "longest_eta": 600}
    given = frozenset({"celery_app_longest_eta"})
    assert only(with_app(**classic, given=given), "eta-in-worker").problem.variable == "celery_app_queue_type"
    assert found(with_app(**classic)) == {}
    assert found(with_app(queues={**CLASSIC, "payments": "quorum"}, given=given)) == {}
    assert found(with_app(**{**REDIS_BROKER, **classic, "given": given})) == {}


@pytest.mark.parametrize(("broker", "days"), [("rabbitmq", 30), ("redis", 2)])
def test_promises_that_a_schedule_should_make(broker: str, days: int) -> None:
    changes = {"broker": broker, "visibility_timeout": 999 * DAY, "variables": {"celery_app_longest_eta": "long"}}
    assert found(with_app(**changes, longest_eta=days * DAY)) == {}
    finding = only(with_app(**changes, longest_eta=days * DAY + 1), "long-eta")
    assert (finding.problem.variable, finding.problem.value) == ("celery_app_longest_eta", "long")
    assert f"at most {days}d" in finding.problem.instead


def test_a_global_prefetch_on_quorum_queues() -> None:
    off = {"worker_detect_quorum_queues": False}
    finding = only(with_app(own_settings=off), "global-prefetch")
    assert about(finding) == ("celery_app_settings.worker_detect_quorum_queues", False, "shop", "shop")
    assert found(with_app(own_settings=off, queues={"default": "classic"}, longest_task=60)) == {}
    assert found(with_app(own_settings={"worker_detect_quorum_queues": True})) == {}


def test_quorum_queues_have_no_priorities() -> None:
    own = {"own_settings": {"task_queue_max_priority": 10}}
    only(with_app(**own), "priority-on-quorum")
    assert "priority-on-quorum" not in found(with_app(**own, queues=CLASSIC))


def test_tasks_that_nobody_confirms() -> None:
    own = {"own_settings": {"broker_transport_options": {"confirm_publish": False}}}
    variable = "celery_app_settings.broker_transport_options.confirm_publish"
    assert about(only(with_app(**own), "fragile-messages")) == (variable, False, "confirm_publish", "shop")
    assert found(with_app(**own, **REDIS_BROKER)) == {}
    # The first app has Redis as its broker, and the next one is looked at all the same.
    stack = with_app(**own)
    both = {"cache": replace(SHOP, name="cache", hosts=(), classes=(), **REDIS_BROKER), "shop": stack.apps["shop"]}
    assert "fragile-messages" in found(replace(stack, apps=both))
    for options in ({"confirm_publish": True}, {"confirm_publish": None}, {}, None, "confirm_publish"):
        assert found(with_app(own_settings={"broker_transport_options": options})) == {}


@pytest.mark.parametrize("mode", [1, "transient"])
def test_tasks_that_no_disk_keeps(mode: Any) -> None:
    name = "task_default_delivery_mode"
    own = {"own_settings": {name: mode}}
    mixed = {"queues": {"default": "quorum", "payments": "classic"}}
    assert about(only(with_app(**own, **mixed), "fragile-messages")) == (
        f"celery_app_settings.{name}", mode, name, "shop",
    )  # fmt: skip
    assert found(with_app(**own)) == found(with_app(**own, **mixed, **REDIS_BROKER)) == {}
    for other in ("persistent", 2):
        assert found(with_app(own_settings={name: other}, **mixed)) == {}


# Queues that are neither durable nor exclusive


@pytest.mark.parametrize(
    ("version", "rule"),
    [
        ((4, 3), "perhaps-shared-system-queues"),
        ((4, 2), ""),
        ((5, 0), "perhaps-shared-system-queues"),
        (None, "perhaps-shared-system-queues"),
    ],
)
@pytest.mark.parametrize("queue", ["control_queue", "event_queue"])
def test_queues_of_celerys_own_that_new_servers_deny(version: tuple[int, int] | None, rule: str, queue: str) -> None:
    def told(settings: Mapping[str, Any], **config: Any) -> list[str]:
        stack = with_server(RABBITMQ, version=version, variables={"rabbitmq_config": config})
        return list(found(replace(stack, apps={"shop": replace(SHOP, settings=settings)})))

    shared = {f"{queue}_exclusive": False}
    assert told(shared) == ([rule] if rule else [])
    assert told({**shared, f"{queue}_durable": True}) == []
    assert told({f"{queue}_exclusive": True}) == []
    assert told(shared, **{PERMIT: True}) == []
    assert told(shared, **{PERMIT: False}) == told(shared, **{PERMIT: "false"}) == ["shared-system-queues"]
    assert told({f"{queue}_exclusive": True}, **{PERMIT: False}) == []


def denying(line: str = "celery>=5.4", settings: Mapping[str, Any] | None = None, **server: Any) -> Deployment:
    """Return a stack whose RabbitMQ denies such queues, unless ``server`` says otherwise."""
    rabbitmq = replace(RABBITMQ, **{"variables": {"rabbitmq_config": {PERMIT: False}}, **server})
    shop = replace(SHOP, requirements=(("celery_app_source.packages", line),), settings=settings or {})
    return apps(shop, servers=(rabbitmq, REDIS))


def test_a_celery_without_exclusive_queues_where_others_are_denied() -> None:
    problem = only(denying("celery==5.5.3"), "shared-system-queues").problem
    assert told([problem]) == [("celery-without-quorum-queues", "celery_app_source.packages")]
    assert (problem.value, "celery>=5.6" in problem.instead) == ("celery==5.5.3", True)
    assert found(denying("celery==5.6.3")) == {}
    assert found(denying("celery==5.5.3", variables={})) == {}


def test_a_setting_that_shares_such_a_queue_is_shown_as_it_is() -> None:
    finding = only(denying(settings={"event_queue_exclusive": False}), "shared-system-queues")
    assert about(finding) == ("celery_app_settings.event_queue_exclusive", False, "shop", "shop")


def test_a_server_that_permits_such_queues_hides_no_other() -> None:
    permitted = {"rabbitmq_config": {PERMIT: "true"}}
    servers: tuple[Server, ...] = (
        replace(RABBITMQ, version=(4, 3), variables=permitted),
        replace(RABBITMQ, version=(4, 3)),
    )
    stack = apps(replace(SHOP, settings={"control_queue_exclusive": False}), servers=servers)
    assert len(found(stack)["perhaps-shared-system-queues"]) == 1
