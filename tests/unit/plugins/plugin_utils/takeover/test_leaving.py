"""What hosts carry although the inventory says otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.leaving import (
    ONLY,
    Inventory,
    beats,
    further,
    leaving,
    new_beats,
    others_beats,
    units_of,
    without_app,
)

GROUPS = {
    "all": ["mq1", "app1", "app2", "old1"],
    "rabbitmq": ["mq1"],
    "celery_workers": ["app1", "app2"],
    "celery_beat": ["app2"],
}
SERVER = {"host": "mq1", "listen": ["0.0.0.0"], "reached_as": "10.0.0.1", "port": 5672}
SHOP = Inventory(
    GROUPS,
    app_of={"app1": "shop", "app2": "shop"},
    names={"shop"},
    servers={"rabbitmq": [SERVER], "redis": []},
    accounts={"rabbitmq": {"admin", "shop"}},
)
EVERY = {"celery-shop-high.service": "celery_worker", "celery-shop-beat.service": "celery_beat"}
WORKER = {"celery-shop-high.service": "celery_worker"}
HAD = {"rabbitmq": ["admin", "blog", "shop"]}
BROKER = {"scheme": "amqp", "kind": "rabbitmq", "user": "shop", "host": "10.0.0.1", "port": 5672}


def has(app: str = "shop", units: dict[str, str] | None = None, number: str = "", **broker: Any) -> dict[str, Any]:
    own = {"units": EVERY if units is None else units, "brokers": [{**BROKER, **broker}], "secrets": []}
    return {"id": number, "ours": {"apps": {app: own}, "secrets": [], "accounts": HAD}}


def bare(number: str = "") -> dict[str, Any]:
    return {"id": number, "ours": {"apps": {}, "secrets": [], "accounts": HAD}}


def told(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[tuple[str, str, bool]]]:
    return {host: [(own["app"], own["role"], own["early"]) for own in entries] for host, entries in found.items()}


def test_nothing_leaves_a_host_with_its_duties() -> None:
    assert leaving(SHOP, {"mq1": bare(), "app1": has(units=WORKER), "app2": has()}) == {}


def test_a_scheduler_that_moved_leaves_late() -> None:
    found = leaving(SHOP, {"app1": has(), "app2": has(units=WORKER), "mq1": bare()})
    assert told(found) == {"app1": [("shop", "celery_beat", False)]}
    [entry] = found["app1"]
    assert entry["units"] == ["celery-shop-beat.service"]
    assert entry["markers"] == ["role celery_beat"]


@pytest.mark.parametrize("host", ["mq1", "old1"])
def test_a_host_without_a_duty_of_the_app_gives_up_all(host: str) -> None:
    found = leaving(SHOP, {host: has(), "app1": has(units=WORKER), "app2": has()})
    assert told(found) == {host: [("shop", "celery_beat", False), ("shop", "celery_worker", False)]}
    assert found[host][0]["glob"] == "celery-shop[-.]*"
    # With the last of them goes the target.
    assert [len(entry["markers"]) for entry in found[host]] == [1, 2]
    assert units_of(found, host) == sorted(EVERY)
    assert units_of(found, "app1") == []


def test_one_of_several_schedulers_becomes_the_only_one_when_the_others_are_known() -> None:
    both = replace(SHOP, groups={**GROUPS, "celery_beat": ["app2"]})
    one = has()
    one["ours"]["apps"]["shop"]["redbeat"] = True
    seen = {"mq1": bare(), "old1": bare(), "app2": one}
    (problem,) = beats(both, seen, {"app2", "mq1"}, set())
    assert "whether app1 still has it is not known" in problem.reason
    (problem,) = beats(both, {**seen, "app1": one}, {"app2", "mq1"}, set())
    assert "app1, which --limit leaves out, has it too" in problem.reason
    # This run stops the other one, it stays one of several, or it was the only one.
    assert list(beats(both, {**seen, "app1": one}, {"app1", "app2", "mq1"}, set())) == []
    assert list(beats(both, seen, {"app2", "mq1"}, {"shop"})) == []
    assert list(beats(both, {**seen, "app2": has()}, {"app2", "mq1"}, set())) == []


FLOWER = {"celery-shop-flower.service": "flower"}


@pytest.mark.parametrize(
    ("units", "secrets"),
    [(FLOWER, ["flower"]), (FLOWER, []), ({}, ["flower", "flower_cookie"])],
    ids=["all of it", "its file is gone already", "its unit is gone already"],
)
def test_a_flower_that_moved_takes_its_passwords_and_programs_along(units: dict[str, str], secrets: list[str]) -> None:
    def old(more: dict[str, str] | None = None) -> dict[str, Any]:
        machine = has(units={**units, **(more or {})})
        machine["ours"]["apps"]["shop"]["secrets"] = ["rabbitmq", *secrets]
        return machine

    moved = replace(SHOP, groups={**GROUPS, "flower": ["app2"]})
    new = has(units=EVERY | FLOWER)
    found = leaving(moved, {"app1": old(WORKER), "app2": new})
    assert told(found) == {"app1": [("shop", "flower", False)]}
    [entry] = found["app1"]
    assert entry["files"] == ["/etc/celeryops/shop/flower.env", "/opt/celeryops/shop-flower"]
    assert entry["units"] == list(units)
    # Where it has the duty it keeps them, and where its new host was not looked at, too.
    assert leaving(replace(moved, groups={**GROUPS, "flower": ["app1"]}), {"app1": old(WORKER), "app2": has()}) == {}
    assert leaving(moved, {"app1": old(WORKER)}) == {}
    # The other roles leave files that are data, or that a worker elsewhere on the host has use for.
    [beat, worker, flower] = leaving(moved, {"old1": old(EVERY), "app1": bare(), "app2": new})["old1"]
    assert (beat["files"], worker["files"], len(flower["files"])) == ([], [], 2)


def test_an_app_that_no_host_carries_leaves_before_the_servers_lose_its_account() -> None:
    nobody = replace(SHOP, app_of={}, groups={"all": ["mq1"], "rabbitmq": ["mq1"]})
    assert told(leaving(nobody, {"mq1": has(host="127.0.0.1")})) == {
        "mq1": [("shop", "celery_beat", True), ("shop", "celery_worker", True)]
    }


@pytest.mark.parametrize(
    ("broker", "gone"),
    [
        ({}, True),
        ({"host": "mq1"}, True),
        ({"host": "MQ1"}, True),
        # Another server, another port, another kind, and an account that is declared.
        ({"host": "mq9"}, False),
        ({"port": 5673}, False),
        ({"scheme": "redis", "kind": "redis"}, False),
        ({"user": "shop"}, False),
        # Somebody else made that one.
        ({"user": "another"}, False),
        # On the host itself there is no server of this inventory.
        ({"host": "127.0.0.1"}, False),
    ],
)
def test_an_app_of_another_name_leaves_only_with_its_account(broker: dict[str, Any], gone: bool) -> None:
    units = {"celery-blog-high.service": "celery_worker"}
    other = has("blog", units, **{"user": "blog", **broker})
    seen = {"mq1": bare(), "app1": other, "app2": has()}
    assert told(leaving(SHOP, seen)) == ({"app1": [("blog", "celery_worker", True)]} if gone else {})


def test_of_a_server_that_was_not_looked_at_nothing_is_known() -> None:
    other = has("blog", {"celery-blog-high.service": "celery_worker"}, user="blog")
    assert leaving(SHOP, {"app1": other, "app2": has()}) == {}


def test_on_the_servers_own_machine_it_is_on_loopback() -> None:
    seen = {"mq1": has("blog", {"celery-blog-high.service": "celery_worker"}, user="blog", host="127.0.0.1")}
    assert told(leaving(SHOP, seen)) == {"mq1": [("blog", "celery_worker", True)]}


def test_one_machine_by_two_names_keeps_what_either_has() -> None:
    seen = {"app1": has(units=WORKER), "app2": has(), "old1": has()}
    by_address = replace(SHOP, machines={"old1": "10.0.0.7", "app2": "10.0.0.7", "app1": "10.0.0.8"})
    assert leaving(by_address, seen) == {}
    by_number = {host: {**machine, "id": "17" if host != "app1" else "18"} for host, machine in seen.items()}
    assert leaving(SHOP, by_number) == {}
    # Without a number nothing is the same.
    assert list(leaving(SHOP, seen)) == ["old1"]


def test_copies_of_one_image_are_two_machines_once_they_carry_different_things() -> None:
    seen = {"app1": has(number="17"), "app2": has(units=WORKER, number="17"), "old1": bare("17"), "mq1": bare()}
    assert told(leaving(SHOP, seen)) == {"app1": [("shop", "celery_beat", False)]}
    [text] = said(seen, {"app2"})
    assert "app1, which --limit leaves out, has it too" in text


def test_a_host_that_was_not_looked_at_may_be_the_same_machine() -> None:
    found = leaving(SHOP, {"old1": has(), "app2": has()})
    assert told(found) == {"old1": [("shop", "celery_beat", False)]}
    assert leaving(SHOP, {"old1": has()}) == {}


# Schedulers


def said(
    seen: dict[str, Any], playing: set[str], wanted: Inventory = SHOP, several: set[str] | None = None
) -> list[str]:
    return [str(found) for found in beats(wanted, seen, playing, several or set())]


def test_a_scheduler_moves_when_both_hosts_are_in_the_run() -> None:
    seen = {"app1": has(), "app2": has(units=WORKER), "mq1": bare(), "old1": bare()}
    assert list(new_beats(SHOP, seen, {"app1", "app2"})) == [("app2", "shop")]
    assert said(seen, {"app1", "app2"}) == []


def test_a_scheduler_that_the_run_leaves_out_is_told() -> None:
    seen = {"app1": has(), "app2": has(units=WORKER)}
    [text] = said(seen, {"app2"})
    assert text == (
        "celery_beat: on app2, the scheduler of shop would start, while app1, which --limit leaves out, has it too; "
        "add app1 to --limit: this run moves it then"
    )
    assert said(seen, {"app2"}, several={"shop"}) == []
    rest = {"mq1": bare(), "old1": bare()}
    assert said({**seen, **rest, "app1": has(units=WORKER)}, {"app2"}) == []


def test_a_host_that_cannot_be_asked_is_told() -> None:
    [text] = said({"app2": bare()}, {"app2"})
    assert "whether app1 still has it is not known" in text
    same = replace(SHOP, machines={"app1": "10.0.0.7", "app2": "10.0.0.7"})
    assert said({"app2": bare(), "mq1": bare(), "old1": bare()}, {"app2"}, same) == []


@pytest.mark.parametrize(
    ("seen", "told_of_it"),
    [
        # Its old host left every group, and cannot be reached.
        ({"mq1": bare(), "app1": has(units=WORKER), "app2": has(units=WORKER)}, True),
        ({"mq1": has(units={}), "app1": bare(), "app2": bare()}, True),
        # A broker has its account.
        ({"mq1": {"ours": {"apps": {}, "accounts": HAD}}, "app1": bare(), "app2": bare()}, True),
        # This run moves it, and an app that is new has none.
        ({"mq1": bare(), "app1": has(), "app2": has(units=WORKER)}, False),
        ({name: {"ours": {"accounts": {"rabbitmq": ["admin"]}}} for name in ("mq1", "app1", "app2")}, False),
        ({"mq1": bare(), "app1": bare(), "app2": bare(), "old1": bare()}, False),
    ],
)
def test_a_host_without_a_duty_may_have_it_still(seen: dict[str, Any], told_of_it: bool) -> None:
    playing = {"mq1", "app1", "app2", "old1"}
    texts = said(seen, playing)
    assert [("old1 has it from before" in text, ONLY in text) for text in texts] == [(True, True)] * told_of_it
    assert list(beats(SHOP, seen, playing, set(), only=True)) == []
    assert said(seen, playing, several={"shop"}) == []


def test_where_it_is_already_nobody_else_matters() -> None:
    assert said({"app1": has(), "app2": has()}, {"app2"}) == []
    assert said({"app2": has()}, {"app2"}) == []
    assert said({"app1": has()}, {"app1"}) == []


@pytest.mark.parametrize(
    ("tags", "refused"),
    [
        ({"all"}, False),
        ({"celery_beat"}, True),
        ({"celery_beat_service", "rabbitmq"}, True),
        ({"celery_app", "celery_beat"}, False),
        ({"rabbitmq"}, False),
        ({"celery_beat_configure"}, False),
    ],
)
def test_a_scheduler_does_not_move_to_a_host_without_the_app(tags: set[str], refused: bool) -> None:
    playing = {"app1", "app2"}
    assert bool(list(without_app(SHOP, {"app1": has(), "app2": bare()}, playing, tags))) is refused
    assert list(without_app(SHOP, {"app1": has(), "app2": has(units=WORKER)}, playing, tags)) == []


def test_who_has_to_be_looked_at_beyond_the_run() -> None:
    new = {"app2": bare()}
    assert further(SHOP, new, {"app2"}, secrets=False) == ["mq1", "app1", "old1"]
    assert further(SHOP, {"app2": has()}, {"app2"}, secrets=False) == []
    assert further(SHOP, {"app2": has()}, {"app2"}, secrets=True) == ["mq1", "app1", "old1"]
    assert further(SHOP, {**new, "app1": has()}, {"app2", "app1"}, secrets=True) == ["mq1", "old1"]


@pytest.mark.parametrize(
    ("app", "imported", "told_of_it"),
    [
        ("shop", "shop.celery:app", True),
        ("shop.celery", "shop.celery:app", True),
        ("shop.celery:app", "shop.celery", True),
        # It does not say which app it is for, or the inventory does not.
        ("", "shop.celery:app", True),
        ("crm", "", True),
        ("crm", "shop.celery:app", False),
        ("acme.crm", "acme.shop:app", False),
        ("shops", "shop.celery:app", False),
    ],
)
def test_a_scheduler_of_another_hand_is_told(app: str, imported: str, told_of_it: bool) -> None:
    other = {**bare(), "schedulers": [{"pid": 8, "unit": "celerybeat.service", "app": app}]}
    seen = {"app1": bare(), "app2": bare(), "old1": other}
    found = [str(one) for one in others_beats(SHOP, seen, {"app2"}, {"shop": imported})]
    assert len(found) == told_of_it
    for text in found:
        assert text.startswith("celery_beat: on app2, the scheduler of shop would start, while celery")
        assert "schedules on old1 already (pid 8, celerybeat.service), and every due task would be sent twice" in text
        assert f"{ONLY}: true" in text
    assert list(others_beats(SHOP, seen, {"app2"}, {"shop": imported}, only=True)) == []
    # It starts on no host of this run, or has done so before.
    assert list(others_beats(SHOP, seen, {"app1"}, {"shop": imported})) == []
    assert list(others_beats(SHOP, {**seen, "app2": has()}, {"app2"}, {"shop": imported})) == []
