"""The model of a deployment, from what came of planning each role on each host: apps and worker classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from app_plans import variables as app_variables
from assembled import GIB, GROUPS, app, model, one_class, role, shop, worker

from ansible_collections.celeryops.stack.plugins.plugin_utils.model import build as module
from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import Route, RunningClass

# Apps


def test_the_model_of_an_app() -> None:
    found = shop(
        "celery_app_queues",
        queues=["feeds", {"name": "mails", "type": "classic"}],
        routes=[{"task": "shop.mails.*", "queue": "mails"}],
        longest_eta="1h",
        accept=["memory", "stop-timeout:high"],
    )
    assert (found.name, found.broker, found.default_queue) == ("shop", "rabbitmq", "default")
    assert found.queues == {"default": "quorum", "feeds": "quorum", "mails": "classic", "dead-letters": "quorum"}
    assert found.declared == ("feeds", "mails")
    assert found.routes == (Route("shop.mails.*", "mails"),)
    assert (found.longest_eta, found.longest_task, found.visibility_timeout) == (3600, 1800, 0)
    assert found.accepted == {"memory", "stop-timeout:high"}
    assert found.broker_addresses == ("mq1:5672/shop",)
    assert found.hosts == ("app1",)
    assert found.quorum


def test_queues_that_nobody_declares_are_derived() -> None:
    assert shop(queues=["feeds"]).declared == ()


def test_an_app_on_redis() -> None:
    found = shop(broker_url="redis://h:6379/0", visibility_timeout="4h", settings={"task_acks_late": False})
    assert (found.broker, found.visibility_timeout, found.own_settings) == (
        "redis",
        4 * 3600,
        {"task_acks_late": False},
    )
    assert set(found.queues.values()) == {"classic"}
    assert found.settings["task_acks_late"] is False


@pytest.mark.parametrize(("groups", "broker"), [({"rabbitmq": ["mq1"]}, "rabbitmq"), ({"redis": ["mq1"]}, "redis")])
def test_where_the_url_is_not_known_the_groups_tell_the_broker(groups: dict[str, list[str]], broker: str) -> None:
    found = model({("celery_app", "app1"): app(broker_url=None, broker="")}, groups)
    assert found.apps["shop"].broker == broker


@pytest.mark.parametrize(("own", "timeout"), [({}, 7200), ({"visibility_timeout": "x"}, 0), ("x", 0)])
def test_the_visibility_timeout_in_force(own: Any, timeout: int) -> None:
    found = shop(broker_url="redis://h/0", visibility_timeout="2h", settings={"broker_transport_options": own})
    assert found.visibility_timeout == timeout


@pytest.mark.parametrize(
    ("own", "requirements"),
    [
        ({"source": None}, ()),
        ({"source": {"type": "pip", "packages": ["a", "b==1"]}}, ("source.packages a", "source.packages b==1")),
        (
            {"source": {"requirements": "a\nb\n", "constraints": "c"}, "extra_packages": ["d"]},
            ("extra_packages d", "source.requirements a", "source.requirements b", "source.constraints c"),
        ),
        ({"source": {}, "extra_packages": None}, ()),
    ],
)
def test_lines_that_say_what_a_release_consists_of(own: dict[str, Any], requirements: tuple[str, ...]) -> None:
    found = shop(**{"extra_packages": [], **own}).requirements
    assert tuple(f"{variable.removeprefix('celery_app_')} {line}" for variable, line in found) == requirements


@pytest.mark.parametrize(
    ("own", "weak"),
    [
        ({"broker_url": "amqp://shop:guest@mq1/shop"}, {"celery_app_broker_url": "is a commonly guessed password"}),
        ({"broker_url": "amqp://shop@mq1/shop"}, {"celery_app_broker_url": "is empty"}),
        ({"broker_url": "amqp://billing:billing@mq1/shop"}, {"celery_app_broker_url": "is the user's own name"}),
        ({"broker_url": "amqp://a%62c:ab%63@mq1/shop"}, {"celery_app_broker_url": "is the user's own name"}),
        ({"broker_url": "amqp://shop:guest@127.0.0.1/shop"}, {}),
        ({"broker_url": "amqp://shop:guest@/shop"}, {}),
        ({"broker_url": "amqp://shop:guest@mq1:port/shop"}, {}),
        ({"broker_url": "other://shop:guest@mq1/shop"}, {}),
        (
            {"broker_url": "amqp://a:good-and-long-enough@mq1/;amqp://a:guest@mq2/"},
            {"celery_app_broker_url": "is a commonly guessed password"},
        ),
        ({"once_url": "redis://h/0"}, {"celery_app_once_url": "is empty"}),
        ({"result_backend": "redis://h/0"}, {"celery_app_result_backend": "is empty"}),
        (
            {"result_backend": "db+postgresql://u:secret@db/shop"},
            {"celery_app_result_backend": "is a commonly guessed password"},
        ),
        # Peers are trusted by other means there.
        ({"result_backend": "db+postgresql://u@db/shop"}, {}),
        ({"once_url": "db+postgresql://u:secret@db/shop"}, {}),
        ({"result_backend": ""}, {}),
    ],
)
def test_passwords_that_others_find(own: dict[str, Any], weak: dict[str, str]) -> None:
    assert shop(**{"result_backend": "", **own}).weak_passwords == weak


def test_urls_that_ask_for_less_are_known_without_what_else_they_say() -> None:
    lax = "rediss://u:secret@h/0?ssl_cert_reqs=none"
    variables = {f"celery_app_{name}": ("ssl_cert_reqs=none", "none") for name in ("broker_url", "result_backend")}
    assert shop(broker_url=lax, result_backend=lax).lax_urls == variables
    assert shop(once_url=lax).lax_urls == {"celery_app_once_url": ("ssl_cert_reqs=none", "none")}
    assert shop().lax_urls == {}


@pytest.mark.parametrize(
    ("backend", "shown"),
    [
        ("redis://:secret@cache:6379/1", "Redis at cache:6379/1"),
        ("rediss://cache/1", "Redis at cache:/1"),
        ("sentinel://a:26379/0;sentinel://b:26379/0", "Redis at a:26379/0, b:26379/0"),
        ("db+postgresql://u:secret@db:5432/shop", "postgresql at db:5432/shop"),
        ("rpc://", "rpc"),
        ("django-db", "django-db"),
        ("redis+socket://:secret@/run/redis.sock", "redis+socket"),
        ("redis://cache:port/1", "Redis"),
        ("redis://cache:port/1;redis://b:6379/2", "Redis at b:6379/2"),
        ("", ""),
    ],
)
def test_a_store_of_results_of_ones_own_is_shown_without_credentials(backend: str, shown: str) -> None:
    assert shop("celery_app_result_backend", result_backend=backend).results_at == shown
    assert shop(result_backend=backend).results_at == ""


def test_secrets_stay_out_of_the_model() -> None:
    secret = frozenset({"celery_app_broker_url"})
    found = model({("celery_app", "app1"): replace(app(), secret=secret)})
    assert "celery_app_broker_url" not in found.apps["shop"].variables
    (variant,) = found.apps["shop"].variants
    assert variant[1]["celery_app_broker_url"] == ("mq1:5672/shop",)


def test_hosts_that_are_alike_are_one_kind_unless_they_speak_of_themselves() -> None:
    alike = app()
    two = {("celery_app", "app1"): alike, ("celery_app", "app2"): alike, ("celery_app", "web1"): app()}
    found = model(two).apps["shop"]
    assert found.hosts == ("app1", "app2", "web1")
    assert [host for host, _variables in found.variants] == ["app1", "web1"]
    own = app(once_url="redis://u:p@127.0.0.1/0")
    found = model({("celery_app", "app1"): own, ("celery_app", "app2"): own}).apps["shop"]
    assert [variables["celery_app_once_url"] for _host, variables in found.variants] == [
        ("app1:6379/0",),
        ("app2:6379/0",),
    ]


def test_what_one_host_sets_is_set_for_the_app() -> None:
    found = model({("celery_app", "app1"): app("a"), ("celery_app", "app2"): app("b")}).apps["shop"]
    assert found.given == {"a", "b"}


@pytest.mark.parametrize("address", ["mq1", "10.0.0.9", "MQ1.example.org", "192.0.2.1"])
def test_all_names_of_a_server_are_one(address: str) -> None:
    server = role({"rabbitmq_listen_addresses": ["192.0.2.1", "0.0.0.0"]})
    found = model(
        {("celery_app", "app1"): app(broker_url=f"amqp://{address}/shop"), ("rabbitmq", "mq1"): server},
        said={("mq1", "ansible_host"): "10.0.0.9" if address != "MQ1.example.org" else "mq1.example.org"},
    )
    assert found.apps["shop"].broker_addresses == (f"{found.machines['mq1'].address}:5672/shop",)


@pytest.mark.parametrize(("address", "shown"), [("0.0.0.0", "0.0.0.0"), ("[::]", "::"), ("mq2", "mq2")])
def test_what_is_no_name_of_a_server_stays_as_it_is(address: str, shown: str) -> None:
    server = role({"rabbitmq_listen_addresses": ["0.0.0.0"]})
    found = model({("celery_app", "app1"): app(broker_url=f"amqp://{address}/shop"), ("rabbitmq", "mq1"): server})
    assert found.apps["shop"].broker_addresses == (f"{shown}:5672/shop",)


# Classes


def test_the_model_of_a_class() -> None:
    keys = {
        "queues": ["payments"],
        "pool": "prefork",
        "concurrency": 4,
        "prefetch_multiplier": 2,
        "time_limit": "1h",
        "soft_time_limit": "50m",
        "stop_timeout": "2h",
        "acknowledgement": "early",
        "max_tasks_per_child": 40,
        "max_memory_per_child": "1G",
        "memory_max": "4G",
        "extra_arguments": ["-E"],
    }
    found = one_class(**keys)
    others = {name: getattr(found, name) for name in ("acknowledgement", "prefetch_multiplier", "sandbox")}
    others |= {name: getattr(found, name) for name in ("start_timeout", "watchdog")}
    assert found == RunningClass(
        "shop",
        "app1",
        "high",
        ("payments",),
        concurrency=4,
        prefetch=2,
        time_limit=3600,
        soft_time_limit=3000,
        stop_timeout=7200,
        late=False,
        max_tasks_per_child=40,
        max_memory_per_child=GIB,
        memory_max=4 * GIB,
        extra_arguments=("-E",),
        written=keys,
        origins={key: f"celery_worker_classes.high.{key}" for key in keys},
        **others,
    )


def test_a_class_without_keys_takes_the_settings_of_the_app() -> None:
    plain = one_class()
    assert (plain.queues, plain.concurrency, plain.prefetch) == (("default",), "auto", 1)
    assert (plain.time_limit, plain.soft_time_limit, plain.late, plain.queues_known) == (None, None, True, True)
    own = one_class({"task_time_limit": 60.5, "task_soft_time_limit": 50, "task_acks_late": False})
    assert (own.time_limit, own.soft_time_limit, own.late) == (60, 50, False)
    for odd in (-1, "60", True, float("inf"), None):
        own = one_class({"task_time_limit": odd, "task_soft_time_limit": odd})
        assert (own.time_limit, own.soft_time_limit) == (None, None)
    assert one_class({"task_acks_late": False}, acknowledgement="late").late


def test_queues_that_cannot_be_read_are_not_known() -> None:
    assert not one_class(queues="a b").queues_known


@pytest.mark.parametrize(
    ("settings", "prefetch"),
    [
        ({}, 1),
        ({"worker_prefetch_multiplier": 4}, 4),
        ({"worker_prefetch_multiplier": 0}, None),
        ({"worker_prefetch_multiplier": -1}, 1),
        ({"worker_prefetch_multiplier": "x"}, 1),
        ({"worker_prefetch_multiplier": 0, "worker_disable_prefetch": True}, None),
        (
            {
                "worker_prefetch_multiplier": 0,
                "worker_disable_prefetch": True,
                "broker_transport_options": {"visibility_timeout": 60},
            },
            1,
        ),
        (
            {
                "worker_prefetch_multiplier": 3,
                "worker_disable_prefetch": True,
                "broker_transport_options": {"visibility_timeout": 60},
            },
            3,
        ),
        ({"worker_prefetch_multiplier": 0, "broker_transport_options": {"visibility_timeout": 60}}, None),
    ],
)
def test_how_many_messages_a_worker_takes_in_advance(settings: dict[str, Any], prefetch: int | None) -> None:
    assert one_class(settings).prefetch == prefetch


def test_what_else_a_host_does_hides_no_class() -> None:
    beat = {"celery_beat_app": "shop"}
    hosts = {
        ("celery_app", "app1"): app(),
        ("celery_beat", "app1"): role(beat),
        ("celery_worker", "app1"): worker(),
    }
    assert [one.name for one in model(hosts).classes] == ["default"]


def test_every_host_has_its_own_classes() -> None:
    alike = worker(classes={"high": {}, "gone": {"state": "absent"}})
    found = model(
        {
            ("celery_app", "app1"): app(),
            ("celery_worker", "app1"): alike,
            ("celery_app", "app2"): app(),
            ("celery_worker", "app2"): alike,
            ("celery_app", "app3"): app(),
            ("celery_worker", "app3"): worker(classes={"low": {}}),
        }
    )
    assert [(one.host, one.name) for one in found.classes] == [("app1", "high"), ("app2", "high"), ("app3", "low")]


# The whole


def test_classes_that_only_hosts_without_the_duty_speak_of() -> None:
    groups = {"all": ["app1", "web1", "web2"], "celery_workers": ["app1"]}
    planned = {("celery_app", "app1"): app(), ("celery_worker", "app1"): worker(classes={"high": {}})}
    said = {
        ("app1", "celery_worker_classes"): {"high": {}},
        ("web1", "celery_worker_classes"): {"high": {}, "gpu": {}, "old": {"state": "absent"}, 7: None},
        ("web1", "celery_worker_host_classes"): {"gpu": {"nice": 1}, "mails": {"state": "present"}},
        ("web2", "celery_worker_group_classes"): {"gpu": {}},
        ("web2", "celery_worker_classes"): "none",
    }
    found = model(planned, groups, said=said)
    assert found.unplaced == {"gpu": ("web1", "web2"), "7": ("web1",), "mails": ("web1",)}
    # The workers' own dictionary stands in the place of the one that has it.
    assert found.replaced == {"gpu"}
    del said["app1", "celery_worker_classes"]
    assert model(planned, groups, said=said).replaced == frozenset()
    assert model(planned, {}).unplaced == {}


def test_what_could_not_be_used_anywhere() -> None:
    planned = {
        ("celery_app", "app1"): role(app_variables(), unusable=frozenset({"a"})),
        ("redis", "mq1"): role({}, unusable=frozenset({"b"})),
    }
    assert model(planned).unusable == {"a", "b"}
    assert model(planned).groups is GROUPS


def test_a_number_is_finite_and_no_truth_value() -> None:
    assert [module._number(value, 7) for value in (3, 3.9, -2, True, "3", None, float("inf"), float("nan"))] == [
        3, 3, -2, 7, 7, 7, 7, 7,
    ]  # fmt: skip
