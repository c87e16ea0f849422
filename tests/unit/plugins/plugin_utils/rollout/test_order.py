"""In which order workers are replaced: no queue is ever without a consumer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import RunningClass
from ansible_collections.celeryops.stack.plugins.plugin_utils.rollout.order import (
    Batch,
    Member,
    batches,
    majority,
    number_at_once,
    read,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.rollout.order import places as places_of


def places(table: str) -> list[Member]:
    """Read lines such as ``a high payments,mails``."""
    found = []
    for line in table.strip().splitlines():
        host, name, queues = line.split()
        found.append(Member("shop", host, name, tuple(queues.split(","))))
    return found


ONE_HOST = places("a high payments,mails\na default default\na bulk feeds")
FLEET = places("\n".join(f"h{number} high payments\nh{number} bulk feeds" for number in range(8)))


@pytest.mark.parametrize(
    ("said", "hosts", "number"),
    [
        ("25%", 8, 2),
        ("25%", 3, 1),
        (2, 8, 2),
        ("3", 2, 3),
        ("100%", 5, 5),
        ("1%", 5, 1),
        ("25%", 10, 2),
        ("99%", 100, 99),
        (200, 300, 200),
    ],
)
def test_how_many_at_once(said: object, hosts: int, number: int) -> None:
    assert number_at_once(said, hosts) == number


@pytest.mark.parametrize("said", ["0", "half", "0%", "101%", "-1", True, None, 2.5])
def test_what_is_no_number_of_hosts(said: object) -> None:
    with pytest.raises(ValueError, match="neither a number of hosts"):
        number_at_once(said, 4)


def test_on_one_host_everybody_needs_somebody_in_their_place() -> None:
    assert batches(ONE_HOST, ["a"]) == [Batch(("a",), {"a": ("high", "default", "bulk")})]


def test_in_a_fleet_the_others_do_the_work() -> None:
    found = batches(FLEET, [f"h{number}" for number in range(8)])
    assert [batch.hosts for batch in found] == [("h0", "h1"), ("h2", "h3"), ("h4", "h5"), ("h6", "h7")]
    assert not any(batch.stand_ins for batch in found)


def test_a_batch_never_holds_all_consumers_of_a_queue() -> None:
    table = places("a high payments\nb high payments\nc bulk feeds\nd bulk feeds")
    assert [batch.hosts for batch in batches(table, list("abcd"), at_once="50%")] == [("a", "c"), ("b", "d")]
    assert [batch.hosts for batch in batches(table, list("abcd"), at_once="100%")] == [("a", "c"), ("b", "d")]


def test_a_queue_of_one_host_among_many_needs_a_stand_in_there() -> None:
    table = [*FLEET, *places("h3 reports reports")]
    found = batches(table, [f"h{number}" for number in range(8)])
    assert [batch.stand_ins for batch in found] == [{}, {"h3": ("reports",)}, {}, {}]


def test_two_classes_of_a_host_stand_in_for_each_other() -> None:
    assert batches(places("a one work\na two work"), ["a"]) == [Batch(("a",), {})]


def test_what_is_not_restarted_goes_on_working() -> None:
    table = places("a one work\nb one work\nb two work")
    # Outside of --limit.
    assert batches(table, ["a"]) == [Batch(("a",), {})]
    # Another class.
    assert batches(table, ["a", "b"], ["one"], "100%") == [Batch(("a", "b"), {})]
    assert batches(table, ["a"], ["two"]) == []


def test_queues_of_two_apps_are_two_queues() -> None:
    table = [Member("shop", "a", "one", ("work",)), Member("blog", "b", "one", ("work",))]
    assert [batch.stand_ins for batch in batches(table, ["a", "b"])] == [{"a": ("one",)}, {"b": ("one",)}]


HOSTS, NAMES, QUEUES = "abcde", ("one", "two"), ("q", "r", "s")
FLEETS = st.lists(
    st.builds(
        Member,
        st.just("shop"),
        st.sampled_from(HOSTS),
        st.sampled_from(NAMES),
        st.lists(st.sampled_from(QUEUES), min_size=1, unique=True).map(tuple),
    ),
    unique_by=lambda place: (place.host, place.name),
)


CLUSTER = [Member("rabbitmq", host, f"rabbit@{host}", ("the cluster",)) for host in ("mq1", "mq2", "mq3", "mq4", "mq5")]


@pytest.mark.parametrize(
    ("nodes", "at_once", "order"),
    [(1, 1, [1]), (3, 1, [1, 1, 1]), (3, "100%", [1, 1, 1]), (5, 1, [1] * 5), (5, "100%", [2, 2, 1])],
)
def test_a_cluster_keeps_its_majority(nodes: int, at_once: object, order: list[int]) -> None:
    members = CLUSTER[:nodes]
    found = batches(members, [member.host for member in members], at_once=at_once, keeps=majority)
    assert [len(batch.hosts) for batch in found] == order


@settings(max_examples=300, deadline=None)
@given(FLEETS, st.sampled_from(["25%", "50%", "100%", 1, 3]), st.sets(st.sampled_from(NAMES)))
def test_whatever_the_fleet_no_queue_is_ever_without_a_consumer(
    fleet: list[Member], at_once: object, names: set[str]
) -> None:
    hosts = sorted({place.host for place in fleet})
    found = batches(fleet, hosts, names, at_once)
    replaced = [host for batch in found for host in batch.hosts]
    wanted = {place.host for place in fleet if not names or place.name in names}
    assert sorted(replaced) == sorted(wanted)
    for batch in found:
        for away in _moments(fleet, batch, names):
            helped = {(host, name) for host, them in batch.stand_ins.items() for name in them}
            working = [place for place in fleet if place not in away or (place.host, place.name) in helped]
            for queue in {queue for place in fleet for queue in place.serves}:
                assert any(queue in place.serves for place in working), (queue, batch)


def _moments(fleet: Sequence[Member], batch: Batch, names: set[str]) -> list[list[Member]]:
    """Return every set of workers that can be away at the same time: at most one for each host of the batch."""
    moments: list[list[Member]] = [[]]
    for host in batch.hosts:
        own = [place for place in fleet if place.host == host and (not names or place.name in names)]
        moments = [[*moment, place] for moment in moments for place in own] + moments
    return moments


def test_all_mistakes_come_at_once_and_name_their_variables() -> None:
    values = {"classes": ["hgih"], "mode": "fast", "at_once": "some", "drain_timeout": "soon"}
    _found, problems = read("celeryops_restart", values, ONE_HOST, ["a"])
    assert [problem.variable for problem in problems] == [
        "celeryops_restart_classes",
        "celeryops_restart_mode",
        "celeryops_restart_drain_timeout",
        "celeryops_restart_at_once",
    ]
    assert "bulk, default, high" in str(problems[0])


def test_without_a_word_the_defaults_hold() -> None:
    found, problems = read("celeryops_restart", {}, ONE_HOST, ["a"])
    assert problems == []
    assert found == {
        "batches": [{"hosts": ["a"], "stand_ins": {"a": ["high", "default", "bulk"]}}],
        "workers": ["bulk", "default", "high"],
        "mode": "wait",
        "drain_seconds": 86400,
    }


@pytest.mark.parametrize("classes", ["high,bulk", "[high, bulk]", " high , bulk", ["high", "bulk"]])
def test_classes_may_be_given_on_the_command_line(classes: object) -> None:
    """``-e celeryops_restart_classes=high,bulk`` is text to Ansible."""
    found, problems = read("celeryops_restart", {"classes": classes}, ONE_HOST, ["a"])
    assert (found["workers"], problems) == (["bulk", "high"], [])


@pytest.mark.parametrize("classes", [{"high": {}}, ["high", 1]])
def test_classes_are_a_list_of_names(classes: object) -> None:
    (problem,) = read("celeryops_restart", {"classes": classes}, ONE_HOST, ["a"])[1]
    assert str(problem).endswith("is not a list of classes; write a list such as [high, bulk]")


def test_a_drain_takes_a_second_at_least() -> None:
    found, problems = read("celeryops_restart", {"drain_timeout": 1}, ONE_HOST, ["a"])
    assert (found["drain_seconds"], problems) == (1, [])
    found, (problem,) = read("celeryops_restart", {"drain_timeout": 0}, ONE_HOST, ["a"])
    assert problem.reason == "leaves the tasks no time"
    found, (problem,) = read("celeryops_restart", {"drain_timeout": "soon"}, ONE_HOST, ["a"])
    assert (found["drain_seconds"], problem.reason) == (0, "is not a duration")


#: One host with a class of three workers, beside a class of one.
SEVERAL = [
    *(Member("shop", "a", name, ("repeats",), "repeat") for name in ("repeat", "repeat-2", "repeat-3")),
    Member("shop", "a", "bulk", ("feeds",), "bulk"),
]


def test_workers_of_one_class_work_for_each_other() -> None:
    assert batches(SEVERAL, ["a"]) == [Batch(("a",), {"a": ("bulk",)})]


@pytest.mark.parametrize(
    ("names", "workers"),
    [
        (["repeat"], ["repeat", "repeat-2", "repeat-3"]),
        (["repeat-2"], ["repeat-2"]),
        (["bulk", "repeat-3"], ["bulk", "repeat-3"]),
        ([], ["bulk", "repeat", "repeat-2", "repeat-3"]),
    ],
)
def test_a_class_names_all_of_its_workers(names: list[str], workers: list[str]) -> None:
    found, problems = read("celeryops_restart", {"classes": names}, SEVERAL, ["a"])
    assert problems == []
    assert found["workers"] == workers


def test_a_worker_that_no_class_has_is_refused() -> None:
    _found, problems = read("celeryops_restart", {"classes": ["repeat-4"]}, SEVERAL, ["a"])
    assert [problem.instead for problem in problems] == ["one of bulk, repeat, repeat-2, repeat-3"]


def test_places_of_a_deployment_name_each_worker() -> None:
    classes = [
        RunningClass("shop", "a", "repeat", ("repeats",), workers=2),
        RunningClass("shop", "b", "bulk", ("feeds",)),
    ]
    assert [(place["host"], place["name"], place["class"]) for place in places_of(classes)] == [
        ("a", "repeat", "repeat"),
        ("a", "repeat-2", "repeat"),
        ("b", "bulk", "bulk"),
    ]
