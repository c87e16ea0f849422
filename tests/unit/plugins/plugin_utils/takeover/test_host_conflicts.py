"""What a host has in the way of a role, each at its boundaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.host_conflicts import (
    ROOM,
    meet,
    unusable,
    wanted,
)

APP = {"celery_app_name": "shop", "celery_app_user": "shop", "celery_app_group": "shop", "celery_app_user_manage": True}
SERVICE = {"uid": 998, "shell": "/usr/sbin/nologin", "primary": "shop", "groups": ["shop"]}
PERSON = {"uid": 1500, "shell": "/bin/bash", "primary": "shop", "groups": ["shop"]}
RABBITMQ = {
    "settings": [
        {"key": "listeners.tcp.1", "value": "127.0.0.1:5672"},
        {"key": "management.tcp.ip", "value": "127.0.0.1"},
        {"key": "management.tcp.port", "value": "15672"},
    ],
    "epmd_listen": ["127.0.0.1:4369"],
    "plugins": ["rabbitmq_management", "rabbitmq_prometheus"],
}
REDIS = {"redis_port": 6379, "redis_bind": ["127.0.0.1", "-::1"], "redis_implementation": "redis"}
FLOWER = {"flower_address": "127.0.0.1", "flower_port": 5555, "flower_app": "shop"}
FLOWER_PLAN = {"present": True, "unit": "celery-shop-flower.service"}


def told(
    role: str, values: Mapping[str, Any], plan: Mapping[str, Any] | None = None, **machine: Any
) -> list[tuple[str, str]]:
    return [(found.variable, str(found)) for found in unusable(role, values, plan or {}, machine, "app1")]


def socket(port: int, address: str = "127.0.0.1", **own: Any) -> dict[str, Any]:
    return {
        "address": address,
        "port": port,
        "pid": 7,
        "process": "nginx",
        "unit": "nginx.service",
        "perhaps": [],
        **own,
    }


def place(kind: str = "directory", **own: Any) -> dict[str, Any]:
    sound = {"owner": "root", "uid": 0, "read_only": False, "noexec": False, "free": ROOM, "size": 2 * ROOM}
    return {"kind": kind, **sound, **own}


# Accounts


def test_a_persons_account_is_told_with_its_host_in_the_words_of_the_module() -> None:
    [(variable, text)] = told("celery_app", APP, accounts={"shop": PERSON}, groups={"shop": True})
    assert variable == "celery_app_user"
    assert text == (
        "celery_app_user: on app1, the account shop (uid 1500, shell /bin/bash) looks like a person's; choose another "
        "celery_app_user, or set celery_app_user_manage to false to use it as it is"
    )


@pytest.mark.parametrize(
    ("own", "known", "groups", "says"),
    [
        ({}, SERVICE, {"shop": True}, None),
        ({}, None, {}, None),
        ({"celery_app_user_manage": False}, PERSON, {"shop": True}, None),
        ({"celery_app_user_manage": False}, None, {}, "there is no account shop"),
        ({"celery_app_user_manage": False}, PERSON, {"shop": False}, "there is no group shop"),
        # Not looked at: it may be kept elsewhere.
        ({"celery_app_user_manage": False}, PERSON, {}, None),
        ({}, {**SERVICE, "uid": 0}, {"shop": True}, "has uid 0"),
        ({}, {**SERVICE, "groups": ["shop", "docker"]}, {"shop": True}, "is in the group docker"),
    ],
)
def test_accounts(own: dict[str, Any], known: dict[str, Any] | None, groups: dict[str, bool], says: str | None) -> None:
    found = told("celery_app", {**APP, **own}, accounts={"shop": known}, groups=groups)
    assert len(found) == (says is not None)
    assert says is None or says in found[0][1]


def test_an_account_that_was_not_looked_at_is_no_finding() -> None:
    assert told("celery_app", APP, accounts={"root": {**SERVICE, "uid": 0}}) == []
    assert told("celery_worker", {"celery_worker_app": "shop"}, accounts={"shop": PERSON}) == []


# Ports


@pytest.mark.parametrize(
    ("role", "values", "plan", "taken", "variable"),
    [
        ("rabbitmq", {"rabbitmq_cluster_listen_address": "127.0.0.1"}, RABBITMQ, 5672, "rabbitmq_port"),
        ("rabbitmq", {"rabbitmq_cluster_listen_address": "127.0.0.1"}, RABBITMQ, 15672, "rabbitmq_management_port"),
        (
            "rabbitmq",
            {"rabbitmq_cluster_listen_address": "127.0.0.1"},
            RABBITMQ,
            25672,
            "rabbitmq_cluster_listen_address",
        ),
        (
            "rabbitmq",
            {"rabbitmq_cluster_listen_address": "127.0.0.1"},
            RABBITMQ,
            4369,
            "rabbitmq_cluster_listen_address",
        ),
        ("rabbitmq", {"rabbitmq_cluster_listen_address": "127.0.0.1"}, RABBITMQ, 15692, "rabbitmq_plugins"),
        ("redis", REDIS, {}, 6379, "redis_port"),
        ("flower", FLOWER, FLOWER_PLAN, 5555, "flower_port"),
    ],
)
def test_each_port_of_each_role(
    role: str, values: dict[str, Any], plan: dict[str, Any], taken: int, variable: str
) -> None:
    [(named, text)] = told(role, values, plan, listeners=[socket(taken), socket(taken + 1)])
    assert named == variable
    assert f"on app1, 127.0.0.1:{taken} is taken by nginx (pid 7, nginx.service), which is not what the role" in text
    hidden = {"pid": 0, "process": "", "unit": "", "perhaps": []}
    assert (
        "taken by a process that cannot be seen, which"
        in told(role, values, plan, listeners=[socket(taken, **hidden)])[0][1]
    )
    for listener in wanted(role, values, plan):
        for unit in sorted(listener.units):
            own = [
                socket(listener.port, listener.address, unit=unit),
                socket(listener.port, listener.address, **{**hidden, "perhaps": [unit, "x.service"]}),
            ]
            assert told(role, values, plan, listeners=own) == []


def test_the_port_of_ones_own_flower_by_another_name_becomes_free() -> None:
    machine = {"listeners": [socket(5555, unit="celery-old-flower.service")]}
    assert len(list(unusable("flower", FLOWER, FLOWER_PLAN, machine, "app1"))) == 1
    leaving = ["celery-old-flower.service"]
    assert list(unusable("flower", FLOWER, FLOWER_PLAN, machine, "app1", leaving)) == []
    # A server starts before a duty that a host has lost ends.
    machine = {"listeners": [socket(6379, unit="celery-old-flower.service")]}
    assert len(list(unusable("redis", REDIS, {}, machine, "app1", leaving))) == 1


def test_the_plugin_that_is_not_wanted_needs_no_port() -> None:
    plan = {**RABBITMQ, "plugins": ["rabbitmq_management"]}
    assert told("rabbitmq", {"rabbitmq_cluster_listen_address": "127.0.0.1"}, plan, listeners=[socket(15692)]) == []
    moved = [*RABBITMQ["settings"], {"key": "prometheus.tcp.port", "value": "9000"}]
    plan = {**RABBITMQ, "settings": moved}
    assert len(told("rabbitmq", {}, plan, listeners=[socket(9000), socket(15692)])) == 1


def test_a_flower_that_goes_needs_no_port() -> None:
    assert told("flower", FLOWER, {**FLOWER_PLAN, "present": False}, listeners=[socket(5555)]) == []


@pytest.mark.parametrize(
    ("one", "other", "true"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "10.0.0.5", False),
        ("127.0.0.1", "127.0.0.2", False),
        ("0.0.0.0", "10.0.0.5", True),
        ("10.0.0.5", "0.0.0.0", True),
        ("127.0.0.1", "::", True),
        ("::", "127.0.0.1", True),
        ("127.0.0.1", "::1", False),
        ("0.0.0.0", "::1", False),
        ("::1", "0.0.0.0", False),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("127.0.0.1", "::ffff:10.0.0.5", False),
        ("::ffff:10.0.0.5", "0.0.0.0", True),
        ("localhost", "0.0.0.0", True),
        ("localhost", "10.0.0.5", False),
    ],
)
def test_where_two_sockets_meet(one: str, other: str, true: bool) -> None:
    assert meet(one, other) is true


# Directories


@pytest.mark.parametrize(
    ("role", "values", "path", "entry", "says"),
    [
        ("celery_app", APP, "/opt/celeryops", place("file"), "no directory"),
        ("celery_app", APP, "/opt/celeryops/shop", place("link"), "a link that leads to no directory"),
        ("celery_app", APP, "/etc/celeryops", place("absent", read_only=True), "read only"),
        ("celery_app", APP, "/opt/celeryops", place(noexec=True), "noexec"),
        ("celery_app", APP, "/var/lib/celeryops/shop", place(owner="anna", uid=1501), "the account anna (uid 1501)"),
        ("celery_app", APP, "/opt/celeryops", place("absent", free=ROOM - 1), "only 99 MiB are free"),
        ("celery_app", APP, "/etc/systemd/system", place(read_only=True), "read only"),
        ("rabbitmq", {}, "/var/lib/rabbitmq", place("other"), "no directory"),
        ("redis", REDIS, "/var/lib/redis", place(owner="anna", uid=1501), "the account anna"),
        ("flower", FLOWER, "/opt/celeryops/shop-flower", place("file"), "no directory"),
    ],
)
def test_places(role: str, values: dict[str, Any], path: str, entry: dict[str, Any], says: str) -> None:
    [(variable, text)] = told(role, values, directories={path: entry})
    assert variable == path
    assert says in text


@pytest.mark.parametrize(
    ("path", "entry"),
    [
        ("/var/lib/celeryops", place(noexec=True)),
        ("/opt/celeryops/shop", place("absent")),
        # The system's, the app's own, and what an account that is gone left.
        ("/var/lib/celeryops/shop", place(owner="www-data", uid=33)),
        ("/var/lib/celeryops/shop", place(owner="shop", uid=1500)),
        ("/var/lib/celeryops/shop", place(owner="nobody", uid=65534)),
        ("/var/lib/celeryops/shop", place(owner="", uid=998)),
        # The role gives these to root and to the group that is to read them.
        ("/etc/celeryops/shop", place(owner="", uid=1501)),
        ("/var/lib/celeryops", place(owner="", uid=1501)),
        ("/opt/celeryops", place(free=ROOM)),
        # Sizes that are not told.
        ("/opt/celeryops", place(free=0, size=0)),
    ],
)
def test_sound_places(path: str, entry: dict[str, Any]) -> None:
    assert told("celery_app", APP, directories={path: entry}) == []


def test_a_host_that_has_a_release_goes_on_without_room() -> None:
    full = {"/opt/celeryops": place(free=1), "/opt/celeryops/shop": place(free=1)}
    assert told("celery_app", APP, directories=full) == []


@pytest.mark.parametrize("path", ["/var/lib/celeryops/shop", "/var/log/celeryops/shop"])
@pytest.mark.parametrize(
    ("account", "uid", "to"),
    [(False, 1501, "root:root"), (True, 1501, "shop:shop"), (True, 998, "shop:shop"), (False, 998, "")],
)
def test_what_is_nobodys_is_not_taken_for_the_apps(path: str, account: bool, uid: int, to: str) -> None:
    known = {"shop": {"uid": 997, "shell": "/usr/sbin/nologin", "groups": ["shop"]} if account else None}
    found = told("celery_app", APP, directories={path: place(owner="", uid=uid)}, accounts=known)
    if not to:
        # What the app's account left when it was deleted is its again, once it is made.
        assert found == []
        return
    [(variable, text)] = found
    assert variable == path
    assert f"uid {uid}, which has no name here" in text
    assert f"chown -R {to} {path}" in text
