"""The check again, when hosts have been looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.check import Checked
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.made_up import made_up, note
from ansible_collections.celeryops.stack.plugins.plugin_utils.model.build import Planned
from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import App, Deployment, RunningClass
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.leaving import inventory_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.second_look import (
    Look,
    same_machine,
    second_look,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.machines import Given
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.survey import Survey

GROUPS = {"all": ["one", "two"], "redis": ["one"], "celery_workers": ["one"], "celery_beat": ["one"]}
NAMES = {"one": "shop", "two": "old"}
FOUND: Survey = {
    "apps": {},
    "app_of": {"one": "shop"},
    "machines": {"one": "one"},
    "servers": {"rabbitmq": [], "redis": []},
    "consumer_timeout": 7200,
}
SHOP = App(
    "shop",
    hosts=("one",),
    classes=(RunningClass("shop", "one", "high", ("default",)),),
    variables={"celery_app_import": "shop.celery:app"},
)


def given(host: str, name: str, default: Any) -> Any:
    return {"celery_app_name": NAMES[host]}.get(name, default)


def host(beat: bool = False, queues: tuple[str, ...] = (), secrets: tuple[str, ...] = ()) -> dict[str, Any]:
    units = {
        "celery-shop-high.service": "celery_worker",
        **({"celery-shop-beat.service": "celery_beat"} if beat else {}),
    }
    app = {
        "units": units,
        "brokers": [{"scheme": "redis", "kind": "redis", "user": "shop", "host": "one", "port": 6379, "path": "0"}],
    }
    rest = {"secrets": list(secrets), "queues": list(queues), "retired": []}
    return {"id": "", "ours": {"apps": {"shop": {**app, **rest}}, "secrets": [], "accounts": {}}}


def look(
    seen: Mapping[str, Any],
    planned: Mapping[str, Any] | None = None,
    given: Given = given,
    found: Survey | None = None,
    **own: Any,
) -> Look:
    beat = {("celery_beat", "one"): Planned(planned or {}, {}, frozenset(), frozenset())}
    deployment = Deployment(groups=GROUPS, apps={"shop": SHOP})
    usual = {"playing": frozenset(seen), "tags": frozenset({"all"}), "rotate": False}
    return Look(Checked(found or FOUND, beat, dict(seen), given), deployment, **{**usual, **own})


def test_the_inventory_knows_every_name_and_account() -> None:
    planned = {
        ("rabbitmq", "one"): Planned({}, {"definitions": {"users": [{"name": "a"}]}}, frozenset(), frozenset()),
        ("redis", "one"): Planned({}, {"users": [{"name": "b"}]}, frozenset(), frozenset()),
        ("celery_app", "one"): Planned({}, {}, frozenset(), frozenset()),
    }
    found = inventory_of(FOUND, GROUPS, given, planned)
    assert found.names == {"shop", "old"}
    assert found.accounts == {"rabbitmq": {"a"}, "redis": {"b"}}
    assert found.machines == {"one": "one", "two": "two"}


def test_a_host_as_it_should_be_has_nothing_to_give_up() -> None:
    problems, facts = second_look(look({"one": host(beat=True, queues=("default",)), "two": {}}))
    assert problems == []
    same = {"one": ["two"], "two": ["one"]}
    assert facts == {
        "celeryops_leaving": {},
        "celeryops_backlogs": [],
        "celeryops_same_machine": same,
        "celeryops_spared": [],
    }


def test_what_leaves_and_what_is_asked() -> None:
    seen = {"one": host(beat=True, queues=("default", "feeds")), "two": host()}
    problems, facts = second_look(look(seen, drain="2m"))
    assert problems == []
    assert [entry["role"] for entry in facts["celeryops_leaving"]["two"]] == ["celery_worker"]
    [question] = facts["celeryops_backlogs"]
    assert (question["queues"], question["wait"]) == (["feeds"], 120)


def test_a_time_that_is_none() -> None:
    [problem], _facts = second_look(look({"one": host(beat=True), "two": {}}, drain="soon"))
    assert str(problem).startswith("celeryops_drain: 'soon' is not a duration")


@pytest.mark.parametrize(
    ("scheduler", "common", "refused"),
    [(None, None, True), ("redbeat.RedBeatScheduler", None, False), (None, "redbeat:RedBeatScheduler", False)],
)
def test_two_schedulers(scheduler: str | None, common: str | None, refused: bool) -> None:
    def settings(host: str, name: str, default: Any) -> Any:
        return {"beat_scheduler": common} if name == "celery_app_settings" and common else given(host, name, default)

    planned = {"celery_beat_scheduler": scheduler}
    seen = {"one": host(), "two": host(beat=True)}
    own = look(seen, planned=planned, given=settings, playing=frozenset({"one"}))
    assert bool(second_look(own)[0]) is refused


@pytest.mark.parametrize(("secrets", "rotate"), [((), False), (("redis",), True), (("redis",), False)])
def test_passwords_that_were_made_up(tmp_path: Path, secrets: tuple[str, ...], rotate: bool) -> None:
    (tmp_path / "shop_redis_password").write_text("made up")
    note(tmp_path, ["shop_redis_password"])
    found: Survey = {**FOUND, "made_up": {str(tmp_path): ["shop_redis_password"]}}
    seen = {"one": host(beat=True, secrets=secrets), "two": {}}
    problems, _facts = second_look(look(seen, found=found, rotate=rotate))
    refused = bool(secrets) and not rotate
    assert [problem.variable for problem in problems] == ["celeryops_secrets_dir"] * refused
    # Where the hosts may have others it stays a question, and stays: it may be the only copy of one that was placed.
    assert list(made_up(tmp_path)) == ["shop_redis_password"] * refused
    assert (tmp_path / "shop_redis_password").read_text() == "made up"


def test_passwords_are_a_question_still_while_something_else_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "shop_redis_password").write_text("made up")
    note(tmp_path, ["shop_redis_password"])
    found: Survey = {**FOUND, "made_up": {str(tmp_path): ["shop_redis_password"]}}
    seen = {"one": host(), "two": host(beat=True)}
    problems, _facts = second_look(look(seen, found=found, playing=frozenset({"one"})))
    assert [problem.variable for problem in problems] == ["celery_beat"]
    assert list(made_up(tmp_path)) == ["shop_redis_password"]


def test_a_configuration_that_cannot_be_read_is_told() -> None:
    broken = host(beat=True)
    broken["ours"]["apps"]["shop"]["queues"] = None
    [problem], facts = second_look(look({"one": broken, "two": {}}))
    assert "which queues shop had is not known" in str(problem)
    assert facts["celeryops_backlogs"] == []


def test_a_scheduler_of_another_hand_keeps_the_first_one_from_starting() -> None:
    for app, number in (("shop", 1), ("crm", 0)):
        mine = {**host(), "schedulers": [{"pid": 8, "unit": "", "app": app}]}
        for only in (False, True):
            problems, _facts = second_look(look({"one": mine, "two": {}}, only=only))
            assert len(problems) == (0 if only else number), problems


def test_the_names_of_a_machine_are_known_by_its_id() -> None:
    """Of a machine without one it is not known which it is: it may be any other such."""
    ids = {"app1": "a", "beat1": "a", "app2": "b", "old1": "", "old2": "", "flower1": "a"}
    assert same_machine({host: {"id": number} for host, number in ids.items()}) == {
        "app1": ["beat1", "flower1"],
        "beat1": ["app1", "flower1"],
        "flower1": ["app1", "beat1"],
        "old1": ["old2"],
        "old2": ["old1"],
    }


def test_a_host_that_was_not_reached_stops_the_run_only_where_others_depend_on_it() -> None:
    own = look({"one": host(beat=True), "two": {}}, playing=frozenset({"one", "two"}))
    own.checked.lost["two"] = "timed out"
    assert second_look(own)[0] == []
    own.checked.lost["one"] = "timed out"
    assert [problem.id for problem in second_look(own)[0]] == ["server-not-reached"]
    limited = dataclasses.replace(own, playing=frozenset({"two"}))
    assert second_look(limited)[0] == []


def test_a_node_of_a_cluster_is_named_to_the_plays_and_left_out() -> None:
    names = ["one", "two", "three"]
    plan = {"cluster": [f"rabbit@{name}" for name in names], "blank": False, "definitions": {"users": []}}
    plans = {
        ("rabbitmq", name): Planned({}, {**plan, "node": {"name": f"rabbit@{name}"}}, frozenset(), frozenset())
        for name in names
    }

    def of_shop(_host: str, name: str, default: Any) -> Any:
        return given("one", name, default)

    own = look({"one": host(beat=True), "two": {}}, given=of_shop, playing=frozenset(names))
    own.checked.planned.update(plans)
    deployment = dataclasses.replace(own.deployment, groups={**GROUPS, "rabbitmq": names})
    own = dataclasses.replace(own, deployment=deployment)
    own.checked.lost["three"] = "timed out"
    problems, facts = second_look(own)
    assert problems == []
    assert facts["celeryops_spared"] == ["three"]
    own.checked.lost["two"] = "timed out"
    problems, facts = second_look(own)
    assert [problem.id for problem in problems] == ["server-not-reached"] * 2
    assert facts["celeryops_spared"] == []


def test_passwords_that_were_made_up_stay_a_question_when_a_host_would_keep_others(tmp_path: Path) -> None:
    (tmp_path / "shop_redis_password").write_text("made up")
    note(tmp_path, ["shop_redis_password"])
    found: Survey = {**FOUND, "made_up": {str(tmp_path): ["shop_redis_password"]}}
    own = look({"one": host(beat=True, secrets=("redis",))}, found=found, rotate=True, playing=frozenset(GROUPS["all"]))
    own.checked.lost["two"] = "timed out"
    assert [problem.id for problem in second_look(own)[0]] == ["host-keeps-passwords"]
    assert list(made_up(tmp_path)) == ["shop_redis_password"]


def test_rabbitmq_is_looked_at_as_its_hosts_are() -> None:
    """Each of them would start its server, and some find out afterwards that there are two brokers."""
    nodes = [f"rabbit@{name}" for name in ("a", "b", "c")]

    def found(name: str, version: str, *peers: str) -> dict[str, Any]:
        data = {"nodes": [name], "version": version, "written": {name: version}}
        return {**data, "peers": {name: list(peers)} if peers else {}}

    def told(series: Mapping[str, str], held: Mapping[str, Mapping[str, Any]], blank: str = "") -> set[str]:
        one = look({}, given=lambda _host, _name, default: default)
        for name in nodes:
            plan = {
                "node": {"name": name},
                "cluster": nodes,
                "blank": name == blank,
                "series": series.get(name, "4.0"),
            }
            one.checked.planned["rabbitmq", name] = Planned({}, plan, frozenset(), frozenset())
        problems, _facts = second_look(dataclasses.replace(one, server=lambda host: held.get(host, {})))
        return {problem.id for problem in problems}

    a, b, c = nodes
    whole = {name: found(name, "4.0", *(other for other in nodes if other != name)) for name in nodes}
    assert told({}, whole) == set()
    assert told({c: "4.3"}, whole) == {"different-versions", "unsupported-upgrade"}
    assert told({}, {name: found(name, "4.0") for name in (a, b)}) == {"separate-brokers"}
    assert told({}, {a: whole[a], b: whole[b]}, blank=c) == {"forget-the-node-first"}
