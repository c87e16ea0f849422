"""Routes, queues and worker classes that do not fit together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from deployments import (
    DEFAULT,
    GIB,
    HIGH,
    HOUR,
    SHOP,
    STACK,
    about,
    beats,
    found,
    only,
    two_apps,
    with_app,
)
from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import App, Deployment, Machine, Route
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import Finding

CLASSES = (
    "celery_worker_classes",
    "celery_worker_group_classes",
    "celery_worker_host_classes",
    "celery_worker_defaults",
)


# Queues without a class, classes without a queue or a host


@pytest.mark.parametrize(
    ("changes", "variable"),
    [
        ({"routes": (Route("a.*", "paymnets"),)}, "celery_app_routes"),
        ({"default_queue": "paymnets"}, "celery_app_default_queue"),
        (
            {"own_settings": {"beat_schedule": {"nightly": {"task": "a.b", "options": {"queue": "paymnets"}}}}},
            "celery_app_settings.beat_schedule.nightly.options.queue",
        ),
    ],
)
def test_a_queue_that_nobody_consumes(changes: dict[str, Any], variable: str) -> None:
    duties = beats("").duties
    finding = only(replace(with_app(**changes), duties=duties), "queue-without-class")
    assert about(finding) == (variable, "paymnets", "paymnets", "shop")
    assert finding.problem.instead.startswith("payments (did you mean that?)")
    assert found(replace(with_app(**changes, declared=("paymnets",)), duties=duties)) == {}
    assert found(replace(with_app(**changes, hosts=("app2",), classes=()), duties=duties)) == {}


def test_a_queue_that_no_other_is_like_is_told_with_those_that_are_consumed() -> None:
    finding = only(with_app(routes=(Route("a.*", "xyz"),)), "queue-without-class")
    assert "default, payments" in finding.problem.instead


@pytest.mark.parametrize("queue", ["payments", 5])
def test_a_periodic_task_for_a_queue_that_is_consumed_or_none(queue: object) -> None:
    entry = {"task": "a.b", "schedule": 60, "options": {"queue": queue}}
    assert found(replace(beats(""), apps=with_app(own_settings={"beat_schedule": {"nightly": entry}}).apps)) == {}


def test_without_workers_or_with_unusable_classes_nothing_is_said_of_queues() -> None:
    void = (Route("a.*", "xyz"),)
    sender = App("sender", routes=void, variants=(("web1", {}),))
    both = replace(STACK, apps={"sender": sender, "shop": replace(SHOP, routes=void)})
    assert [finding.app for finding in found(both)["queue-without-class"]] == ["shop"]
    for name in CLASSES:
        assert found(replace(with_app(routes=void), unusable=frozenset({name}))) == {}
    assert found(replace(with_app(routes=void), unusable=frozenset({"redis_port"}))) != {}


def test_workers_without_a_class() -> None:
    finding = only(with_app(classes=(), hosts=("app2", "app1")), "no-worker-class")
    assert about(finding) == ("celery_workers", ["app1"], "shop", "shop")
    for name in CLASSES:
        assert found(replace(with_app(classes=()), unusable=frozenset({name}))) == {}
    assert "no-worker-class" in found(replace(with_app(classes=()), unusable=frozenset({"redis_port"})))
    assert found(replace(with_app(classes=()), groups={"celery_workers": ["other"]})) == {}
    assert found(replace(with_app(classes=()), groups={"celery_producers": ["app1"]})) == {}


@pytest.mark.parametrize(
    ("hosts", "named"),
    [("a", "a is"), ("abc", "a, b, c are"), ("abcd", "a, b, c, ... are")],
)
def test_a_class_that_runs_nowhere(hosts: str, named: str) -> None:
    stack = replace(STACK, unplaced={"gpu": tuple(hosts)})
    finding = only(stack, "class-without-host")
    assert finding.problem.variable == "celery_worker_classes.gpu"
    assert f" {named} " in finding.problem.reason
    assert "celery_worker_group_classes" not in finding.problem.instead
    # Where another variable takes its place, that is told.
    finding = only(replace(stack, replaced=frozenset({"gpu"})), "class-without-host")
    assert finding.problem.instead.startswith("celery_worker_group_classes")


def test_a_class_without_a_host_is_told_unless_its_group_is() -> None:
    gpu = {"unplaced": {"gpu": ("web1",)}}
    only(Deployment(groups={"all": ["web1"], "web": ["web1"]}, **gpu), "no-duty")
    slip = replace(STACK, groups={**STACK.groups, "celery_worker": ["web1"]}, **gpu)
    assert list(found(slip)) == ["unknown-group"]
    other = replace(STACK, groups={**STACK.groups, "flowers": ["web1"]}, **gpu)
    assert sorted(found(other)) == ["class-without-host", "unknown-group"]


# Queues of two classes


def test_a_queue_of_two_classes() -> None:
    origins = {"queues": "celery_worker_host_classes.default.queues"}
    other = replace(DEFAULT, queues=("default", "payments"), origins=origins)
    finding = only(with_app(classes=(HIGH, other)), "shared-queue")
    assert about(finding) == (origins["queues"], "payments", "payments", "shop")
    assert "class high" in finding.problem.reason
    everywhere = (HIGH, replace(HIGH, host="app2"), DEFAULT)
    assert found(with_app(classes=everywhere)) == {}


def test_a_class_that_names_no_queues_is_told_where_it_stands() -> None:
    typo = replace(DEFAULT, name="hgih", written={"nice": 1}, origins={"nice": "celery_worker_host_classes.hgih.nice"})
    problem = only(with_app(classes=(HIGH, DEFAULT, typo)), "shared-queue").problem
    assert (*told([problem]), problem.value) == (
        ("class-without-queues", "celery_worker_host_classes.hgih"),
        "hgih",
    )
    assert problem.instead.startswith("high (did you mean that?)")
    problem = only(with_app(classes=(HIGH, DEFAULT, replace(DEFAULT, name="mails"))), "shared-queue").problem
    assert problem.variable == "celery_worker_classes.mails"
    assert "did you mean" not in problem.instead


def test_every_class_that_consumes_a_queue_of_another_is_told() -> None:
    others = [replace(DEFAULT, name=name) for name in ("mails", "feeds")]
    own = replace(DEFAULT, name="reports", origins={"queues": "celery_worker_classes.reports.queues"})
    findings = found(with_app(classes=(HIGH, DEFAULT, *others, own)))["shared-queue"]
    assert [finding.problem.value for finding in findings] == ["mails", "feeds", "default"]


def test_a_class_whose_queues_could_not_be_read_silences_what_follows() -> None:
    unread = replace(HIGH, queues=("default",), queues_known=False)
    assert found(with_app(classes=(unread, DEFAULT))) == {}
    assert list(found(with_app(classes=(replace(unread, queues_known=True), DEFAULT)))) == [
        "queue-without-class",
        "shared-queue",
    ]


def test_what_its_role_tells_of_a_queue_is_not_told_again() -> None:
    named = {"variables": {**SHOP.variables, "celery_app_dead_letter_queue": "dead"}}
    assert found(with_app(routes=(Route("a.*", "dead"),), **named)) == {}
    assert found(with_app(default_queue="dead", **named)) == {}
    assert found(with_app(routes=(Route("a.*", "no name"),))) == {}
    assert found(with_app(routes=(Route("a.*", "dead"),))) != {}


# Nodes of one name


def twice(machines: Mapping[str, Machine], **changes: Any) -> Deployment:
    """Return a stack with the class high on app1 and on app2."""
    high = replace(HIGH, **changes)
    stack = with_app(classes=(high, DEFAULT, replace(high, host="app2")))
    return replace(stack, machines={**STACK.machines, **machines})


def test_one_machine_under_two_names_runs_a_class_twice() -> None:
    stack = twice({"app2": Machine("app2", "app1")})
    finding = only(stack, "same-node-name")
    assert told([finding.problem]) == [("one-machine-two-names", "celery_workers")]
    assert finding.problem.value == "app2"
    assert "high@app1" in finding.problem.reason
    blog = App("blog", classes=(replace(HIGH, app="blog", host="app2", queues=("default",)),), variants=(("app2", {}),))
    assert found(replace(stack, apps={"shop": SHOP, "blog": blog})) == {}


def test_two_machines_with_one_hostname() -> None:
    def named(address: str, hostname: str) -> Deployment:
        return twice({
            "app1": Machine("app1", "10.0.0.1", hostname="web"),
            "app2": Machine("app2", address, hostname=hostname),
        })  # fmt: skip

    finding = only(named("10.0.0.2", "web"), "same-node-name")
    assert told([finding.problem]) == [("same-hostname", "celery_workers")]
    assert "high@web" in finding.problem.reason
    finding = only(named("10.0.0.1", "web"), "same-node-name")
    assert told([finding.problem]) == [("one-machine-two-names", "celery_workers")]
    assert found(named("10.0.0.2", "web2")) == {}


def test_machines_behind_one_address_differ_by_their_port() -> None:
    def behind(one: str, other: str, **known: Any) -> dict[str, list[Finding]]:
        ports = {"app1": one, "app2": other}
        machines = {name: Machine(name, "127.0.0.1", port=port, **known) for name, port in ports.items()}
        return found(twice(machines, memory_max=GIB))

    assert behind("2222", "2200", memory=GIB) == {}
    assert list(behind("2222", "2222")) == list(behind("22", "")) == ["same-node-name"]
    assert list(behind("", "", memory=GIB)) == ["same-node-name", "memory"]
    (finding,) = behind("2222", "2200", hostname="vagrant")["same-node-name"]
    assert finding.problem.id == "same-hostname"


def test_every_worker_of_a_class_is_a_node() -> None:
    twin = replace(HIGH, host="app9", name="high-2")
    machines = {**STACK.machines, "app9": Machine("app9", "app1")}
    stack = replace(with_app(classes=(replace(HIGH, workers=2), twin)), machines=machines)
    (finding,) = found(stack)["same-node-name"]
    assert "high-2@app1" in finding.problem.reason


# Two apps on one broker

BLOG: dict[str, Any] = {
    "hosts": ("app2",),
    "broker_addresses": ("mq1:5672/shop",),
    "default_queue": "posts",
    "queues": {"posts": "quorum"},
    "longest_task": 1800,
    "variables": {"celery_app_key_prefix": "blog:"},
    "variants": (("app2", {}),),
}


def shared_vhost(**changes: Any) -> Deployment:
    """Two apps in one virtual host; the second has a class of its own on app2, unless ``changes`` say otherwise."""
    own = replace(HIGH, app="blog", name="posts", host="app2", queues=("posts",))
    return replace(two_apps(), apps={"shop": SHOP, "blog": App("blog", **{**BLOG, "classes": (own,), **changes})})


def test_two_apps_in_one_virtual_host_may_live_side_by_side() -> None:
    assert found(shared_vhost()) == {}


def test_a_class_of_two_apps_on_one_machine_and_broker() -> None:
    same = replace(HIGH, app="blog", host="app1", queues=("posts",))
    finding = only(shared_vhost(classes=(same,)), "node-of-two-apps")
    assert (finding.problem.variable, finding.app) == ("celery_worker_classes.high", "blog")
    assert "high@app1" in finding.problem.reason
    assert found(shared_vhost(classes=(replace(same, host="app2"),))) == {}
    assert found(shared_vhost(classes=(same,), broker_addresses=("mq1:5672/blog",))) == {}
    redis = {"broker": "redis", "broker_addresses": ("mq1:6379/0",), "visibility_timeout": 3 * HOUR}
    shop = replace(SHOP, **redis)
    apart = replace(shared_vhost(), apps={"shop": shop, "blog": App("blog", **{**BLOG, **redis, "classes": (same,)})})
    assert found(apart) == {}
    meeting = replace(apart.apps["blog"], variables=shop.variables)
    assert list(found(replace(apart, apps={"shop": shop, "blog": meeting}))) == ["node-of-two-apps"]


def test_a_queue_that_two_apps_consume() -> None:
    own = replace(HIGH, app="blog", name="posts", host="app2", queues=("posts", "payments"))
    finding = only(shared_vhost(classes=(own,)), "queue-of-two-apps")
    assert about(finding) == ("celery_worker_classes.posts.queues", "payments", "payments", "blog")
    assert found(shared_vhost(classes=(own,), broker_addresses=("mq2:5672/shop",))) == {}


@pytest.mark.parametrize(("queue", "fits"), [("eu.payments", False), ("eu-payments", True), ("payments.eu", True)])
def test_a_queue_that_ends_in_the_name_of_another_apps(queue: str, fits: bool) -> None:
    findings = found(shared_vhost(queues={"posts": "quorum", queue: "quorum"})).get("suffix-of-another-app", [])
    assert [(finding.problem.value, finding.app) for finding in findings] == ([] if fits else [(queue, "blog")])
    both = shared_vhost(queues={queue: "quorum", "payments": "quorum", "posts": "quorum"})
    assert "suffix-of-another-app" not in found(both)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        (
            {"classes": (replace(HIGH, app="blog", name="posts", queues=("eu.payments",)),)},
            "celery_worker_classes.posts.queues",
        ),
        ({"routes": (Route("blog.a", "posts"), Route("blog.b", "eu.payments"))}, "celery_app_routes (blog.b)"),
        ({"declared": ("eu.payments",), "routes": (Route("blog.b", "eu.payments"),)}, "celery_app_queues"),
        ({"default_queue": "eu.payments"}, "celery_app_default_queue"),
        ({"variables": {"celery_app_dead_letter_queue": "eu.payments"}}, "celery_app_dead_letter_queue"),
        ({}, "celery_app_queues"),
    ],
)
def test_a_queue_that_gets_copies_is_told_where_it_is_written(changes: dict[str, Any], place: str) -> None:
    stack = shared_vhost(**{"queues": {"posts": "quorum", "eu.payments": "quorum"}, "classes": (), **changes})
    (finding,) = found(stack)["suffix-of-another-app"]
    assert finding.problem.variable == place


def test_a_suffix_is_found_in_either_app() -> None:
    shop = replace(SHOP, queues={**SHOP.queues, "old.posts": "quorum"})
    stack = shared_vhost()
    finding = only(replace(stack, apps={**stack.apps, "shop": shop}), "suffix-of-another-app")
    assert (finding.problem.value, finding.app) == ("old.posts", "shop")
