"""Addresses of brokers and of result stores: which of them work."""

from __future__ import annotations

from typing import Any

import pytest
from app_plans import BACKEND, SECRET, only, planned, refused, settings
from problems import told

from ansible_collections.celeryops.stack.plugins.module_utils.endpoints import server_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.app_servers import broker_kind
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.kernel_limits import LONGEST, size

ONCE = {"shop.nightly": "20h"}
#: id of the message -> addresses that are no broker, and how they are shown.
NO_BROKERS = {
    "empty": {"": ""},
    "transport-for-tests": {
        f"db+postgresql://u:{SECRET}@h/d": "db+postgresql://***@h/d",
        f"sqla+postgresql://u:{SECRET}@h/x@y": "sqla+postgresql://***@y",
        f"postgresql://{SECRET}@h/d": "postgresql://***@h/d",
        f"mongodb://u:{SECRET}@h/x": "mongodb://***@h/x",
        "database://h/x": "database://h/x",
        "sqlite:///x": "sqlite:///x",
        "memory://": "memory://",
        "filesystem://h": "filesystem://h",
        "shop": "(no scheme, not shown)",
        f"amqp:/u:{SECRET}@h": "(no scheme, not shown)",
        f"u:{SECRET}@h": "(no scheme, not shown)",
    },
    "unreadable-address": {f"amqp://u:{SECRET}/x@h:5672/v": "amqp://***@h:5672/v"},
    "names-no-host": {"amqp:///shop": "amqp:///shop", "redis://h1/0;redis:///0": "redis:///0"},
    "mixes-brokers": {
        f"amqp://u:{SECRET}@h/v;redis://u:{SECRET}@h/0": "amqp://***@h/v;redis://***@h/0",
        "amqp://h1/a;redis://h2/0": "amqp://h1/a;redis://h2/0",
    },
}


# Brokers


@pytest.mark.parametrize(
    ("identity", "url"), [(identity, url) for identity, urls in NO_BROKERS.items() for url in urls]
)
def test_what_is_no_broker_is_refused_and_its_password_is_hidden(identity: str, url: str) -> None:
    problem = only(refused(broker_url=url))
    assert told([problem]) == [(identity, "celery_app_broker_url")]
    assert problem.value == NO_BROKERS[identity][url]


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("sqla+postgresql://h", " database"),
        ("sqlite:///x", " database"),
        ("memory://", " tests"),
        ("shop://h", " supports"),
    ],
)
def test_why_it_is_none_is_said(url: str, word: str) -> None:
    assert word in only(refused(broker_url=url)).reason


@pytest.mark.parametrize(
    "url",
    [
        "amqps://u:p@h:5671/v",
        "pyamqp://u:p@h//",
        "rediss://:p@h/0",
        "amqp://u:p@h1/v;amqp://u:p@h2/v",
        "amqp://u:p@[::1]:5672/v",
    ],
)
def test_brokers_are_accepted(url: str) -> None:
    assert planned(broker_url=url)["broker"] == server_of(url.split(":")[0])


def test_the_first_address_tells_the_broker() -> None:
    kinds = [broker_kind(url) for url in ("redis://a/0;amqp://b/", "amqp://a/;redis://b/0", "nonsense", "")]
    assert kinds == ["redis", "rabbitmq", "rabbitmq", "rabbitmq"]


def test_a_broker_and_its_url_are_one() -> None:
    planned(broker="rabbitmq")
    planned(broker="redis", broker_url=BACKEND)
    problems = refused(broker="redis")
    assert told(problems) == [("another-broker", "celery_app_broker")]
    assert problems[0].instead.startswith("rabbitmq,")
    assert only(refused(broker="redis", broker_url="nonsense")).variable == "celery_app_broker_url"


# Results


@pytest.mark.parametrize(
    "url",
    [
        "", "rediss://h/0", "db+postgresql+psycopg://u:p@h/d", "rpc://", "mongodb://h/x", "django-db", "django-cache",
        "shop.backends:Results",
    ],
)  # fmt: skip
def test_result_backends_that_can_work_are_accepted(url: str) -> None:
    planned(result_backend=url)


@pytest.mark.parametrize(
    ("url", "identity"),
    [
        ("file:///x", "file-on-one-host-only"),
        ("filesystem:///x", "file-on-one-host-only"),
        ("cache+memory://", "file-on-one-host-only"),
        ("memory://", "file-on-one-host-only"),
        ("db+sqlite:///x", "file-on-one-host-only"),
        ("db+sqlite+x:///x", "file-on-one-host-only"),
        ("amqp://h", "not-a-result-backend"),
        ("nonsense", "no-backend-address"),
        ("redis:///0", "names-no-host"),
        *((f"redis+socket://{rest}", "names-no-socket") for rest in ("", "/", "/?virtual_host=3", "h", "h/")),
        ("redis+socket://:s3@cret/run/a@b.sock", "unreadable-address"),
    ],
)
def test_result_backends_that_cannot_work_are_refused(url: str, identity: str) -> None:
    assert told(refused(result_backend=url)) == [(identity, "celery_app_result_backend")]


