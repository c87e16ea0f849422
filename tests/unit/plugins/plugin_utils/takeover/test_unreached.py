"""Hosts whose facts could not be gathered: which of them stop a run."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.unreached import unreached, why_lost

GROUPS = {
    "all": ["mq1", "cache1", "app1", "app2"],
    "rabbitmq": ["mq1"],
    "redis": ["cache1"],
    "celery_workers": ["app1", "app2"],
    "celery_beat": ["app1"],
}
APPS = {"app1": "no route to host", "app2": "timed out"}


def told(lost: dict[str, str], *, rotated: bool = False, whole: tuple[str, ...] = ()) -> list[tuple[str, str, Any]]:
    problems = unreached(lost, GROUPS, rotated=rotated, whole=whole)
    return [(problem.id, problem.variable, problem.value) for problem in problems]


@pytest.mark.parametrize(
    ("gathered", "why"),
    [
        ({"unreachable": True, "msg": "Failed to connect\n  to the host"}, "Failed to connect to the host"),
        ({"failed": True, "msg": "sudo: a password is required"}, "sudo: a password is required"),
        ({"unreachable": True}, "Ansible does not say why"),
        ({"changed": False, "msg": "all is well"}, ""),
        ("a text of somebody else", ""),
        (None, ""),
    ],
)
def test_why_a_host_is_lost(gathered: Any, why: str) -> None:
    assert why_lost({"celeryops_gathered": gathered}) == why
    assert why_lost({}) == ""


def test_hosts_that_only_work_are_left_out() -> None:
    assert told({}) == []
    assert told(APPS) == []


@pytest.mark.parametrize(("host", "group"), [("mq1", "rabbitmq"), ("cache1", "redis")])
def test_a_server_stops_the_run(host: str, group: str) -> None:
    assert told({**APPS, host: "timed out"}) == [("server-not-reached", group, host)]
    [problem] = unreached({host: "port 22: refused"}, GROUPS, rotated=False, whole=())
    assert "(port 22: refused)" in str(problem)


def test_a_host_would_keep_passwords_that_are_replaced() -> None:
    assert told(APPS, rotated=True) == [("host-keeps-passwords", "celeryops_rotate_secrets", "app1")]
    [problem] = unreached(APPS, GROUPS, rotated=True, whole=())
    assert "app1, app2" in str(problem)


def test_a_host_may_work_for_an_app_that_leaves() -> None:
    assert told(APPS, whole=("shop",)) == [("host-may-work-on", "celery_app_name", "app1")]
    [problem] = unreached(APPS, GROUPS, rotated=False, whole={"shop", "feeds"})
    assert "feeds, shop" in str(problem)


def test_of_a_server_all_is_said_by_its_own_message() -> None:
    assert told({"mq1": "timed out"}, rotated=True, whole=("shop",)) == [("server-not-reached", "rabbitmq", "mq1")]


def test_a_node_without_which_its_cluster_goes_on_is_left_out() -> None:
    groups = {"rabbitmq": ["mq1", "mq2", "mq3"], "redis": ["mq3"]}

    def ids(spared: tuple[str, ...], *, rotated: bool = False) -> list[tuple[str, str]]:
        lost = {"mq2": "timed out", "mq3": "timed out"}
        them = unreached(lost, groups, rotated=rotated, whole=(), spared={"rabbitmq": spared})
        return [(problem.id, problem.variable) for problem in them]

    assert ids(("mq2",)) == [("server-not-reached", "rabbitmq"), ("server-not-reached", "redis")]
    # What else it serves, it alone serves.
    assert ids(("mq2", "mq3")) == [("server-not-reached", "redis")]
    assert ids(("mq2",), rotated=True)[-1] == ("host-keeps-passwords", "celeryops_rotate_secrets")
