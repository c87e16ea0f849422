"""Each rule of the check on small deployments, at its boundaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import (
    App,
    Deployment,
    Duty,
    Machine,
    Route,
    RunningClass,
    Server,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import Finding, Rule, judge
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules.catalogue import RULES
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules.policies import acting, policies
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.derived import held_for
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.requirements import (
    everything,
    pinned,
    rules_out,
    too_old,
)

DENIED = "deprecated_features.permit.transient_nonexcl_queues"
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


def test_what_a_rule_looked_at_was_read() -> None:
    problems = judge(with_app(own_settings={"worker_detect_quorum_queues": False}), RULES).problems
    assert [problem.readable for problem in problems] == [True]


def test_a_sound_deployment_breaks_no_rule() -> None:
    assert found(STACK) == {}


def test_an_inventory_without_hosts_is_told() -> None:
    for groups, value in (
        ({}, []),
        ({"all": [], "ungrouped": []}, []),
        ({"all": ["a"], "ungrouped": ["a"]}, ["ungrouped"]),
    ):
        finding = only(Deployment(groups=groups), "no-duty")
        assert finding.problem.value == value


def test_names_of_rules_are_unique_and_speak() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert rule.name == rule.name.lower()
        assert rule.meaning.endswith(".")
        assert not (rule.acceptable and rule.unwise)


def test_what_can_be_meant_is_said_here() -> None:
    assert {rule.name for rule in RULES if rule.acceptable} == {
        "shared-queue",
        "different-visibility-timeouts",
        "eta-in-worker",
        "long-eta",
        "stop-timeout",
        "one-task-per-child",
        "memory",
        "concurrency",
        "weak-password",
        "unknown-argument",
        "newer-setting",
        "merged-indexes",
        "queue-of-two-apps",
        "file-of-two-apps",
        "another-server",
        "unlimited-prefetch",
        "schedule-without-beat",
        "tls-without-server",
        "policy-without-dead-letters",
        "missing-package",
        "no-worker-class",
        "account-of-an-app",
        "unknown-account",
        "redbeat-without-redis",
        "several-beats",
    }
    assert {rule.name for rule in RULES if rule.unwise} == {
        "evicted-results",
        "perhaps-shared-system-queues",
        "perhaps-newer-setting",
        "results-without-backend",
        "unverified-tls",
        "fragile-messages",
        "consumer-timeout-elsewhere",
    }


# What an inventory accepts


def noisy(name: str, **kinds: bool) -> Rule:
    from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem

    def find(_deployment: Deployment) -> list[Finding]:
        return [Finding(Problem("test", f"v_{one}", one, "is odd", "another"), one, "shop") for one in ("a", "b")]

    return Rule(name, find, "Odd.", **kinds)


def test_a_mistake_that_can_be_meant_says_how_and_is_silent_then() -> None:
    rule = noisy("odd", acceptable=True)
    told = [str(problem) for problem in judge(STACK, [rule]).problems]
    assert told[0].endswith('write another, or celery_app_accept: ["odd:a"] if it is meant')
    accepted = with_app(accepted=frozenset({"odd:a"}))
    assert [problem.variable for problem in judge(accepted, [rule]).problems] == ["v_b"]
    assert judge(with_app(accepted=frozenset({"odd"})), [rule]).problems == []


def test_what_one_app_accepts_is_not_accepted_for_another() -> None:
    rule = noisy("odd", acceptable=True)
    stack = replace(STACK, apps={"shop": SHOP, "blog": replace(SHOP, name="blog", accepted=frozenset({"odd"}))})
    assert [problem.variable for problem in judge(stack, [rule]).problems] == ["v_a", "v_b"]


def test_a_finding_about_a_server_is_accepted_by_any_app() -> None:
    evicting = with_server(REDIS, variables={"redis_purpose": "results", "redis_maxmemory_policy": "allkeys-lru"})
    assert len(judge(evicting, RULES).warnings) == 1
    accepted = replace(evicting, apps={"shop": replace(SHOP, accepted=frozenset({"evicted-results:mq1"}))})
    assert judge(accepted, RULES).warnings == []


def test_what_is_unwise_warns_once_and_breaks_nothing() -> None:
    verdict = judge(STACK, [noisy("odd", unwise=True), noisy("odd", unwise=True)])
    assert verdict.problems == []
    assert len(verdict.warnings) == 2
    assert 'celery_app_accept: ["odd:a"]' in verdict.warnings[0]


def test_what_is_accepted_must_be_a_rule_that_can_be() -> None:
    rules = [noisy("odd", acceptable=True), Rule("even", lambda _deployment: [], "Even.")]
    (problem,) = judge(with_app(accepted=frozenset({"od:a", "odd"})), rules).problems
    assert (problem.variable, problem.value) == ("celery_app_accept", "od:a")
    assert "odd (did you mean that?)" in problem.instead
    (problem,) = judge(with_app(accepted=frozenset({"even", "odd"})), rules).problems
    assert (problem.value, problem.reason) == ("even", "is a mistake that cannot be meant")


# Routes, queues, classes


def test_a_route_into_the_void() -> None:
    finding = only(with_app(routes=(Route("a.*", "paymnets"),)), "queue-without-class")
    assert (finding.problem.variable, finding.problem.value) == ("celery_app_routes", "paymnets")
    assert finding.problem.instead.startswith("payments (did you mean that?)")
    finding = only(with_app(routes=(Route("a.*", "xyz"),)), "queue-without-class")
    assert finding.problem.instead.startswith("a queue that is consumed: default, payments")
    assert found(with_app(routes=(Route("a.*", "xyz"),), declared=("xyz",))) == {}


def test_a_default_queue_that_nobody_consumes() -> None:
    finding = only(with_app(default_queue="other"), "queue-without-class")
    assert (finding.problem.variable, finding.problem.value) == ("celery_app_default_queue", "other")
    assert found(with_app(default_queue="other", declared=("other",))) == {}


def test_a_periodic_task_for_a_queue_that_nobody_consumes() -> None:
    def scheduled(queue: object, **changes: Any) -> Deployment:
        entry = {"task": "a.b", "schedule": 60, "options": {"queue": queue}}
        stack = with_app(own_settings={"beat_schedule": {"nightly": entry}}, **changes)
        return replace(stack, duties=beats("").duties)

    finding = only(scheduled("paymnets"), "queue-without-class")
    assert finding.problem.variable == "celery_app_settings.beat_schedule.nightly.options.queue"
    assert (finding.problem.value, finding.subject, finding.app) == ("paymnets", "paymnets", "shop")
    assert finding.problem.reason == "is where beat sends nightly, and no worker class consumes it"
    assert finding.problem.instead.startswith("payments (did you mean that?)")
    assert found(scheduled("payments")) == found(scheduled("xyz", declared=("xyz",))) == found(scheduled(5)) == {}
    assert found(scheduled("xyz", hosts=("app2",), classes=())) == {}


def test_without_workers_or_with_unusable_classes_nothing_is_said_of_queues() -> None:
    void = (Route("a.*", "xyz"),)
    assert found(with_app(routes=void, hosts=("app2",), classes=())) == {}
    sender = App("sender", routes=void, variants=(("web1", {}),))
    both = replace(STACK, apps={"sender": sender, "shop": replace(SHOP, routes=void)})
    assert [finding.app for finding in found(both)["queue-without-class"]] == ["shop"]
    for name in ("celery_worker_classes", "celery_worker_group_classes", "celery_worker_defaults"):
        assert found(replace(with_app(routes=void), unusable=frozenset({name}))) == {}
    assert found(replace(with_app(routes=void), unusable=frozenset({"redis_port"}))) != {}


def test_workers_without_a_class() -> None:
    finding = only(with_app(classes=(), hosts=("app2", "app1")), "no-worker-class")
    assert (finding.problem.variable, finding.problem.value) == ("celery_workers", ["app1"])
    assert (finding.subject, finding.app) == ("shop", "shop")
    for name in ("celery_worker_classes", "celery_worker_host_classes", "celery_worker_defaults"):
        assert found(replace(with_app(classes=()), unusable=frozenset({name}))) == {}
    assert "no-worker-class" in found(replace(with_app(classes=()), unusable=frozenset({"redis_port"})))
    assert found(replace(with_app(classes=()), groups={"celery_workers": ["other"]})) == {}
    assert found(replace(with_app(classes=()), groups={"celery_producers": ["app1"]})) == {}


def test_a_class_that_runs_nowhere() -> None:
    finding = only(replace(STACK, unplaced={"gpu": ("web1",)}), "class-without-host")
    assert finding.problem.variable == "celery_worker_classes.gpu"
    assert "web1 is not in the group celery_workers" in finding.problem.reason
    finding = only(replace(STACK, unplaced={"gpu": ("a", "b", "c", "d")}), "class-without-host")
    assert "a, b, c, ... are not in" in finding.problem.reason
    finding = only(replace(STACK, unplaced={"gpu": ("a", "b", "c")}), "class-without-host")
    assert "a, b, c are not in" in finding.problem.reason
    assert "celery_worker_group_classes" not in finding.problem.instead
    stack = replace(STACK, unplaced={"gpu": ("web1",)}, replaced=frozenset({"gpu"}))
    assert only(stack, "class-without-host").problem.instead.startswith("celery_worker_group_classes")


def test_a_queue_of_two_classes() -> None:
    other = replace(
        DEFAULT, queues=("default", "payments"), origins={"queues": "celery_worker_host_classes.default.queues"}
    )
    finding = only(with_app(classes=(HIGH, other)), "shared-queue")
    assert finding.problem.variable == "celery_worker_host_classes.default.queues"
    assert (finding.problem.value, finding.subject, finding.app) == ("payments", "payments", "shop")
    assert "class high" in finding.problem.reason
    everywhere = (HIGH, replace(HIGH, host="app2"), DEFAULT)
    assert found(with_app(classes=everywhere)) == {}


def test_a_class_that_names_no_queues_is_told_where_it_stands() -> None:
    typo = replace(DEFAULT, name="hgih", written={"nice": 1}, origins={"nice": "celery_worker_host_classes.hgih.nice"})
    finding = only(with_app(classes=(HIGH, DEFAULT, typo)), "shared-queue")
    assert (finding.problem.variable, finding.problem.value) == ("celery_worker_host_classes.hgih", "hgih")
    assert finding.problem.instead == "high (did you mean that?), or queues of its own"
    finding = only(with_app(classes=(HIGH, DEFAULT, replace(DEFAULT, name="mails"))), "shared-queue")
    assert (finding.problem.variable, finding.problem.instead) == ("celery_worker_classes.mails", "queues of its own")


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


def test_one_machine_under_two_names_runs_a_class_twice() -> None:
    stack = replace(STACK, machines={**STACK.machines, "app2": Machine("app2", "app1")})
    twice = replace(stack, apps={"shop": replace(SHOP, classes=(HIGH, DEFAULT, replace(HIGH, host="app2")))})
    finding = only(twice, "same-node-name")
    assert (finding.problem.variable, finding.problem.value) == ("celery_workers", "app2")
    assert "machine of app1 by another name: two workers would be high@app1" in finding.problem.reason
    blog = App("blog", classes=(replace(HIGH, app="blog", host="app2", queues=("default",)),), variants=(("app2", {}),))
    assert found(replace(stack, apps={"shop": SHOP, "blog": blog})) == {}


def test_machines_behind_one_address_differ_by_their_port() -> None:
    def twice(one: str, other: str, **known: Any) -> dict[str, list[Finding]]:
        ports = {"app1": one, "app2": other}
        machines = {name: Machine(name, "127.0.0.1", port=port, **known) for name, port in ports.items()}
        stack = replace(STACK, machines={**STACK.machines, **machines})
        slim = replace(HIGH, memory_max=GIB)
        return found(replace(stack, apps={"shop": replace(SHOP, classes=(slim, DEFAULT, replace(slim, host="app2")))}))

    assert twice("2222", "2200", memory=GIB) == {}
    assert list(twice("2222", "2222")) == list(twice("22", "")) == ["same-node-name"]
    assert list(twice("", "", memory=GIB)) == ["same-node-name", "memory"]
    (finding,) = twice("2222", "2200", hostname="vagrant")["same-node-name"]
    assert "calls itself vagrant, and so does app1" in finding.problem.reason


def test_servers_behind_one_address_may_have_one_port() -> None:
    machines = {"mq1": Machine("mq1", "127.0.0.1", port="2222"), "app1": Machine("app1", "127.0.0.1", port="2200")}
    servers = (replace(RABBITMQ, listen=("10.0.0.1",)), REDIS)
    stack = replace(STACK, machines={**STACK.machines, **machines}, servers=servers)
    flower = Duty("flower", "shop", "app1", {"flower_port": 6379})
    assert found(replace(stack, duties=(flower,))) == {}
    assert list(found(replace(stack, duties=(replace(flower, host="mq1"),)))) == ["port-twice"]
    near = (replace(RABBITMQ, listen=("127.0.0.1",)), REDIS)
    assert list(found(replace(stack, servers=near))) == ["server-out-of-reach"]


def shared_vhost(**changes: Any) -> Deployment:
    """Two apps in one virtual host; the second has a class of its own on app2, unless ``changes`` say otherwise."""
    own = replace(HIGH, app="blog", name="posts", host="app2", queues=("posts",))
    return replace(two_apps(), apps={"shop": SHOP, "blog": App("blog", **{**BLOG, "classes": (own,), **changes})})


BLOG: dict[str, Any] = {
    "hosts": ("app2",),
    "broker_addresses": ("mq1:5672/shop",),
    "default_queue": "posts",
    "queues": {"posts": "quorum"},
    "longest_task": 1800,
    "variables": {"celery_app_key_prefix": "blog:"},
    "variants": (("app2", {}),),
}


def test_two_apps_in_one_virtual_host_may_live_side_by_side() -> None:
    assert found(shared_vhost()) == {}


def test_a_class_of_two_apps_on_one_machine_and_broker() -> None:
    same = replace(HIGH, app="blog", host="app1", queues=("posts",))
    finding = only(shared_vhost(classes=(same,)), "node-of-two-apps")
    assert (finding.problem.variable, finding.app) == ("celery_worker_classes.high", "blog")
    assert "of shop as well" in finding.problem.reason
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
    assert (finding.problem.variable, finding.problem.value) == ("celery_worker_classes.posts.queues", "payments")
    assert (finding.subject, finding.app) == ("payments", "blog")
    assert found(shared_vhost(classes=(own,), broker_addresses=("mq2:5672/shop",))) == {}


@pytest.mark.parametrize(("queue", "fits"), [("eu.payments", False), ("eu-payments", True), ("payments.eu", True)])
def test_a_queue_that_ends_in_the_name_of_another_apps(queue: str, fits: bool) -> None:
    told = found(shared_vhost(queues={"posts": "quorum", queue: "quorum"}))
    assert ("suffix-of-another-app" not in told) is fits
    if not fits:
        (finding,) = told["suffix-of-another-app"]
        assert (finding.problem.value, finding.app) == (queue, "blog")
        assert "queue payments of shop" in finding.problem.reason
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
    changes.setdefault("classes", ())
    stack = shared_vhost(queues={"posts": "quorum", "eu.payments": "quorum"}, **changes)
    (finding,) = found(stack)["suffix-of-another-app"]
    assert finding.problem.variable == place


def test_a_suffix_is_found_in_either_app() -> None:
    shop = replace(SHOP, queues={**SHOP.queues, "old.posts": "quorum"})
    stack = shared_vhost()
    finding = only(replace(stack, apps={**stack.apps, "shop": shop}), "suffix-of-another-app")
    assert (finding.problem.value, finding.app) == ("old.posts", "shop")


def test_two_machines_with_one_hostname() -> None:
    machines = {
        "app1": Machine("app1", "10.0.0.1", hostname="web"),
        "app2": Machine("app2", "10.0.0.2", hostname="web"),
    }
    stack = replace(STACK, machines={**STACK.machines, **machines})
    twice = replace(stack, apps={"shop": replace(SHOP, classes=(HIGH, DEFAULT, replace(HIGH, host="app2")))})
    finding = only(twice, "same-node-name")
    assert "calls itself web, and so does app1: two workers would be high@web" in finding.problem.reason
    same = {**machines, "app2": replace(machines["app2"], address="10.0.0.1")}
    finding = only(replace(twice, machines={**STACK.machines, **same}), "same-node-name")
    assert "is the machine of app1 by another name" in finding.problem.reason
    machines["app2"] = replace(machines["app2"], hostname="web2")
    assert found(replace(twice, machines={**STACK.machines, **machines})) == {}


# Groups and hosts


def test_groups_that_nearly_are_duties() -> None:
    stack = replace(STACK, groups={**STACK.groups, "celery_worker": ["a"], "redis2": [], "flowers": ["b"]})
    told = found(stack)["unknown-group"]
    assert [(finding.problem.value, finding.problem.instead) for finding in told] == [
        ("celery_worker", "celery_workers"),
        ("flowers", "flower"),
    ]
    # Nobody is missed there: the hosts have the duty, or the group is a part of the right one or beside it.
    workers = STACK.groups["celery_workers"]
    for name, hosts in (("celery_worker", workers[:1]), ("celery_workers_old", ["a"]), ("redis_exporter", ["a"])):
        assert found(replace(STACK, groups={**STACK.groups, name: hosts})) == {}
    told = found(replace(STACK, groups={**STACK.groups, "rabbit": ["a"], "Redis": ["a"]}))["unknown-group"]
    assert [finding.problem.instead for finding in told] == ["rabbitmq", "redis"]
    assert found(replace(STACK, groups={**STACK.groups, "flower": ["b"], "flowers": ["b"]})) == {}
    several = {"rabbitmqs": ["a"], "celery_beats": ["b"], "flowers": ["c"], "celery_workers": ["d"]}
    told = found(replace(STACK, groups=several))["unknown-group"]
    assert [finding.problem.instead for finding in told] == ["rabbitmq", "celery_beat", "flower"]


def test_clusters_are_refused() -> None:
    finding = only(replace(STACK, servers=(*STACK.servers, replace(REDIS, host="app2"))), "several-servers")
    assert (finding.problem.variable, finding.problem.value) == ("redis", ["mq1", "app2"])


def beats(*schedulers: str) -> Deployment:
    hosts = ("app1", "app2")
    duties = [
        Duty("celery_beat", "shop", host, {"celery_beat_scheduler": scheduler})
        for host, scheduler in zip(hosts, schedulers, strict=False)
    ]
    return replace(STACK, duties=tuple(duties))


def test_two_beats_need_redbeat() -> None:
    assert only(beats("", ""), "several-beats").problem.value == ["app1", "app2"]
    assert only(beats("redbeat.RedBeatScheduler", ""), "several-beats").subject == "shop"
    assert found(beats("redbeat.RedBeatScheduler", "redbeat.RedBeatScheduler")) == {}
    assert found(beats("redbeat:RedBeatScheduler", "redbeat.schedulers:RedBeatScheduler")) == {}
    assert only(beats("redbeater.Scheduler", "redbeater.Scheduler"), "several-beats")
    assert found(beats("")) == {}
    apart = two_apps(beats("", ""))
    split = (apart.duties[0], replace(apart.duties[1], app="blog"))
    assert "several-beats" not in found(replace(apart, duties=split))


def test_a_scheduler_of_ones_own_may_hold_a_lock() -> None:
    stack = beats("shop.beat:OurRedBeatScheduler", "shop.beat:OurRedBeatScheduler")
    assert only(stack, "several-beats").subject == "shop"
    accepted = replace(stack, apps={"shop": replace(SHOP, accepted=frozenset({"several-beats:shop"}))})
    assert judge(accepted, RULES).problems == []


def test_the_scheduler_may_stand_in_the_settings_of_the_app() -> None:
    def with_setting(stack: Deployment, scheduler: str) -> Deployment:
        return replace(stack, apps={"shop": replace(SHOP, own_settings={"beat_scheduler": scheduler})})

    assert found(with_setting(beats("", ""), "redbeat.RedBeatScheduler")) == {}
    assert only(with_setting(beats("", ""), "celery.beat.PersistentScheduler"), "several-beats")
    told = found(with_setting(beats("", "a.Scheduler"), "redbeat.RedBeatScheduler"))
    assert list(told) == ["several-beats", "given-twice"]


@pytest.mark.parametrize("scheduler", ["redbeat.RedBeatScheduler", "redbeat:RedBeatScheduler"])
def test_redbeat_needs_a_redis(scheduler: str) -> None:
    def told(**changes: Any) -> Deployment:
        return replace(with_app(**changes), duties=beats(scheduler).duties)

    finding = only(told(has_results=False), "redbeat-without-redis")
    assert (finding.problem.variable, finding.problem.value) == ("celery_beat_scheduler", scheduler)
    assert (finding.subject, finding.app) == ("shop", "shop")
    assert only(told(results_at="postgresql at db:5432/x"), "redbeat-without-redis")
    setting = replace(with_app(has_results=False, own_settings={"beat_scheduler": scheduler}), duties=beats("").duties)
    assert only(setting, "redbeat-without-redis").problem.value == scheduler
    for changes in (
        {},
        {"results_at": "Redis at cache:6379/0"},
        {**REDIS_BROKER, "has_results": False},
        {"has_results": False, "own_settings": {"redbeat_redis_url": "redis://cache/1"}},
    ):
        assert found(told(**changes)) == {}
    stranger = replace(beats(scheduler).duties[0], app="blog")
    assert found(replace(with_app(has_results=False), duties=(stranger,))) == {}
    assert found(replace(with_app(has_results=False), duties=beats("a.Scheduler").duties)) == {}


@pytest.mark.parametrize("schedule", [{"nightly": {"task": "a.b", "schedule": 60}}, {"nightly": None}])
def test_a_schedule_that_no_host_runs(schedule: dict[str, Any]) -> None:
    stack = with_app(own_settings={"beat_schedule": schedule})
    finding = only(stack, "schedule-without-beat")
    assert (finding.problem.variable, finding.problem.value) == ("celery_app_settings.beat_schedule", ["nightly"])
    assert (finding.subject, finding.app) == ("shop", "shop")
    assert "no host of shop runs beat" in finding.problem.reason
    assert found(replace(stack, duties=beats("").duties)) == {}
    (other,) = beats("").duties
    assert only(replace(stack, duties=(replace(other, app="blog"),)), "schedule-without-beat")


@pytest.mark.parametrize("schedule", [{}, None, ["nightly"], "nightly"])
def test_what_is_no_schedule_needs_no_beat(schedule: Any) -> None:
    assert found(with_app(own_settings={"beat_schedule": schedule})) == {}


def test_a_server_on_loopback_that_others_need() -> None:
    finding = only(with_server(RABBITMQ, listen=("127.0.0.1", "::1")), "server-out-of-reach")
    assert finding.problem.variable == "rabbitmq_listen_addresses"
    assert "on mq1 cannot be reached from app1" in finding.problem.reason
    assert found(with_server(RABBITMQ, listen=("127.0.0.1", "10.0.0.1"))) == {}
    assert only(with_server(REDIS, listen=("127.0.0.1",)), "server-out-of-reach").problem.variable == "redis_bind"
    written = {"redis_bind": ["127.0.0.1", "-::1"]}
    finding = only(with_server(REDIS, listen=("127.0.0.1", "::1"), variables=written), "server-out-of-reach")
    assert finding.problem.value == written["redis_bind"]
    here = {"app1": Machine("app1", "mq1"), "mq1": Machine("mq1", "mq1")}
    assert found(replace(with_server(REDIS, listen=("127.0.0.1",)), machines=here)) == {}
    many = with_app(hosts=("mq1", "app1", "app2", "a", "b"))
    machines = {name: Machine(name, name) for name in ("mq1", "app1", "app2", "a", "b")}
    far = replace(many, machines=machines, servers=(replace(RABBITMQ, listen=("127.0.0.1",)), REDIS))
    assert "from app1, app2, a, ..." in only(far, "server-out-of-reach").problem.reason
    three = replace(far, apps={"shop": replace(SHOP, hosts=("mq1", "app1", "app2", "a"))})
    assert only(three, "server-out-of-reach").problem.reason.endswith("from app1, app2, a")


def on_loopback(
    address: str = "localhost", others: str = "app1", listen: str = "0.0.0.0", **changes: Any
) -> Deployment:
    machines = {"mq1": Machine("mq1", address), "app1": Machine("app1", others)}
    servers = (replace(RABBITMQ, listen=(listen,)), replace(REDIS, listen=(listen,)))
    return replace(with_app(**changes), machines={**STACK.machines, **machines}, servers=servers)


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", "LOCALHOST", "::1"])
def test_a_server_on_loopback_to_ansible_that_others_need(address: str) -> None:
    finding = only(on_loopback(address), "server-on-loopback")
    assert (finding.problem.variable, finding.problem.value, finding.subject) == ("ansible_host", address, "mq1")
    assert finding.problem.reason == (
        "is where app1 would look for the RabbitMQ and Redis of mq1: each would ask itself"
    )
    assert finding.problem.instead == (
        "an address of mq1 that they can reach, or such an address in rabbitmq_listen_addresses and redis_bind"
    )


def test_on_loopback_only_what_is_told_to_others_counts() -> None:
    rule = "server-on-loopback"
    assert found(on_loopback("10.0.0.1")) == found(on_loopback("localhost.example.com")) == {}
    assert found(on_loopback(others="127.0.0.1")) == found(on_loopback(others="localhost")) == {}
    assert found(on_loopback(listen="10.0.0.1")) == {}
    assert rule not in found(on_loopback(listen="127.0.0.1"))
    assert found(on_loopback(hosts=("mq1",))) == {}
    broker, results = {"celery_app_broker_url"}, {"celery_app_result_backend"}
    assert found(on_loopback(given=frozenset(broker | results))) == {}
    for given, name in ((broker, "the Redis of"), (results, "the RabbitMQ of")):
        assert name in only(on_loopback(given=frozenset(given)), rule).problem.reason
    assert "the Redis of" in only(on_loopback(**REDIS_BROKER, given=frozenset(results)), rule).problem.reason
    assert rule in found(on_loopback(**REDIS_BROKER, given=frozenset(broker)))
    tunnel = {"mq1": Machine("mq1", "127.0.0.1", port="2222"), "app1": Machine("app1", "127.0.0.1", port="2200")}
    assert only(replace(on_loopback(), machines=tunnel), rule)
    many = ("app1", "a", "b", "c")
    machines = {name: Machine(name, name) for name in many}
    far = replace(on_loopback(hosts=many), machines={**machines, "mq1": Machine("mq1", "localhost")})
    assert only(far, rule).problem.reason.startswith("is where app1, a, b, ... would look")
    three = replace(on_loopback(hosts=many[:3]), machines={**machines, "mq1": Machine("mq1", "localhost")})
    assert only(three, rule).problem.reason.startswith("is where app1, a, b would look")
    first = replace(on_loopback(), servers=(replace(RABBITMQ, listen=("10.0.0.1",)), replace(REDIS, listen=("::",))))
    assert "the Redis of" in only(first, rule).problem.reason


def test_a_rabbitmq_that_no_app_uses_may_listen_where_it_wants() -> None:
    stack = with_app(**REDIS_BROKER)
    unused = replace(RABBITMQ, listen=("127.0.0.1",))
    assert found(replace(stack, servers=(unused, REDIS))) == {}
    assert list(found(replace(stack, servers=(unused, replace(REDIS, listen=("127.0.0.1",)))))) == [
        "server-out-of-reach"
    ]


@pytest.mark.parametrize(
    ("setting", "variable"),
    [("broker_use_ssl", "celery_app_broker_url"), ("redis_backend_use_ssl", "celery_app_result_backend")],
)
@pytest.mark.parametrize("value", [True, {"ca_certs": "/x"}])
def test_tls_with_a_server_of_the_inventory(setting: str, variable: str, value: Any) -> None:
    own = {"own_settings": {setting: value}}
    finding = only(with_app(**own), "tls-without-server")
    assert (finding.problem.variable, finding.problem.value) == (f"celery_app_settings.{setting}", value)
    assert (finding.subject, finding.app) == (setting, "shop")
    assert finding.problem.instead == f"an address with TLS in {variable}, or leave it out"
    assert found(with_app(**own, given=frozenset({variable}))) == {}
    for other in (False, {}, None, ["x"], "true"):
        assert found(with_app(own_settings={setting: other})) == {}
    assert (found(with_app(**own, has_results=False)) == {}) is (setting == "redis_backend_use_ssl")


@pytest.mark.parametrize("setting", ["broker_use_ssl", "redis_backend_use_ssl"])
def test_tls_that_verifies_nothing(setting: str) -> None:
    given = frozenset({"celery_app_broker_url", "celery_app_result_backend"})
    finding = only(with_app(own_settings={setting: {"cert_reqs": "none"}}, given=given), "unverified-tls")
    assert (finding.problem.variable, finding.subject) == (f"celery_app_settings.{setting}", setting)
    assert (finding.problem.value, finding.app) == ({"cert_reqs": "none"}, "shop")
    assert found(with_app(own_settings={setting: {"cert_reqs": "required"}}, given=given)) == {}


@pytest.mark.parametrize(
    ("requirement", "reason"), [("none", "verifies no"), ("0", "verifies no"), ("optional", "is meant")]
)
def test_urls_that_verify_nothing(requirement: str, reason: str) -> None:
    variable, said = "celery_app_result_backend", f"ssl_cert_reqs={requirement}"
    finding = only(with_app(lax_urls={variable: (said, requirement)}), "unverified-tls")
    assert (finding.problem.variable, finding.problem.value) == (variable, said)
    assert (finding.subject, finding.app) == (variable, "shop")
    assert finding.problem.reason.startswith(reason)


def test_an_app_without_a_broker() -> None:
    finding = only(replace(STACK, servers=(REDIS,)), "no-broker")
    assert (finding.problem.variable, finding.problem.value) == ("celery_app_broker", "rabbitmq")
    own = replace(SHOP, given=frozenset({"celery_app_broker_url"}))
    assert found(replace(STACK, apps={"shop": own}, servers=(REDIS,))) == {}
    both = replace(
        STACK, apps={"shop": own, "blog": replace(SHOP, name="blog", hosts=(), classes=())}, servers=(REDIS,)
    )
    assert only(both, "no-broker").app == "blog"
    assert found(replace(STACK, apps={"": replace(SHOP, name="")}, servers=(REDIS,))) == {}


# Delivery


def patient(timeout: int, *classes: RunningClass, **changes: Any) -> Deployment:
    """Return a stack on Redis with a visibility timeout."""
    variables = {"celery_app_longest_task": "30m", "celery_app_visibility_timeout": "given"}
    own = {**REDIS_BROKER, "visibility_timeout": timeout, "variables": variables, "longest_eta": HOUR}
    given = frozenset({"celery_app_visibility_timeout"})
    return with_app(**{**own, "given": given, "classes": classes or SHOP.classes, **changes})


def test_the_visibility_timeout_is_above_the_longest_eta() -> None:
    nobody = {"classes": (), "hosts": ("app2",)}
    assert found(patient(HOUR + 1, **nobody)) == {}
    finding = only(patient(HOUR, **nobody), "visibility-timeout")
    assert (finding.problem.variable, finding.problem.value) == ("celery_app_visibility_timeout", "given")
    assert (finding.subject, finding.app) == ("shop", "shop")
    assert finding.problem.reason == "is not above celery_app_longest_eta, 1h: such a task would run twice"
    assert finding.problem.instead == "more than 1h, or leave it out: it is derived then"


LATE = "the 8h for which class high may hold a task that it acknowledges late"
EARLY = "the 6h for which a task may wait in class high before it is acknowledged"


@pytest.mark.parametrize(
    ("late", "eta", "needed", "reason"),
    [
        (True, 0, 8 * HOUR, LATE),
        (True, HOUR, 9 * HOUR, f"celery_app_longest_eta, 1h and {LATE} together"),
        (False, 0, 6 * HOUR, EARLY),
        (False, HOUR, 7 * HOUR, f"celery_app_longest_eta, 1h and {EARLY} together"),
    ],
)
def test_the_visibility_timeout_is_above_what_a_delayed_task_takes(
    late: bool, eta: int, needed: int, reason: str
) -> None:
    slow = replace(HIGH, late=late, prefetch=3, time_limit=2 * HOUR, stop_timeout=2 * HOUR)
    assert found(patient(needed + 1, DEFAULT, slow, longest_eta=eta)) == {}
    finding = only(patient(needed, DEFAULT, slow, longest_eta=eta), "visibility-timeout")
    assert (finding.problem.variable, finding.problem.value) == ("celery_app_visibility_timeout", "given")
    assert finding.problem.reason == f"is not above {reason}: such a task would run twice"
    assert finding.problem.instead == f"more than {needed // HOUR}h, or leave it out: it is derived then"


def test_a_longest_task_that_a_class_outlives_is_told_where_it_stands() -> None:
    slow = replace(HIGH, time_limit=2 * HOUR, stop_timeout=2 * HOUR)
    finding = only(patient(HOUR, DEFAULT, slow, longest_eta=0, given=frozenset()), "visibility-timeout")
    assert (finding.problem.variable, finding.problem.value) == ("celery_app_longest_task", "30m")
    assert finding.problem.reason.startswith("makes the visibility timeout 1h, which is not above the 4h for which")
    assert finding.problem.instead == "at least 2h, or leave it out: it is derived then"
    finding = only(patient(HOUR, longest_eta=0, given=frozenset()), "visibility-timeout")
    assert finding.problem.instead == "at least 30m, or leave it out: it is derived then"


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("eta", [0, 60, DAY])
@pytest.mark.parametrize("limit", [1, 1800, DAY])
def test_what_is_derived_is_long_enough(late: bool, eta: int, limit: int) -> None:
    worker = replace(HIGH, late=late, time_limit=limit, stop_timeout=limit)
    derived = held_for(limit, 1, eta)
    assert found(patient(derived, worker, replace(worker, name="default", queues=("default",)), longest_eta=eta)) == {}
    several = held_for(limit, 5, eta)
    taking = replace(worker, prefetch=5, queues=("default", "payments"))
    assert found(patient(several, taking, longest_eta=eta)) == {}


def test_of_a_worker_that_takes_all_another_rule_tells() -> None:
    taking = (replace(HIGH, prefetch=None, time_limit=DAY, stop_timeout=DAY), replace(DEFAULT, prefetch=None))
    assert list(found(patient(HOUR + 1, *taking))) == ["unlimited-prefetch"]
    assert list(found(patient(HOUR, *taking))) == ["visibility-timeout", "unlimited-prefetch"]


def test_a_visibility_timeout_is_redis_matter() -> None:
    assert found(with_app(visibility_timeout=1)) == {}


def test_two_apps_on_one_redis() -> None:
    base = with_app(**REDIS_BROKER)
    other = {"visibility_timeout": 4 * HOUR}
    finding = only(two_apps(base, **other), "different-visibility-timeouts")
    assert (finding.app, finding.problem.value) == ("blog", "4h")
    assert "that of shop on the same Redis, 3h" in finding.problem.reason
    apart = {**other, "variables": {"celery_app_key_prefix": "blog:"}}
    assert found(two_apps(base, **apart)) == {}
    said = {**apart, "given": frozenset({"celery_app_visibility_timeout"})}
    assert "different-visibility-timeouts" in found(two_apps(base, **said))
    assert found(two_apps(base)) == {}
    assert found(two_apps(base, **{**other, "broker_addresses": ("other:6379/0",)})) == {}
    assert found(two_apps(**{**other, "broker_addresses": ("mq1:6379/0",)})) == {}


def test_a_redis_for_results_is_no_broker() -> None:
    results = replace(REDIS, variables={"redis_purpose": "results", "redis_maxmemory_policy": "noeviction"})
    stack = replace(with_app(**REDIS_BROKER), servers=(results,))
    assert only(stack, "results-only-server").problem.variable == "redis_purpose"
    elsewhere = with_app(**REDIS_BROKER, given=frozenset({"celery_app_broker_url"}))
    assert found(replace(elsewhere, servers=(results,))) == {}
    assert found(replace(STACK, servers=(RABBITMQ, results))) == {}
    both = replace(results, variables={"redis_purpose": "both", "redis_maxmemory_policy": "noeviction"})
    assert found(replace(stack, servers=(both,))) == {}


def test_results_that_may_be_evicted() -> None:
    variables = {"redis_purpose": "results", "redis_maxmemory_policy": "allkeys-lru"}
    assert only(with_server(REDIS, variables=variables), "evicted-results").problem.value == "allkeys-lru"
    assert found(with_server(REDIS, variables={**variables, "redis_purpose": "custom"})) == {}


@pytest.mark.parametrize(("timeout", "fits"), [(3 * HOUR, False), (3 * HOUR + 1, True), (0, True)])
@pytest.mark.parametrize("late", [True, False])
def test_the_consumer_timeout_is_above_what_a_worker_holds(timeout: int, fits: bool, late: bool) -> None:
    slow = with_class(late=late, prefetch=2, time_limit=HOUR, stop_timeout=HOUR)
    server = replace(RABBITMQ, consumer_timeout=timeout, variables={"rabbitmq_consumer_timeout": "3h"})
    told = found(replace(slow, servers=(server, REDIS)))
    assert ("consumer-timeout" not in told) is fits
    if not fits:
        (finding,) = told["consumer-timeout"]
        assert (finding.problem.variable, finding.problem.value) == ("rabbitmq_consumer_timeout", "3h")
        assert "class high of shop" in finding.problem.reason


ELSEWHERE: dict[str, Any] = {
    "broker_addresses": ("mq.example.com:5672/shop",),
    "given": frozenset({"celery_app_broker_url"}),
}
WITHOUT_RABBITMQ = replace(STACK, servers=(REDIS,))


@pytest.mark.parametrize(("limit", "fits"), [(899, True), (900, False), (6 * HOUR, False)])
def test_the_consumer_timeout_of_a_server_elsewhere(limit: int, fits: bool) -> None:
    slow = replace(HIGH, time_limit=limit, stop_timeout=limit)
    told = found(with_app(WITHOUT_RABBITMQ, **ELSEWHERE, classes=(slow, DEFAULT)))
    assert list(told) == ([] if fits else ["consumer-timeout-elsewhere"])
    if limit == 6 * HOUR:
        (finding,) = told["consumer-timeout-elsewhere"]
        assert (finding.problem.variable, finding.problem.value) == (
            "celery_app_broker_url",
            "mq.example.com:5672/shop",
        )
        assert (finding.subject, finding.app) == ("high", "shop")
        assert "class high may hold a message for 12h: with RabbitMQ's default, 30m," in finding.problem.reason
        assert finding.problem.instead == "more than 43200000 as consumer_timeout into its rabbitmq.conf (12h)"


def test_an_app_without_a_server_elsewhere_hides_no_other() -> None:
    slow = {"classes": (replace(HIGH, app="blog", time_limit=6 * HOUR, stop_timeout=6 * HOUR),)}
    blog = replace(SHOP, name="blog", **ELSEWHERE, **slow)
    told = found(replace(WITHOUT_RABBITMQ, apps={"shop": replace(SHOP, **REDIS_BROKER), "blog": blog}))
    assert [finding.app for finding in told["consumer-timeout-elsewhere"]] == ["blog"]


def test_of_a_server_elsewhere_nothing_is_told_without_need() -> None:
    slow = {"classes": (replace(HIGH, time_limit=6 * HOUR, stop_timeout=6 * HOUR), DEFAULT)}
    rule = "consumer-timeout-elsewhere"
    # Nobody says how long its tasks are, or whether they are delayed.
    assert found(with_app(WITHOUT_RABBITMQ, **ELSEWHERE)) == {}
    classic = {**ELSEWHERE, "queues": dict.fromkeys(SHOP.queues, "classic")}
    assert found(with_app(WITHOUT_RABBITMQ, **classic)) == {}
    for name in ("celery_app_longest_task", "celery_app_longest_eta"):
        given = ELSEWHERE["given"] | {name}
        assert (rule in found(with_app(WITHOUT_RABBITMQ, **{**ELSEWHERE, "given": given}))) is (
            name == "celery_app_longest_task"
        )
        assert rule in found(with_app(WITHOUT_RABBITMQ, **{**classic, "given": given}))
    # The server is known, is not a RabbitMQ, or nothing is consumed.
    assert rule not in found(with_app(**slow))
    assert rule not in found(with_app(**{**ELSEWHERE, "broker_addresses": SHOP.broker_addresses}, **slow))
    assert rule in found(with_app(**ELSEWHERE, **slow))
    redis = {**REDIS_BROKER, "visibility_timeout": 99 * HOUR, "given": ELSEWHERE["given"]}
    assert found(with_app(WITHOUT_RABBITMQ, **redis, **slow)) == {}
    assert found(with_app(WITHOUT_RABBITMQ, **ELSEWHERE, classes=(), hosts=("app2",))) == {}


def test_a_worker_that_takes_all_there_is() -> None:
    taking = (replace(HIGH, prefetch=None, time_limit=9 * HOUR, stop_timeout=9 * HOUR), DEFAULT)
    finding = only(with_app(classes=taking), "unlimited-prefetch")
    assert (finding.problem.variable, finding.problem.value) == ("celery_app_settings.worker_prefetch_multiplier", 0)
    assert "lets class high take all" in finding.problem.reason
    assert "RabbitMQ's consumer timeout" in finding.problem.reason
    patient = replace(RABBITMQ, consumer_timeout=0)
    assert found(replace(with_app(classes=taking), servers=(patient, REDIS))) == {}
    everywhere = (*taking, replace(taking[0], host="app2"), replace(DEFAULT, prefetch=None))
    assert "classes high, default take" in only(with_app(classes=everywhere), "unlimited-prefetch").problem.reason
    told = only(with_app(**REDIS_BROKER, classes=taking), "unlimited-prefetch")
    assert "beyond the visibility timeout" in told.problem.reason


def test_without_a_limit_the_longest_task_counts_and_without_quorum_the_eta() -> None:
    assert "consumer-timeout" in found(with_app(longest_task=HOUR))
    assert "consumer-timeout" not in found(with_app(longest_task=HOUR - 1))
    classic = {"queues": {"default": "classic", "payments": "classic"}, "longest_task": 60}
    assert "consumer-timeout" in found(with_app(**classic, longest_eta=2 * HOUR - 120))
    assert "consumer-timeout" not in found(with_app(**classic, longest_eta=2 * HOUR - 121))
    assert "consumer-timeout" not in found(with_app(longest_task=HOUR, broker="redis", visibility_timeout=9 * HOUR))


def declaring(stack: Deployment = STACK, **variables: Any) -> Deployment:
    """Return a stack whose RabbitMQ has objects of the inventory."""
    own = {f"rabbitmq_{name}": value for name, value in variables.items()}
    return replace(stack, servers=(replace(RABBITMQ, variables=own), REDIS))


def policy(definition: dict[str, Any], **changes: Any) -> dict[str, Any]:
    keeping = {"dead-letter-exchange": "", **definition}
    return {"vhost": "shop", "name": "own", "pattern": "^pay", "definition": keeping, **changes}


@pytest.mark.parametrize("kind", ["policies", "operator_policies"])
@pytest.mark.parametrize(
    ("timeout", "fits"), [(3_600_000, False), (3_600_001, True), (0, True), (-1, True), ("1h", True)]
)
def test_the_consumer_timeout_of_a_queue_is_above_what_its_workers_hold(kind: str, timeout: Any, fits: bool) -> None:
    told = found(declaring(**{kind: [policy({"consumer-timeout": timeout})]}))
    assert list(told) == ([] if fits else ["queue-consumer-timeout"])
    if not fits:
        (finding,) = told["queue-consumer-timeout"]
        assert finding.problem.variable == f"rabbitmq_{kind}.own.definition.consumer-timeout"
        assert (finding.problem.value, finding.subject, finding.app) == (3_600_000, "high", "shop")
        assert finding.problem.reason.startswith("is 1h in milliseconds, not above the 1h for which class high of shop")
        assert finding.problem.instead == "more than 3600000, or leave it out"


@pytest.mark.parametrize(
    "changes",
    [
        {"pattern": "^mails$"},
        {"pattern": "("},
        {"vhost": "blog"},
        {"apply_to": "exchanges"},
        {"apply_to": "streams"},
        {"apply_to": "classic_queues"},
    ],
)
def test_a_policy_for_something_else(changes: dict[str, Any]) -> None:
    assert found(declaring(policies=[policy({"consumer-timeout": 1}, **changes)])) == {}


@pytest.mark.parametrize("apply_to", [None, "all", "queues", "quorum_queues"])
def test_a_policy_for_queues(apply_to: str | None) -> None:
    declared = policy({"consumer-timeout": 1}, apply_to=apply_to)
    assert only(declaring(policies=[declared]), "queue-consumer-timeout")
    elsewhere = with_app(broker_addresses=("mq2:5672/shop",))
    assert found(declaring(elsewhere, policies=[declared])) == {}
    other_port = with_app(broker_addresses=("mq1:5673/shop",))
    assert found(declaring(other_port, policies=[declared])) == {}


def test_the_slowest_class_of_a_policys_queues_counts() -> None:
    slow = replace(DEFAULT, time_limit=2 * HOUR, stop_timeout=2 * HOUR)
    stack = declaring(with_app(classes=(HIGH, slow)), policies=[policy({"consumer-timeout": 1}, pattern=".")])
    finding = found(stack)["queue-consumer-timeout"][0]
    assert finding.subject == "default"
    assert finding.problem.instead.startswith(f"more than {4 * HOUR * 1000}")
    # One that concerns no class comes first.
    idle = policy({"consumer-timeout": 1}, pattern="^mails$", name="idle")
    late = policy({"consumer-timeout": 1}, pattern="^pay")
    assert only(declaring(policies=[idle, late]), "queue-consumer-timeout").subject == "high"
    held = declaring(
        with_app(classes=(HIGH, DEFAULT), queues=dict.fromkeys(SHOP.queues, "classic"), longest_eta=6 * HOUR),
        policies=[policy({"consumer-timeout": 7 * HOUR * 1000})],
    )
    assert found(held)["queue-consumer-timeout"][0].problem.instead.startswith(f"more than {7 * HOUR * 1000}")


def test_a_policy_wins_over_the_consumer_timeout_of_the_server() -> None:
    slow = with_class(time_limit=3 * HOUR, stop_timeout=3 * HOUR)

    def told(**changes: Any) -> list[str]:
        server = replace(RABBITMQ, variables={"rabbitmq_policies": [policy({"consumer-timeout": 10**9}, **changes)]})
        return list(found(replace(slow, servers=(server, REDIS))))

    assert told() == []
    assert told(pattern="^default$") == told(vhost="blog") == ["consumer-timeout"]
    both = replace(HIGH, queues=("payments", "mails"), time_limit=3 * HOUR, stop_timeout=3 * HOUR)
    server = replace(RABBITMQ, variables={"rabbitmq_policies": [policy({"consumer-timeout": 10**9})]})
    assert list(found(replace(with_app(classes=(both, DEFAULT)), servers=(server, REDIS)))) == ["consumer-timeout"]


DEAD = {"variables": {**SHOP.variables, "celery_app_dead_letter_queue": "dead"}}


def limit(**changes: Any) -> dict[str, Any]:
    """Return a policy that does not keep dead letters."""
    return {"vhost": "shop", "name": "limit", "pattern": "^pay", "definition": {"max-length": 5}, **changes}


@pytest.mark.parametrize(("priority", "displaces"), [(None, True), (0, True), (1, True), (-1, False)])
def test_a_policy_that_displaces_the_dead_letters(priority: int | None, displaces: bool) -> None:
    told = found(declaring(with_app(**DEAD), policies=[limit(priority=priority)]))
    assert list(told) == (["policy-without-dead-letters"] if displaces else [])
    if displaces:
        (finding,) = told["policy-without-dead-letters"]
        assert finding.problem.variable == "rabbitmq_policies.limit.definition"
        assert (finding.problem.value, finding.subject, finding.app) == (["max-length"], "limit", "shop")
        assert "takes the place of the policy that keeps what payments of shop cannot process" in finding.problem.reason
        assert "dead-letter-routing-key: dead beside it" in finding.problem.instead


def test_a_policy_that_keeps_dead_letters_or_concerns_none() -> None:
    app = with_app(**DEAD)
    for own in (
        limit(definition={"max-length": 5, "dead-letter-exchange": ""}),
        limit(pattern="^mails$"),
        limit(vhost="blog"),
        limit(apply_to="exchanges"),
        # By its name the site playbook's own, said otherwise.
        limit(name="celeryops-dead-letters"),
    ):
        assert found(declaring(app, policies=[own])) == {}
    dead = with_app(**DEAD, queues={**SHOP.queues, "dead": "quorum"})
    assert found(declaring(dead, policies=[limit(pattern="^dead$")])) == {}
    assert found(declaring(app, operator_policies=[limit()])) == {}
    # The virtual host is somebody else's, or its policies are.
    assert (
        found(declaring(with_app(**DEAD, broker_addresses=("mq1:5672/other",)), policies=[limit(vhost="other")])) == {}
    )
    own_objects = replace(
        RABBITMQ, variables={"rabbitmq_policies": [limit()]}, given=frozenset({"rabbitmq_extra_definitions"})
    )
    assert found(replace(app, servers=(own_objects, REDIS))) == {}


def test_of_several_policies_one_acts() -> None:
    app = with_app(**DEAD)
    keeping = policy({"max-length": 9}, priority=2)
    assert found(declaring(app, policies=[limit(priority=1), keeping])) == {}
    assert found(declaring(app, policies=[limit(), {**keeping, "priority": 1}])) == {}
    assert only(declaring(app, policies=[limit(), {**keeping, "priority": 0}]), "policy-without-dead-letters")
    assert only(declaring(app, policies=[limit(priority=2), keeping]), "policy-without-dead-letters")
    told = found(declaring(app, policies=[limit(priority=3, pattern="."), keeping]))["policy-without-dead-letters"]
    assert [finding.subject for finding in told] == ["limit"]


@pytest.mark.parametrize(
    ("entry", "differs"),
    [
        ({}, {}),
        ({"type": "quorum", "durable": True, "auto_delete": False, "arguments": {}}, {}),
        ({"type": None, "durable": None}, {}),
        ({"type": "classic"}, {"type": "classic"}),
        ({"durable": False}, {"durable": False}),
        ({"auto_delete": True}, {"auto_delete": True}),
        ({"arguments": {"x-consumer-timeout": 9}}, {"arguments": {"x-consumer-timeout": 9}}),
        ({"name": "mails", "type": "classic"}, {}),
        ({"vhost": "blog", "type": "classic"}, {}),
    ],
)
def test_a_queue_that_the_inventory_declares_as_well(entry: dict[str, Any], differs: dict[str, Any]) -> None:
    stack = declaring(queues=[{"vhost": "shop", "name": "payments", **entry}])
    told = found(stack).get("declared-otherwise", [])
    assert [finding.problem.value for finding in told] == ([differs] if differs else [])
    for finding in told:
        assert (finding.problem.variable, finding.subject) == ("rabbitmq_queues.payments", "payments")
        assert "is not how shop declares the queue, of type quorum alone" in finding.problem.reason


@pytest.mark.parametrize(
    ("entry", "differs"),
    [
        ({"type": "topic"}, {}),
        ({"type": "topic", "internal": False, "durable": True}, {}),
        ({}, {"type": "direct"}),
        ({"type": "topic", "internal": True}, {"internal": True}),
        ({"type": "fanout", "durable": False}, {"durable": False, "type": "fanout"}),
        ({"type": "topic", "arguments": {"alternate-exchange": "x"}}, {"arguments": {"alternate-exchange": "x"}}),
        ({"name": "other"}, {}),
        ({"vhost": "blog"}, {}),
    ],
)
def test_an_exchange_that_the_inventory_declares_as_well(entry: dict[str, Any], differs: dict[str, Any]) -> None:
    app = with_app(variables={**SHOP.variables, "celery_app_exchange": "tasks"})
    told = found(declaring(app, exchanges=[{"vhost": "shop", "name": "tasks", **entry}])).get("declared-otherwise", [])
    assert [finding.problem.value for finding in told] == ([differs] if differs else [])
    for finding in told:
        assert (finding.problem.variable, finding.subject) == ("rabbitmq_exchanges.tasks", "tasks")


@pytest.mark.parametrize("name", ["shop", "shop-flower"])
@pytest.mark.parametrize("secret", ["password", "password_hash"])
def test_an_account_of_an_app_with_another_password(name: str, secret: str) -> None:
    users = [{"name": name, secret: "Zq8wLm2xVt5rKd4n"}]
    finding = only(declaring(users=users), "account-of-an-app")
    assert (finding.problem.variable, finding.problem.value) == (f"rabbitmq_users.{name}.{secret}", "(not shown)")
    assert (finding.subject, finding.app) == (name, "shop")
    assert ("gives to shop," in finding.problem.reason) is (name == "shop")
    assert found(declaring(users=[{"name": name, "tags": ["management"]}])) == {}
    assert found(declaring(users=[{"name": f"{name}s", secret: "x"}])) == {}
    assert found(declaring(with_app(given=frozenset({"celery_app_broker_url"})), users=users)) == {}
    assert found(declaring(with_app(broker_addresses=("mq1:5672/other",)), users=users)) == {}
    own = replace(RABBITMQ, variables={"rabbitmq_users": users}, given=frozenset({"rabbitmq_extra_definitions"}))
    assert found(replace(STACK, servers=(own, REDIS))) == {}


def test_objects_of_rabbitmq_are_nothing_to_an_app_on_redis() -> None:
    stack = with_app(**{**REDIS_BROKER, "broker_addresses": ("mq1:5672/shop",)})
    everything = {"policies": [limit()], "queues": [{"vhost": "shop", "name": "payments", "type": "classic"}]}
    assert found(declaring(stack, **everything)) == {}


def test_the_consumer_timeout_of_the_servers_own_configuration_is_named() -> None:
    own = {"rabbitmq_config": {"consumer_timeout": 1000}, "rabbitmq_consumer_timeout": "4h"}
    finding = only(with_server(RABBITMQ, consumer_timeout=1, variables=own), "consumer-timeout")
    assert (finding.problem.variable, finding.problem.value) == ("rabbitmq_config.consumer_timeout", 1000)


def test_delayed_tasks_without_quorum_queues() -> None:
    classic = {"queues": {"default": "classic", "payments": "classic"}, "longest_eta": 600}
    given = frozenset({"celery_app_longest_eta"})
    assert only(with_app(**classic, given=given), "eta-in-worker").problem.variable == "celery_app_queue_type"
    assert found(with_app(**classic)) == {}
    mixed = {"queues": {"default": "classic", "payments": "quorum"}, "given": given}
    assert found(with_app(**mixed)) == {}
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
    assert finding.problem.variable == "celery_app_settings.worker_detect_quorum_queues"
    classic = {"queues": {"default": "classic"}, "longest_task": 60}
    assert found(with_app(own_settings=off, **classic)) == {}
    assert found(with_app(own_settings={"worker_detect_quorum_queues": True})) == {}


def test_tasks_that_nobody_confirms() -> None:
    own = {"own_settings": {"broker_transport_options": {"confirm_publish": False}}}
    finding = only(with_app(**own), "fragile-messages")
    assert finding.problem.variable == "celery_app_settings.broker_transport_options.confirm_publish"
    assert (finding.problem.value, finding.subject, finding.app) == (False, "confirm_publish", "shop")
    assert found(with_app(**own, **REDIS_BROKER)) == {}
    # The first app has Redis as its broker, and the next one is looked at all the same.
    stack = with_app(**own)
    both = {"cache": replace(SHOP, name="cache", hosts=(), classes=(), **REDIS_BROKER), "shop": stack.apps["shop"]}
    assert "fragile-messages" in found(replace(stack, apps=both))
    for options in ({"confirm_publish": True}, {"confirm_publish": None}, {}, None, "confirm_publish"):
        assert found(with_app(own_settings={"broker_transport_options": options})) == {}


@pytest.mark.parametrize("mode", [1, "transient"])
def test_tasks_that_no_disk_keeps(mode: Any) -> None:
    own = {"own_settings": {"task_default_delivery_mode": mode}}
    mixed = {"queues": {"default": "quorum", "payments": "classic"}}
    finding = only(with_app(**own, **mixed), "fragile-messages")
    assert finding.problem.variable == "celery_app_settings.task_default_delivery_mode"
    assert (finding.problem.value, finding.subject, finding.app) == (mode, "task_default_delivery_mode", "shop")
    assert found(with_app(**own)) == found(with_app(**own, **mixed, **REDIS_BROKER)) == {}
    assert found(with_app(own_settings={"task_default_delivery_mode": "persistent"}, **mixed)) == {}
    assert found(with_app(own_settings={"task_default_delivery_mode": 2}, **mixed)) == {}


def test_an_old_celery_is_named_with_what_wins_over_it() -> None:
    lines = (("celery_app_source.packages", "shop==1"), ("celery_app_source.constraints", " celery==5.3.6 "))
    finding = only(with_app(requirements=lines), "old-celery")
    assert (finding.problem.value, finding.subject) == ("celery==5.3.6", "celery")
    assert finding.problem.reason == "is too old: this collection supports Celery 5.4 to 5.7"
    assert finding.problem.instead == "celery>=5.4, there or in celery_app_source.overrides, which wins"
    kombu = only(with_app(requirements=(("celery_app_source.overrides", "kombu<5.3"),)), "old-celery")
    assert kombu.problem.reason == "is too old: Celery 5.4 to 5.7 takes kombu 5.3.4 or newer"
    assert kombu.problem.instead == "kombu>=5.3.4"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("celery==5.3.6", "celery"),
        ("celery==5.4.0", ""),
        ("celery==5.*", ""),
        ("celery==5.3.*", "celery"),
        ("celery==4.*", "celery"),
        ("Celery[redis] <= 5.3 ; python_version > '3.8'", "celery"),
        ("celery<=5.4", ""),
        ("celery<5.4", "celery"),
        ("celery<5.5", ""),
        ("celery<6,>=5.3", ""),
        ("celery~=5.3", ""),
        ("celery~=5.3.1", "celery"),
        ("celery~=5.4.1", ""),
        ("celery~=4.4", "celery"),
        ("celery>=5.3", ""),
        ("celery!=5.6", ""),
        ("celery", ""),
        ("kombu===5.3.3", "kombu"),
        ("kombu==5.3.*", ""),
        ("kombu==5.2.0 --hash=sha256:00", "kombu"),
        ("kombu==5.2.0 \\", "kombu"),
        ("celery-redbeat==2.2.0", ""),
        ("# celery==4.4", ""),
        ("shop==1.0  # celery==4.4", ""),
        ("-e git+https://example.org/celery", ""),
        ("celery===odd version", ""),
        ("celery==5.3.6 ; python_version >= '3.8' and python_version < '4.0'", "celery"),
        ("celery==5.3.6 ; python_full_version < '3.9'", ""),
        ("celery==5.3.6 ; python_version >= '3.13'", ""),
        ("celery==5.3.6 ; sys_platform == 'win32'", ""),
        ("celery==5.3.6 ; sys_platform != 'win32'", "celery"),
        ("celery==5.3.6 ; platform_machine == 'aarch64'", ""),
        ("celery==5.3.6 ; extra == 'tasks' and python_version > '3.6'", "celery"),
        ("", ""),
    ],
)
def test_lines_that_rule_out_every_supported_version(line: str, name: str) -> None:
    assert too_old(line) == name


def test_a_line_for_another_host_rules_nothing_out() -> None:
    for line in ("celery==5.5.3 ; python_version < '3.9'", "celery==5.5.3 ; sys_platform == 'darwin'"):
        assert not rules_out(line, "celery", (5, 6))
        assert pinned(line) == ("", "")
    assert rules_out("celery==5.5.3 ; python_version >= '3.9'", "celery", (5, 6))
    assert pinned("celery==5.5.3 ; python_version >= '3.9'") == ("celery", "5.5.3")


FROZEN = ("billiard==4.2", "celery==5.7.0", "shop==1.4.2", "vine==5.1")


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (FROZEN, {"billiard", "celery", "shop", "vine"}),
        ((*FROZEN, "Celery_RedBeat[x]==2.4 ; python_version > '3'  # for beat"), {"celery-redbeat"}),
        ((*FROZEN, "gevent==24.1 \\", "    --hash=sha256:00", "--index-url https://x", "# -r y", ""), {"gevent"}),
        ((*FROZEN, "mails @ git+https://git.example.org/mails@abc"), {"mails"}),
        (("billiard", "vine"), {"billiard", "vine"}),
        (FROZEN[1:], set()),
        (FROZEN[:-1], set()),
        ((*FROZEN, "-r base.txt"), set()),
        ((*FROZEN, "--requirement base.txt"), set()),
        ((*FROZEN, "--editable ."), set()),
        ((*FROZEN, "./shop-1.4.2.whl"), set()),
        ((*FROZEN, "git+https://git.example.org/shop"), set()),
        ((), set()),
    ],
)
def test_requirements_that_name_every_package(lines: tuple[str, ...], names: set[str]) -> None:
    found = everything(lines)
    assert names <= found
    assert bool(names) is bool(found)


def frozen(*more: str, **changes: Any) -> Deployment:
    lines = tuple(("celery_app_source.requirements", line) for line in (*FROZEN, *more))
    return with_app(**{"requirements": lines, **changes})


@pytest.mark.parametrize(
    ("scheduler", "package"),
    [
        ("redbeat.RedBeatScheduler", "celery-redbeat"),
        ("redbeat:RedBeatScheduler", "celery-redbeat"),
        ("redbeat.schedulers:RedBeatScheduler", "celery-redbeat"),
        ("django_celery_beat.schedulers:DatabaseScheduler", "django-celery-beat"),
    ],
)
def test_a_scheduler_whose_package_is_not_installed(scheduler: str, package: str) -> None:
    duties = beats(scheduler).duties
    finding = only(replace(frozen(), duties=duties), "missing-package")
    assert (finding.problem.variable, finding.problem.value) == ("celery_beat_scheduler", scheduler)
    assert (finding.subject, finding.app) == (package, "shop")
    assert finding.problem.reason == f"needs {package}, which is not among the packages of shop"
    assert found(replace(frozen(f"{package}==2"), duties=duties)) == {}
    # Another package may bring it, or somebody else install it.
    assert found(replace(STACK, duties=duties)) == {}
    listed = with_app(requirements=(("celery_app_source.packages", "shop==1.4.2"),))
    assert found(replace(listed, duties=duties)) == {}
    assert found(replace(frozen(), duties=(replace(duties[0], app="blog"),))) == {}
    inside = {"variables": {**SHOP.variables, "celery_app_source": {"requirements_file": "requirements.txt"}}}
    assert found(replace(frozen(**inside), duties=duties)) == {}
    constraints = tuple(("celery_app_source.constraints", line) for line in FROZEN)
    assert found(replace(with_app(requirements=constraints), duties=duties)) == {}
    setting = replace(frozen(own_settings={"beat_scheduler": scheduler}), duties=beats("").duties)
    assert only(setting, "missing-package").problem.variable == "celery_app_settings.beat_scheduler"


def test_packages_that_nothing_is_known_of_are_not_missed() -> None:
    for scheduler in ("", "shop.beat:Scheduler", "redbeater.Scheduler", "celery.beat.PersistentScheduler"):
        assert found(replace(frozen(), duties=beats(scheduler).duties)) == {}


@pytest.mark.parametrize(
    ("changes", "package", "variable"),
    [
        ({"results_at": "django-db"}, "django-celery-results", "celery_app_result_backend"),
        ({"results_at": "django-cache"}, "django-celery-results", "celery_app_result_backend"),
        (
            {"classes": (replace(HIGH, pool="gevent"), DEFAULT, replace(HIGH, pool="gevent", host="app2"))},
            "gevent",
            "celery_worker_classes.high.pool",
        ),
    ],
)
def test_what_else_needs_a_package(changes: dict[str, Any], package: str, variable: str) -> None:
    finding = only(frozen(**changes), "missing-package")
    assert (finding.problem.variable, finding.subject) == (variable, package)
    assert found(frozen(package, **changes)) == {}


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
    def told(settings: Mapping[str, Any], **variables: Any) -> list[str]:
        stack = with_server(RABBITMQ, version=version, variables=variables)
        return list(found(replace(stack, apps={"shop": replace(SHOP, settings=settings)})))

    shared = {f"{queue}_exclusive": False}
    assert told(shared) == ([rule] if rule else [])
    assert told({**shared, f"{queue}_durable": True}) == []
    assert told({f"{queue}_exclusive": True}) == []
    feature = "deprecated_features.permit.transient_nonexcl_queues"
    assert told(shared, rabbitmq_config={feature: True}) == []
    assert told(shared, rabbitmq_config={feature: False}) == ["shared-system-queues"]
    assert told(shared, rabbitmq_config={feature: "false"}) == ["shared-system-queues"]
    assert told({f"{queue}_exclusive": True}, rabbitmq_config={feature: False}) == []


def test_a_celery_without_exclusive_queues_where_others_are_denied() -> None:
    server = replace(RABBITMQ, variables={"rabbitmq_config": {DENIED: False}})
    place, reason = "celery_app_source.packages", "is a Celery before 5.6, whose queues for remote control are neither"

    def stack(line: str, *servers: Server) -> Deployment:
        return apps(replace(SHOP, requirements=((place, line),)), servers=(*servers, REDIS))

    assert only(stack("celery==5.5.3", server), "shared-system-queues").problem == Problem(
        "test",
        place,
        "celery==5.5.3",
        f"{reason} durable nor exclusive, which rabbitmq_config denies",
        f"celery>=5.6, or leave {DENIED} out",
    )
    assert found(stack("celery==5.6.3", server)) == {}
    assert found(stack("celery==5.5.3", RABBITMQ)) == {}


# Resources and times


@pytest.mark.parametrize(("stop", "fits"), [(3599, False), (3600, True)])
def test_a_stop_that_cuts_tasks_off(stop: int, fits: bool) -> None:
    slow = {"time_limit": HOUR, "prefetch": 0, "written": {"stop_timeout": "59m"}}
    told = found(with_class(stop_timeout=stop, **slow))
    assert ("stop-timeout" not in told) is fits
    if not fits:
        (finding,) = told["stop-timeout"]
        assert (finding.problem.variable, finding.problem.value) == ("celery_worker_classes.high.stop_timeout", "59m")
        assert "run again from its start" in finding.problem.reason
        assert finding.problem.instead == "at least 1h"
        (finding,) = found(with_class(stop_timeout=stop, late=False, **slow))["stop-timeout"]
        assert "is lost" in finding.problem.reason


def test_arguments_that_no_worker_has() -> None:
    finding = only(with_class(extra_arguments=("-E", "--without-mingl")), "unknown-argument")
    assert (finding.problem.variable, finding.problem.value) == (
        "celery_worker_classes.high.extra_arguments",
        "--without-mingl",
    )
    assert (finding.subject, finding.problem.instead) == ("high", "--without-mingle (did you mean that?)")
    assert found(with_class(extra_arguments=("-E", "-O", "fair", "--heartbeat-interval=10"))) == {}


def test_one_stop_timeout_of_all_classes_is_told_once() -> None:
    where = {"stop_timeout": "celery_worker_defaults.stop_timeout"}
    keys = {"stop_timeout": 300, "written": {"stop_timeout": "5m"}, "origins": where, "prefetch": 0}
    high, default = replace(HIGH, time_limit=600, **keys), replace(DEFAULT, time_limit=HOUR, **keys)
    finding = only(with_app(classes=(high, default)), "stop-timeout")
    assert (finding.problem.variable, finding.subject) == ("celery_worker_defaults.stop_timeout", "")
    assert finding.problem.instead == "at least 1h"
    accepted = with_app(classes=(high, default), accepted=frozenset({"stop-timeout:default"}))
    assert only(accepted, "stop-timeout").subject == "high"


def test_a_stop_timeout_that_nobody_wrote_is_shown_as_it_is() -> None:
    slow = {"time_limit": HOUR, "prefetch": 0, "stop_timeout": 300}
    assert only(with_class(**slow), "stop-timeout").problem.value == "5m"
    assert found(with_class(time_limit=None, stop_timeout=1)) == {}


def test_the_same_class_on_many_hosts_is_told_once() -> None:
    bad = replace(HIGH, max_tasks_per_child=1)
    finding = only(with_app(classes=(bad, DEFAULT, replace(bad, host="app2"))), "one-task-per-child")
    assert (finding.problem.variable, finding.subject) == ("celery_worker_classes.high.max_tasks_per_child", "high")
    assert found(with_class(max_tasks_per_child=2)) == {}


@pytest.mark.parametrize(("soft", "hard", "fits"), [(60, 60, False), (61, 60, False), (59, 60, True), (60, None, True)])
def test_a_soft_limit_from_elsewhere_is_under_the_hard_one(soft: int, hard: int | None, fits: bool) -> None:
    told = found(with_class(soft_time_limit=soft, time_limit=hard, written={"soft_time_limit": soft}))
    assert ("soft-time-limit" not in told) is fits
    if not fits:
        (finding,) = told["soft-time-limit"]
        assert finding.problem.variable == "celery_worker_classes.high.soft_time_limit"
        (finding,) = found(with_class(soft_time_limit=soft, time_limit=hard, written={}))["soft-time-limit"]
        assert finding.problem.variable == "celery_app_settings.task_soft_time_limit"
    both = {"soft_time_limit": soft, "time_limit": hard}
    assert "soft-time-limit" not in found(with_class(**both, written=both))


def sized(memory: int | None = None, cores: int | None = None, **changes: Any) -> Deployment:
    machine = Machine("app1", "app1", memory=memory, cores=cores)
    return replace(with_class(**changes), machines={**STACK.machines, "app1": machine})


def test_the_memory_of_all_classes_fits_into_the_machine() -> None:
    assert found(sized(4 * GIB, memory_max=4 * GIB)) == {}
    finding = only(sized(4 * GIB, memory_max=4 * GIB + 1), "memory")
    assert finding.problem.variable == "celery_worker_classes.high.memory_max"
    assert finding.subject == "app1"
    finding = only(sized(4 * GIB, max_memory_per_child=2 * GIB), "memory")
    assert finding.problem.variable == "celery_worker_classes.high.max_memory_per_child"
    assert (finding.problem.value, finding.problem.instead) == ("8G", "limits that fit into 4G")
    assert found(sized(8 * GIB, max_memory_per_child=2 * GIB)) == {}
    assert found(sized(None, memory_max=999 * GIB)) == {}


def test_classes_of_several_apps_share_a_machine() -> None:
    machines = {**STACK.machines, "app1": Machine("app1", "10.0.0.1", memory=GIB), "blog": Machine("blog", "10.0.0.1")}
    blog = App("blog", classes=(replace(DEFAULT, app="blog", host="blog", memory_max=GIB),), variants=(("blog", {}),))
    stack = replace(with_class(memory_max=GIB), machines=machines)
    finding = only(replace(stack, apps={**stack.apps, "blog": blog}), "memory")
    assert "to 2G (high 1G + default 1G), and it has 1G" in finding.problem.reason
    # What is known of the machine may be said of any of its names.
    machines = {**machines, "app1": Machine("app1", "10.0.0.1"), "blog": Machine("blog", "10.0.0.1", memory=GIB)}
    assert only(replace(stack, machines=machines, apps={**stack.apps, "blog": blog}), "memory") == finding


def test_processes_fit_the_processors() -> None:
    assert found(sized(cores=2, concurrency=32)) == {}
    finding = only(sized(cores=2, concurrency=33), "concurrency")
    assert (finding.problem.variable, finding.problem.value) == ("celery_worker_classes.high.concurrency", 33)
    assert "app1, which has 2 processors, to 33 processes" in finding.problem.reason
    assert "1 processor," in only(sized(cores=1, concurrency=17), "concurrency").problem.reason
    assert found(sized(cores=1, concurrency="auto")) == {}
    assert found(sized(cores=1, concurrency=200, pool="gevent")) == {}


@pytest.mark.parametrize(("pool", "most"), [("prefork", 256), ("threads", 1000), ("gevent", 10_000)])
def test_more_than_any_host_has_a_use_for(pool: str, most: int) -> None:
    assert found(sized(concurrency=most, pool=pool)) == {}
    finding = only(sized(concurrency=most + 1, pool=pool), "concurrency")
    assert f"for pool {pool}" in finding.problem.reason
    assert finding.problem.instead == f"at most {most}" + (", or auto" if pool == "prefork" else "")


# Agreement


def test_producers_and_workers_agree() -> None:
    one, other = {"celery_app_routes": [1], "celery_app_user": "a"}, {"celery_app_routes": [2], "celery_app_user": "b"}
    finding = only(with_app(variants=(("app1", one), ("web1", other))), "differs-between-hosts")
    assert (finding.problem.variable, finding.problem.value) == ("celery_app_routes", [2])
    assert "on web1 is another value than on app1" in finding.problem.reason
    assert found(with_app(variants=(("app1", one), ("web1", one)))) == {}


@pytest.mark.parametrize(
    ("setting", "value", "key", "written"),
    [
        ("worker_prefetch_multiplier", 4, "prefetch_multiplier", 1),
        ("task_time_limit", 60, "time_limit", "90s"),
        ("task_soft_time_limit", 60, "soft_time_limit", 30),
        ("task_acks_late", True, "acknowledgement", "early"),
    ],
)
def test_a_setting_that_the_defaults_of_all_classes_override(setting: str, value: Any, key: str, written: Any) -> None:
    worker = replace(HIGH, written={key: written}, origins={key: f"celery_worker_defaults.{key}"})
    finding = only(with_app(own_settings={setting: value}, classes=(worker, DEFAULT)), "given-twice")
    assert (finding.problem.variable, finding.subject) == (f"celery_app_settings.{setting}", setting)
    own = replace(worker, origins={key: f"celery_worker_classes.high.{key}"})
    assert found(with_app(own_settings={setting: value}, classes=(own, DEFAULT))) == {}
    assert found(with_app(classes=(worker, DEFAULT))) == {}


def test_a_prefetch_multiplier_that_a_setting_overrides() -> None:
    variables = {"celery_app_prefetch_multiplier": 2}
    given = {"given": frozenset(variables), "variables": variables}
    finding = only(with_app(own_settings={"worker_prefetch_multiplier": 4}, **given), "given-twice")
    assert (finding.problem.variable, finding.problem.value) == ("celery_app_prefetch_multiplier", 2)
    assert finding.problem.reason == "has no effect: celery_app_settings.worker_prefetch_multiplier is 4"
    assert found(with_app(own_settings={"worker_prefetch_multiplier": 2}, **given)) == {}
    assert found(with_app(**given)) == {}
    assert found(with_app(own_settings={"worker_prefetch_multiplier": 4}, variables=variables)) == {}


def test_the_same_value_twice_is_no_contradiction() -> None:
    for setting, value, key, written in (
        ("task_time_limit", 60, "time_limit", "60s"),
        ("task_time_limit", 60.0, "time_limit", "60s"),
        ("task_acks_late", True, "acknowledgement", "late"),
        ("task_acks_late", False, "acknowledgement", "early"),
    ):
        worker = replace(HIGH, written={key: written}, origins={key: f"celery_worker_defaults.{key}"})
        assert found(with_app(own_settings={setting: value}, classes=(worker, DEFAULT))) == {}


@pytest.mark.parametrize(
    ("setting", "value", "variable", "given", "same"),
    [
        ("beat_scheduler", "a.Scheduler", "celery_beat_scheduler", "b.Scheduler", "a.Scheduler"),
        ("beat_max_loop_interval", 60, "celery_beat_max_interval", "90s", "1m"),
    ],
)
def test_a_setting_that_a_variable_of_beat_overrides(
    setting: str, value: Any, variable: str, given: Any, same: Any
) -> None:
    def told(said: Any, **changes: Any) -> Deployment:
        duty = Duty("celery_beat", "shop", "app1", {variable: said})
        return replace(with_app(own_settings={setting: value}), duties=(replace(duty, **changes),))

    finding = only(told(given), "given-twice")
    assert (finding.problem.variable, finding.problem.value) == (f"celery_app_settings.{setting}", value)
    assert (finding.problem.reason, finding.subject) == (f"has no effect: {variable} is {given}", setting)
    assert found(told(same)) == found(told("")) == found(told(0)) == found(told(given, app="blog")) == {}
    assert found(replace(told(given), apps={"shop": SHOP})) == {}


def test_a_limit_without_an_end_is_compared_all_the_same() -> None:
    worker = replace(HIGH, written={"time_limit": "60s"}, origins={"time_limit": "celery_worker_defaults.time_limit"})
    endless = with_app(own_settings={"task_time_limit": float("inf")}, classes=(worker, DEFAULT))
    assert only(endless, "given-twice").subject == "task_time_limit"


def test_a_line_of_rabbitmq_conf_and_its_variable() -> None:
    variables = {"rabbitmq_config": {"management.tcp.port": 1}, "rabbitmq_management_port": 15672}
    given = frozenset({"rabbitmq_management_port"})
    finding = only(with_server(RABBITMQ, variables=variables, given=given), "given-twice")
    assert (finding.problem.variable, finding.problem.value) == ("rabbitmq_config.management.tcp.port", 1)
    assert found(with_server(RABBITMQ, variables=variables)) == {}


def test_one_port_for_two() -> None:
    flower = Duty("flower", "shop", "mq1", {"flower_port": 5555})
    assert found(replace(STACK, duties=(flower,))) == {}
    assert (
        only(replace(STACK, duties=(replace(flower, variables={"flower_port": 6379}),)), "port-twice").subject == "mq1"
    )
    machines = {**STACK.machines, "alias": Machine("alias", "mq1")}
    two = replace(STACK, machines=machines, duties=(flower, replace(flower, app="blog", host="alias")))
    finding = only(two, "port-twice")
    assert (finding.problem.variable, finding.problem.value) == ("flower_port", 5555)
    assert "on alias is taken by flower_port of mq1" in finding.problem.reason
    elsewhere = (flower, replace(flower, host="app1"))
    assert found(replace(STACK, duties=elsewhere)) == {}
    management = with_server(RABBITMQ, variables={"rabbitmq_management_port": 6379})
    assert only(management, "port-twice").problem.variable == "rabbitmq_management_port"


# Found by whole inventories first


def test_an_inventory_has_a_duty_for_somebody() -> None:
    finding = only(Deployment(groups={"all": ["web1"], "web": ["web1"], "redis": []}), "no-duty")
    assert finding.problem.value == ["web"]
    # A misspelt group is told as such, and its classes are not told to be nowhere.
    groups = {"celery_worker": ["app1"]}
    only(Deployment(groups=groups, unplaced={"high": ("app1",)}), "unknown-group")


def test_a_host_runs_the_app_that_it_carries() -> None:
    finding = only(replace(STACK, strays=(("celery_worker_app", "crm", "app1", "shop"),)), "another-app")
    assert (finding.problem.variable, finding.problem.value) == ("celery_worker_app", "crm")


def test_a_weak_password_is_never_shown() -> None:
    finding = only(with_app(weak_passwords={"celery_app_broker_url": "is empty"}), "weak-password")
    assert (finding.subject, finding.problem.value) == ("celery_app_broker_url", "(not shown)")


def test_quorum_queues_have_no_priorities() -> None:
    own = {"own_settings": {"task_queue_max_priority": 10}}
    only(with_app(**own), "priority-on-quorum")
    assert "priority-on-quorum" not in found(with_app(**own, queues={"default": "classic", "payments": "classic"}))


def test_flowers_own_celery_is_new_enough() -> None:
    duty = Duty("flower", "shop", "app1", {"flower_packages": ["flower>=2.2", "celery==5.3"]})
    assert only(replace(STACK, duties=(duty,)), "old-celery").problem.variable == "flower_packages"


@pytest.mark.parametrize("name", ["celery_app_broker_url", "celery_app_result_backend", "celery_app_once_url"])
def test_hosts_of_one_app_with_different_servers(name: str) -> None:
    one, other = {name: ("mq1:5672/shop",)}, {name: ("mq2:5672/shop",)}
    variants = (("app1", one), ("web1", other))
    # What nobody sets is worked out: who is told of a server in a wrong way, is another rule's.
    assert found(with_app(variants=variants)) == {}
    finding = only(with_app(variants=variants, given=frozenset({name})), "another-server")
    assert (finding.problem.variable, finding.problem.value, finding.subject) == (name, "mq2:5672/shop", name)
    assert "on web1 is another server than on app1, mq1:5672/shop" in finding.problem.reason
    assert found(with_app(variants=(("app1", one), ("web1", one)))) == {}
    none_there = (("app1", {name: ()}), ("web1", one))
    assert only(with_app(variants=none_there, given=frozenset({name})), "another-server")


def test_processes_of_one_app_with_different_accounts() -> None:
    stack = replace(STACK, accounts=(("celery_beat_user", "third", "app1", "shop", "shop"),))
    finding = only(stack, "different-accounts")
    assert (finding.problem.variable, finding.problem.value) == ("celery_beat_user", "third")
    assert finding.problem.instead.startswith("celery_app_user for all of them")


# Rules look at all there is, and say exactly what is meant


def apps(*several: App, **changes: Any) -> Deployment:
    return replace(STACK, **{"apps": {app.name: app for app in several}, **changes})


def named(name: str, **changes: Any) -> App:
    """An app of its own, as the shop but without classes, unless ``changes`` say otherwise."""
    own = {"name": name, "classes": (), "variables": {"celery_app_key_prefix": f"{name}:"}, **changes}
    return replace(SHOP, **own)


def told(deployment: Deployment, rule: str) -> list[str]:
    return [str(finding.problem) for finding in found(deployment).get(rule, [])]


def test_the_visibility_timeout_of_every_app_is_looked_at() -> None:
    short = {**REDIS_BROKER, "visibility_timeout": HOUR}
    own = {"own_settings": {"broker_transport_options": {"visibility_timeout": 1}}}
    stack = apps(named("a"), named("b", **short, **own), named("c", **short))
    assert told(stack, "visibility-timeout") == [
        (
            "celery_app_visibility_timeout: '1h' is not above celery_app_longest_eta, 1h: such a task would run twice; "
            "write more than 1h, or leave it out: it is derived then"
        )
    ]


def test_the_timeouts_of_every_two_apps_on_one_redis_are_compared() -> None:
    same, other = {"celery_app_key_prefix": "shop:"}, {"visibility_timeout": 4 * HOUR}
    shop = named("shop", **REDIS_BROKER)
    second = {**REDIS_BROKER, "variables": same, **other, "broker_addresses": ("mq2:6379/0", "mq1:6379/0")}
    rule = "different-visibility-timeouts"
    assert [finding.app for finding in found(apps(shop, named("blog", **second)))[rule]] == ["blog"]
    # Apart from the first app, but not from the second.
    crm = named("crm", **{**second, "variables": {"celery_app_key_prefix": "c:"}, "broker_addresses": ("mq2:6379/0",)})
    late = {**second, "variables": {"celery_app_key_prefix": "c:"}, "visibility_timeout": 5 * HOUR}
    stack = apps(shop, crm, named("late", **{**late, "broker_addresses": ("mq1:6379/0", "mq2:6379/0")}))
    assert [finding.problem.reason.split()[4] for finding in found(stack)[rule]] == ["crm"]


def test_every_server_and_every_app_have_their_consumer_timeout_looked_at() -> None:
    patient = replace(RABBITMQ, consumer_timeout=0)
    other = named("other", **REDIS_BROKER)
    stack = apps(other, named("idle"), replace(SHOP, longest_task=HOUR), servers=(patient, RABBITMQ))
    assert [finding.app for finding in found(stack)["consumer-timeout"]] == ["shop"]


def test_a_worker_that_takes_all_holds_delayed_tasks_only() -> None:
    classic = {"queues": {"default": "classic", "payments": "classic"}, "classes": (replace(HIGH, prefetch=None),)}
    assert "consumer-timeout" in found(with_app(**classic, longest_eta=2 * HOUR))
    assert "consumer-timeout" not in found(with_app(**classic, longest_eta=2 * HOUR - 1))


@pytest.mark.parametrize(
    ("names", "shown"),
    [("a", "class a"), ("ab", "classes a, b"), ("abc", "classes a, b, c"), ("abcd", "classes a, b, c, ...")],
)
def test_three_classes_that_take_all_are_named(names: str, shown: str) -> None:
    classes = tuple(replace(HIGH, name=name, queues=(f"q{name}",), prefetch=None) for name in names)
    (finding,) = found(with_app(classes=classes))["unlimited-prefetch"]
    assert f"lets {shown} take all messages" in finding.problem.reason


def test_settings_that_must_not_be_are_shown_as_they_are() -> None:
    assert told(with_app(own_settings={"worker_detect_quorum_queues": False}), "global-prefetch") == [
        (
            "celery_app_settings.worker_detect_quorum_queues: False makes workers ask for a global prefetch, which "
            "quorum queues refuse; write true, or leave it out"
        )
    ]
    server = replace(RABBITMQ, variables={"rabbitmq_config": {DENIED: False}})
    stack = apps(replace(SHOP, settings={"event_queue_exclusive": False}), servers=(server, REDIS))
    assert told(stack, "shared-system-queues") == [
        (
            "celery_app_settings.event_queue_exclusive: False makes queues that are neither durable nor exclusive, "
            "which rabbitmq_config denies; write true, or leave it out"
        )
    ]


def test_a_server_that_permits_such_queues_hides_no_other() -> None:
    permitted = {"rabbitmq_config": {"deprecated_features.permit.transient_nonexcl_queues": "true"}}
    servers = (replace(RABBITMQ, version=(4, 3), variables=permitted), replace(RABBITMQ, version=(4, 3)))
    stack = apps(replace(SHOP, settings={"control_queue_exclusive": False}), servers=servers)
    assert len(found(stack)["perhaps-shared-system-queues"]) == 1


def test_a_stop_may_take_longer_than_a_task() -> None:
    assert found(with_class(time_limit=HOUR, stop_timeout=HOUR + 1, prefetch=0)) == {}


def test_a_soft_limit_says_which_hard_limit_it_has_to_stay_under() -> None:
    def instead(*keys: str, **written: Any) -> list[str]:
        limits = {"soft_time_limit": 60, "time_limit": 60}
        stack = with_class(**limits, written={**dict.fromkeys(keys, 60), **written})
        return [finding.problem.instead for finding in found(stack).get("soft-time-limit", [])]

    assert instead("soft_time_limit") == ["less than task_time_limit, which is 60s"]
    assert instead("time_limit") == ["less than 1m, the time limit of class high"]
    assert instead("soft_time_limit", "time_limit", queues=["payments"]) == []
    late = replace(DEFAULT, soft_time_limit=60, time_limit=60)
    assert len(found(with_app(classes=(HIGH, late)))["soft-time-limit"]) == 1


def test_one_task_per_child_is_shown_as_it_is() -> None:
    finding = only(with_class(max_tasks_per_child=1), "one-task-per-child")
    assert finding.problem.value == 1


def test_what_automatic_concurrency_may_take_is_known_where_the_processors_are() -> None:
    children = {"concurrency": "auto", "max_memory_per_child": 2 * GIB}
    assert found(sized(8 * GIB, cores=4, **children)) == {}
    assert found(sized(9 * GIB, cores=4, **children)) == {}
    finding = only(sized(7 * GIB, cores=4, **children), "memory")
    assert (finding.problem.variable, finding.problem.value) == (
        "celery_worker_classes.high.max_memory_per_child",
        "8G",
    )
    # A class without limits is no part of it.
    assert "to 8G (high 8G), and it has 7G" in finding.problem.reason
    assert found(sized(2 * GIB, cores=None, **children)) == {}
    assert found(sized(4 * GIB, cores=4, **children, memory_max=4 * GIB)) == {}


def test_every_machine_is_looked_at() -> None:
    machines = {
        **STACK.machines,
        "app2": Machine("app2", "app2", memory=GIB, cores=1),
        "app3": Machine("app3", "app3", memory=GIB, cores=1),
    }
    big = replace(HIGH, host="app3", concurrency=17, memory_max=2 * GIB)
    stack = with_app(classes=(HIGH, replace(HIGH, host="app2"), big))
    told = found(replace(stack, machines=machines))
    assert [finding.subject for finding in told["memory"]] == ["app3"]
    assert [finding.problem.instead for finding in told["concurrency"]] == [
        "at most 16 for all classes of the host, or pool: threads or gevent"
    ]
    assert "at most 48 for" in only(sized(cores=3, concurrency=49), "concurrency").problem.instead


def test_a_machine_of_several_names_is_called_by_the_first() -> None:
    names = {name: Machine(name, "10.0.0.1", memory=GIB) for name in ("app1", "app2")}
    stack = with_app(classes=(HIGH, replace(DEFAULT, host="app2", memory_max=2 * GIB)))
    (finding,) = found(replace(stack, machines={**STACK.machines, **names}))["memory"]
    assert finding.subject == "app1"


def test_ports_that_are_not_known_are_not_taken() -> None:
    machines = {**STACK.machines, "alias": Machine("alias", "mq1")}
    rabbits = (RABBITMQ, replace(RABBITMQ, host="alias", port=5673))
    flowers = (Duty("flower", "shop", "mq1"), Duty("flower", "blog", "alias"))
    stack = replace(STACK, machines=machines, servers=rabbits, duties=flowers)
    assert "port-twice" not in found(stack)
    assert told(replace(stack, servers=(RABBITMQ, replace(RABBITMQ, host="alias"))), "port-twice") == [
        "rabbitmq_port: 5672 on alias is taken by rabbitmq_port of mq1; write another port"
    ]


def test_the_two_ports_of_one_rabbitmq_are_its_roles_own_check() -> None:
    assert found(with_server(RABBITMQ, variables={"rabbitmq_management_port": 5672})) == {}


@pytest.mark.parametrize(
    ("line", "name"), [("celery===odd", ""), ("celery==5.8", ""), ("celery~=6.1", ""), ("celery==5.3 --x #", "celery")]
)
def test_versions_that_are_none_or_newer(line: str, name: str) -> None:
    assert too_old(line) == name


def test_what_nobody_says_of_a_deployment_is_nothing() -> None:
    assert (App("shop").longest_eta, App("shop").longest_task, App("shop").visibility_timeout) == (0, 0, 0)
    assert (Server("redis", "mq1").port, Server("redis", "mq1").consumer_timeout) == (0, 0)
    assert RunningClass("shop", "app1", "high", ()).stop_timeout == 0


def test_a_class_of_unknown_concurrency_takes_what_one_process_takes_at_least() -> None:
    assert replace(HIGH, concurrency="auto", max_memory_per_child=GIB).memory == GIB
    assert replace(HIGH, concurrency=3, max_memory_per_child=GIB).memory == 3 * GIB
    assert replace(HIGH, concurrency=3, max_memory_per_child=GIB, memory_max=2 * GIB).memory == 2 * GIB
    assert HIGH.memory == 0


def test_every_worker_of_a_class_counts() -> None:
    assert replace(HIGH, workers=3, memory_max=GIB).memory == 3 * GIB
    assert found(sized(3 * GIB, memory_max=GIB, workers=3)) == {}
    assert only(sized(3 * GIB - 1, memory_max=GIB, workers=3), "memory").subject == "app1"
    children = {"concurrency": "auto", "max_memory_per_child": GIB}
    assert found(sized(8 * GIB, cores=2, workers=4, **children)) == {}
    assert "high 8G" in only(sized(7 * GIB, cores=2, workers=4, **children), "memory").problem.reason
    finding = only(sized(cores=1, concurrency=4, workers=5), "concurrency")
    assert "to 20 processes" in finding.problem.reason
    assert found(sized(cores=2, concurrency=4, workers=5)) == {}


def test_every_worker_of_a_class_is_a_node() -> None:
    twin = replace(HIGH, host="app9", name="high-2")
    machines = {**STACK.machines, "app9": Machine("app9", "app1")}
    stack = replace(with_app(classes=(replace(HIGH, workers=2), twin)), machines=machines)
    (finding,) = found(stack)["same-node-name"]
    assert "two workers would be high-2@app1" in finding.problem.reason


def test_the_policy_of_the_highest_priority_acts() -> None:
    def acts(*priorities: int | None) -> list[str]:
        entries = [
            {"name": f"p{number}", "vhost": "shop", "pattern": "^a", "definition": {}, "priority": priority}
            for number, priority in enumerate(priorities)
        ]
        declared = policies({"rabbitmq_policies": entries}, "policies", "shop")
        return [policy.variable.rpartition(".")[2] for policy in acting(declared, "a", "quorum")]

    assert acts(None, 0, 1) == ["p2"]
    assert acts(None, 0) == ["p0", "p1"]
    assert acts(None, -1) == ["p0"]
    assert acts() == []


@pytest.mark.parametrize(("said", "timeout"), [(0, 0), (-1, 0), (1, 1), ("1", 0), (None, 0)])
def test_the_consumer_timeout_of_a_policy(said: Any, timeout: int) -> None:
    entry = {"name": "p", "vhost": "shop", "pattern": ".", "definition": {"consumer-timeout": said}}
    (policy,) = policies({"rabbitmq_policies": [entry]}, "policies", "shop")
    assert policy.consumer_timeout == timeout


def test_every_place_and_every_object_there_is_looked_at() -> None:
    guest = named("guest", broker_addresses=("mq1:5672/shop",), queues={})
    stack = apps(guest, replace(SHOP, **DEAD))
    second = declaring(stack, users=[{"name": "shop", "password": "long enough"}])
    assert [finding.subject for finding in found(second)["account-of-an-app"]] == ["shop"]
    assert [finding.app for finding in found(declaring(stack, policies=[limit()]))["policy-without-dead-letters"]] == [
        "shop"
    ]
    app = with_app(variables={**SHOP.variables, "celery_app_exchange": "tasks"})
    objects = {
        "queues": [{"vhost": "blog", "name": "payments"}, {"vhost": "shop", "name": "payments", "durable": False}],
        "exchanges": [{"vhost": "blog", "name": "tasks"}, {"vhost": "shop", "name": "tasks", "durable": False}],
    }
    told = found(declaring(app, **objects))["declared-otherwise"]
    assert [finding.problem.variable for finding in told] == ["rabbitmq_queues.payments", "rabbitmq_exchanges.tasks"]


def test_groups_of_others_hide_no_slip() -> None:
    groups = {"web": ["web1"], "celery_worker": ["app1"]}
    (finding,) = found(Deployment(groups=groups))["unknown-group"]
    assert finding.problem.instead == "celery_workers"


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ({}, "has no host, or could not be read"),
        ({"all": ["web1"], "empty": []}, "has no host, or could not be read"),
        ({"all": ["web1"], "web": ["web1"]}, "has no group that this collection knows"),
    ],
)
def test_why_an_inventory_has_nothing_to_do(groups: dict[str, list[str]], reason: str) -> None:
    assert only(Deployment(groups=groups), "no-duty").problem.reason == reason


def test_a_class_without_a_host_is_told_unless_its_group_is() -> None:
    gpu = {"unplaced": {"gpu": ("web1",)}}
    only(Deployment(groups={"all": ["web1"], "web": ["web1"]}, **gpu), "no-duty")
    slip = replace(STACK, groups={**STACK.groups, "celery_worker": ["web1"]}, **gpu)
    assert list(found(slip)) == ["unknown-group"]
    other = replace(STACK, groups={**STACK.groups, "flowers": ["web1"]}, **gpu)
    assert sorted(found(other)) == ["class-without-host", "unknown-group"]


def test_every_class_that_consumes_a_queue_of_another_is_told() -> None:
    others = [replace(DEFAULT, name=name) for name in ("mails", "feeds")]
    own = replace(DEFAULT, name="reports", origins={"queues": "celery_worker_classes.reports.queues"})
    told = found(with_app(classes=(HIGH, DEFAULT, *others, own)))["shared-queue"]
    assert [finding.problem.value for finding in told] == ["mails", "feeds", "default"]


def test_every_beat_is_asked_for_its_redis() -> None:
    stack = beats("celery.beat:PersistentScheduler", "redbeat.RedBeatScheduler")
    bare = replace(stack, apps={"shop": replace(SHOP, has_results=False)})
    assert len(found(bare)["redbeat-without-redis"]) == 1


@pytest.mark.parametrize(
    ("paths", "groups", "said"),
    [
        (("/srv/a", "/srv/./a"), (None, None), "/srv/a is a file of shop as well, on app1: "),
        (("//srv/a", "/srv/a"), (None, None), "/srv/a is a file of shop as well, on app1: "),
        (("/srv/a", "/srv/b"), (None, None), ""),
        # Below the app's own directory, of which each has one.
        (("a", "a"), (None, None), ""),
        (("/srv/a", "/srv/a"), (["celery_workers"], None), "/srv/a is a file of shop as well, on app1: "),
        (("/srv/a", "/srv/a"), (["flower"], None), ""),
        (("/srv/a", "/srv//a/b"), (None, None), "/srv/a/b is below a file of shop on app1 (/srv/a)"),
        (("/srv/a/b/c", "/srv/a"), (None, None), "/srv/a/b/c is below a file of blog on app1 (/srv/a)"),
        (("/srv/a", "/srv/a/b"), (["celery_workers"], None), "/srv/a/b is below a file of shop on app1 (/srv/a)"),
        (("/srv/a", "/srv/a/b"), (["flower"], None), ""),
        (("/srv/a", "/srv/ab"), (None, None), ""),
    ],
)
def test_a_file_of_two_apps_is_told_where_they_meet(paths: tuple[str, str], groups: tuple[Any, Any], said: str) -> None:
    def app(name: str, side: int, host: str) -> App:
        files = ({"number": 3, "path": paths[side], "groups": groups[side], "restarts": None},)
        # Each is on a machine of its own as well.
        return App(name, hosts=(host, f"a-{name}", f"z-{name}"), files=files)

    def told(address: str) -> list[str]:
        deployment = Deployment(
            machines={
                "app1": Machine("app1", "app1"), "app2": Machine("app2", address),
                **{host: Machine(host, host) for host in ("a-shop", "z-shop", "a-blog", "z-blog")},
            },
            apps={"shop": app("shop", 0, "app1"), "blog": app("blog", 1, "app2")},
            groups={"celery_workers": ["app1"], "flower": []},
        )  # fmt: skip
        problems = [
            finding.problem for rule in RULES if rule.name.startswith("file-of") or rule.name == "file-below-a-file"
            for finding in rule.find(deployment)
        ]  # fmt: skip
        assert {problem.variable for problem in problems} <= {"celery_app_files[3].path"}
        return [f"{problem.value} {problem.reason}" for problem in problems]

    found_there = told("app1")
    assert len(found_there) == bool(said)
    assert all(text.startswith(said) for text in found_there)
    assert told("app2") == []