@pytest.mark.parametrize("path", ["", "/", "/0", "/15", "//3/"])
def test_databases_of_redis(path: str) -> None:
    planned(broker_url=f"redis://u:p@h{path}", result_backend=f"rediss://u:p@h:6380{path}")


@pytest.mark.parametrize("path", ["/shop", "/-1", "/0/1", "/1a"])
@pytest.mark.parametrize("variable", ["broker_url", "result_backend"])
def test_what_is_no_database_of_redis(path: str, variable: str) -> None:
    problem = only(refused(**{variable: f"redis://u:{SECRET}@h:6379{path}"}))
    assert told([problem]) == [("names-a-database-of-redis", f"celery_app_{variable}")]
    assert problem.value == f"redis://***@h:6379{path}"
    assert problem.instead == "redis://user:password@h:6379/0"


def test_a_password_with_a_slash_behind_digits_is_no_database() -> None:
    problem = only(refused(result_backend=f"redis://u:6379/{SECRET}@h/0"))
    assert told([problem]) == [("unreadable-address", "celery_app_result_backend")]
    assert "urlencode | replace('/', '%2F')" in problem.instead
    # kombu takes the beginning for the host, whatever was meant.
    assert only(refused(broker_url="amqp://h/vhost@shop")).id == problem.id
    planned(broker_url="amqp://h/vhost%40shop")


@pytest.mark.parametrize("variable", ["result_backend", "once_url"])
def test_results_in_redis_have_one_address(variable: str) -> None:
    for url in (
        f"redis://u:{SECRET}@h/0;rediss://u:{SECRET}@i/0",
        f"sentinel://u:{SECRET}@h/0;redis://u:{SECRET}@i/0",
        f"redis://u:{SECRET}@h/0; redis://u:{SECRET}@i/0",
    ):
        named = {"result_backend_transport_options": {"master_name": "shop"}}
        problem = only(refused(**{variable: url}, settings=named))
        assert told([problem]) == [("several-result-addresses", f"celery_app_{variable}")]
        assert problem.value == ";".join(part.strip().replace(f"u:{SECRET}", "***") for part in url.split(";"))
    planned(**{variable: "redis://h/0;"})
    if variable == "result_backend":
        planned(result_backend="db+postgresql://h/a;db+postgresql://i/a")


@pytest.mark.parametrize("url", ["redis+socket:///run/redis.sock", "redis+socket://:p@/run/redis.sock?virtual_host=3"])
def test_results_behind_a_unix_socket(url: str) -> None:
    planned(result_backend=url)
    found, by_network = settings(result_backend=url), settings()
    assert {name for name in by_network if name not in found} == {"redis_socket_keepalive"}
    assert only(refused(result_backend=url, once=ONCE)).variable == "celery_app_once"


def test_signs_in_the_address_of_a_unix_socket_are_encoded() -> None:
    planned(result_backend="redis+socket://:s3%40cret@/run/a%40b.sock")


@pytest.mark.parametrize("name", ["broker_url", "result_backend", "once_url"])
def test_an_address_that_no_process_could_be_handed_is_refused(name: str) -> None:
    variable = "CELERYOPS_ONCE_URL" if name == "once_url" else f"CELERY_{name.upper()}"
    url = "redis://cache1/0?note="
    url += "x" * (LONGEST - size(variable, url))
    assert planned(**{name: url})
    for more in ("x", "xx"):
        problem = only(refused(**{name: url + more}))
        assert told([problem]) == [("too-long-in-bytes", f"celery_app_{name}")]
        assert problem.value == "(not shown)"
        assert f" {LONGEST} " in problem.reason


# Sentinels

IN_SENTINELS: dict[str, Any] = {
    "result_backend": "sentinel://a:26379/0;sentinel://b:26379/0",
    "settings": {"result_backend_transport_options": {"master_name": "cache"}},
}


@pytest.mark.parametrize(
    ("variable", "setting"),
    [
        ("broker_url", "broker_transport_options"),
        ("result_backend", "result_backend_transport_options"),
        ("once_url", "result_backend_transport_options"),
    ],
)
def test_sentinels_are_asked_for_a_name(variable: str, setting: str) -> None:
    url = f"sentinel://:{SECRET}@h:26379/0;sentinel://:{SECRET}@i:26379/0"
    problem = only(refused(**{variable: url}))
    assert told([problem]) == [("sentinel-without-master-name", f"celery_app_{variable}")]
    assert problem.value == "sentinel://***@h:26379/0"
    assert (
        problem.instead == f"celery_app_sentinel_master_name, or master_name in celery_app_settings.{setting}, as well"
    )
    assert only(refused(**{variable: url}, settings={setting: {"master_name": ""}})) == problem
    planned(**{variable: url}, settings={setting: {"master_name": "shop"}})
    planned(**{variable: url}, sentinel_master_name="shop")


def test_a_sentinel_that_does_not_answer_is_not_waited_for() -> None:
    times = {"socket_timeout": 3, "socket_connect_timeout": 3, "retry": None}
    own = {"master_name": "cache", "sentinel_kwargs": {"ssl": True, "socket_timeout": 3}}
    for given, expected in (({}, times), (own, {**times, "ssl": True, "socket_timeout": 3})):
        options = {"master_name": "cache", **given}
        found = settings(result_backend="sentinel://a:26379/0", settings={"result_backend_transport_options": options})
        assert found["result_backend_transport_options"]["sentinel_kwargs"] == expected
    assert "sentinel_kwargs" not in settings()["result_backend_transport_options"]


def test_results_in_several_sentinels_are_results_in_redis() -> None:
    # A primary that is silent for three seconds is replaced.
    assert settings(**IN_SENTINELS)["redis_socket_timeout"] == 4


SENTINELS = f"sentinel://shop:{SECRET}@a:26379/0;sentinel://shop:{SECRET}@b:26379/0;sentinel://shop:{SECRET}@c:26379/0"
ASKED: dict[str, Any] = {
    "sentinel_master_name": "celeryops", "sentinel_user": "client", "sentinel_password": f"{SECRET}-of-sentinel",
}  # fmt: skip


@pytest.mark.parametrize(
    "addresses", [{"broker_url": SENTINELS}, {"result_backend": SENTINELS}, {"once_url": SENTINELS}]
)
def test_sentinels_are_asked_with_their_account_and_no_password_is_in_the_settings(addresses: dict[str, str]) -> None:
    plan = planned(**addresses, **ASKED)
    found = plan["configuration"]["settings"]
    expected = {"socket_timeout": 3, "socket_connect_timeout": 3, "retry": None, "username": "client"}
    for setting, variables in (
        ("broker_transport_options", {"broker_url"}),
        ("result_backend_transport_options", {"result_backend", "once_url"}),
    ):
        asked = bool(variables & addresses.keys())
        assert found[setting].get("sentinel_kwargs") == (expected if asked else None)
        assert found[setting].get("master_name") == ("celeryops" if asked else None)
    assert SECRET not in str(plan)


def test_a_redis_of_once_alone_is_asked_for_too() -> None:
    found = settings(result_backend="rpc://", once=ONCE, once_url=SENTINELS, **ASKED)
    assert found["result_backend_transport_options"]["master_name"] == "celeryops"


def test_other_sentinels_have_another_name_and_account() -> None:
    own = {"master_name": "cache", "sentinel_kwargs": {"username": None}}
    found = settings(result_backend=SENTINELS, **ASKED, settings={"result_backend_transport_options": own})
    assert found["result_backend_transport_options"]["master_name"] == "cache"
    assert found["result_backend_transport_options"]["sentinel_kwargs"]["username"] is None


def test_a_publish_outlasts_a_failover() -> None:
    found = settings(broker_url=SENTINELS, **ASKED)
    policy = found["task_publish_retry_policy"]
    intervals = [
        min(policy["interval_start"] + n * policy["interval_step"], policy["interval_max"]) for n in range(200)
    ]
    # kombu pauses after each turn through all addresses.
    assert sum(intervals[: policy["max_retries"] // 3]) > 15
    assert "task_publish_retry_policy" not in settings(broker_url=f"redis://shop:{SECRET}@a/0")
    assert found["broker_transport_options"]["socket_connect_timeout"] == 3


@pytest.mark.parametrize("url", [SENTINELS, f"redis://shop:{SECRET}@a/0", f"rediss://shop:{SECRET}@a/0"])
def test_a_broker_behind_sentinels_is_a_redis(url: str) -> None:
    plan = planned(broker_url=url, longest_task="2h", longest_eta="1h", **ASKED)
    found = plan["configuration"]["settings"]
    assert plan["broker"] == "redis"
    assert found["broker_transport_options"]["visibility_timeout"] == 18600
    assert found["broker_transport_options"]["global_keyprefix"] == "shop:"
    assert not any("type" in queue for queue in plan["queues"]["queues"])
    assert "task_default_queue_type" not in found


# The Redis of celery_app_once


def test_once_needs_a_redis_of_its_own_or_that_of_the_results() -> None:
    planned(once=ONCE)
    planned(once=ONCE, result_backend="rpc://", once_url="redis://h/0")
    planned(once=ONCE, **IN_SENTINELS)
    assert only(refused(once=ONCE, result_backend="rpc://")).variable == "celery_app_once"
    problem = only(refused(once_url=f"amqp://u:{SECRET}@h/"))
    assert (*told([problem]), problem.value) == (("not-a-redis", "celery_app_once_url"), "amqp://***@h/")
    assert told(refused(once_url="redis:///0")) == [("names-no-host", "celery_app_once_url")]
