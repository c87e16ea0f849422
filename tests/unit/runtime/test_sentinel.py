"""A process whose Redis is reached through Sentinels."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import redis
from celery import Celery
from celery.app.backends import by_url
from celery.app.utils import filter_hidden_settings
from celery.worker.consumer.connection import Connection as Step
from kombu import Connection
from redis.sentinel import Sentinel

from celeryops_runtime import awaiting, sentinel, silence
from celeryops_runtime.celery_settings import connection_settings
from celeryops_runtime.effective import plain
from celeryops_runtime.once_store import Store
from celeryops_runtime.publish import NotSentError

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "of-sentinel"
URL = "sentinel://shop:p%40ss@s1:26380/2;sentinel://shop:p%40ss@s2/2"
ASKING = {"username": "client", "socket_timeout": 3, "retry": None}
OPTIONS = {"master_name": "celeryops", "global_keyprefix": "shop:", "sentinel_kwargs": ASKING}
GIVEN = {"broker_transport_options": OPTIONS, "result_backend_transport_options": OPTIONS}
ENVIRON = {"CELERYOPS_SENTINEL_PASSWORD": SECRET}


def app(given: dict[str, Any]) -> Celery:
    return Celery("shop", set_as_current=False, changes=dict(given))


@pytest.fixture(autouse=True)
def mended() -> None:
    sentinel.mend()
    sentinel.mend()


@pytest.fixture
def nobody_is_silent() -> Iterator[None]:
    sentinel._silent.clear()
    yield
    sentinel._silent.clear()


def test_the_password_of_the_environment_is_put_where_clients_look_for_it() -> None:
    found = connection_settings(GIVEN, ENVIRON)
    for name in sentinel.OPTIONS:
        assert found[name] == {**OPTIONS, "sentinel_kwargs": {**ASKING, "password": SECRET}}
    # What was read from the file stays as it was.
    assert "password" not in ASKING


@pytest.mark.parametrize(
    ("given", "environ"),
    [
        (GIVEN, {}),
        (GIVEN, {"CELERYOPS_SENTINEL_PASSWORD": ""}),
        ({}, ENVIRON),
        ({"broker_transport_options": None}, ENVIRON),
        ({"broker_transport_options": {"confirm_publish": True}}, ENVIRON),
        ({"broker_transport_options": {"sentinel_kwargs": {"socket_timeout": 3}}}, ENVIRON),
        ({"broker_transport_options": {"sentinel_kwargs": {"username": None}}}, ENVIRON),
        ({"broker_transport_options": {"sentinel_kwargs": {"username": "x", "password": "own"}}}, ENVIRON),
    ],
)
def test_who_asks_without_an_account_or_with_another_gets_no_password(given: Any, environ: dict[str, str]) -> None:
    assert sentinel.settings(given, environ) == {}


def test_each_client_has_the_server_s_account_and_that_of_the_sentinels() -> None:
    """Celery before 5.6 would take the user ``default`` for the server."""
    own = app(sentinel.settings(GIVEN, ENVIRON))
    backend, url = by_url(URL, own.loader)
    pools = [backend(app=own, url=url).client.connection_pool, Store(own, URL, "shop:").client.connection_pool]
    with Connection(URL, transport_options=own.conf.broker_transport_options) as connection:
        transport = connection.transport
        # Its constructor asks the server.
        channel = object.__new__(transport.Channel)
        channel.connection, channel._in_protected_read = SimpleNamespace(client=connection, default_port=26379), False
        channel.active_fanout_queues, channel._fanout_to_queue = set(), {}
        for name in transport.Channel.from_transport_options:
            if name in OPTIONS:
                setattr(channel, name, OPTIONS[name])
        channel.sentinel_kwargs = own.conf.broker_transport_options["sentinel_kwargs"]
        pools.append(channel._sentinel_managed_pool())
    for pool in pools:
        options = pool.connection_kwargs
        assert (options["username"], options["password"], options["db"]) == ("shop", "p@ss", 2)
        assert pool.service_name == "celeryops"
        for one in pool.sentinel_manager.sentinels:
            asked = one.connection_pool.connection_kwargs
            assert (asked["username"], asked["password"]) == ("client", SECRET)
            assert asked["socket_timeout"] == 3
        # A Sentinel that is gone is left at once for the next one.
        connection_to = pool.sentinel_manager.sentinels[0].connection_pool.make_connection()
        assert connection_to.retry._retries == 0


def test_redbeat_is_told_the_same() -> None:
    options = sentinel.settings(GIVEN, ENVIRON)["result_backend_transport_options"]
    found = sentinel.redbeat(URL, options)
    assert found["redbeat_redis_url"] == "redis-sentinel://"
    told = found["redbeat_redis_options"]
    assert told["sentinels"] == [("s1", 26380), ("s2", 26379)]
    assert (told["service_name"], told["username"], told["password"], told["db"]) == ("celeryops", "shop", "p@ss", 2)
    assert told["sentinel_kwargs"] == {**ASKING, "password": SECRET}
    # Longer than a Sentinel waits for a silent primary, and no longer than it takes to replace it.
    assert 3 < told["socket_timeout"] < 5


@pytest.mark.parametrize("url", ["sentinel://s1", "sentinel://s1/"])
def test_redbeat_without_an_account_or_a_database(url: str) -> None:
    told = sentinel.redbeat(url, {})["redbeat_redis_options"]
    assert (told["sentinels"], told["username"], told["db"]) == ([("s1", 26379)], None, 0)


def test_no_worker_tells_the_passwords() -> None:
    options = sentinel.settings(GIVEN, ENVIRON)["broker_transport_options"]
    connection = Connection(URL, transport_options=options)
    sentinel.mend_report()
    sentinel.mend_report()
    told = Step.info(object.__new__(Step), SimpleNamespace(connection=connection))
    text = json.dumps(told)
    assert (SECRET in text, "p%40ss" in text, "p@ss" in text) == (False, False, False)
    assert told["broker"]["transport_options"]["master_name"] == "celeryops"
    assert told["broker"]["hostname"] == "s1"
    assert [address.partition("@")[2] for address in told["broker"]["alternates"]] == ["s1:26380/2", "s2/2"]
    # What it works with has them.
    assert connection.transport_options["sentinel_kwargs"]["password"] == SECRET
    assert Step.info(object.__new__(Step), SimpleNamespace(connection=None)) == {"broker": "N/A"}
    for shown in (filter_hidden_settings({"broker_transport_options": options}), plain("", options)):
        assert SECRET not in str(shown)


@pytest.mark.parametrize(("url", "given", "tries"), [(URL, GIVEN, 1 + awaiting.FAILOVER_TRIES), ("redis://h/0", {}, 2)])
def test_a_task_waits_for_a_failover_of_the_results_and_for_no_other_outage(
    url: str, given: Any, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    awaiting.mend(NotSentError)
    own = app(given)
    backend, address = by_url(url, own.loader)
    store = backend(app=own, url=address)
    times = []

    def subscribe(*_arguments: Any) -> None:
        times.append(1)
        raise redis.exceptions.ConnectionError

    monkeypatch.setattr("kombu.utils.functional.sleep", lambda _seconds: None)
    monkeypatch.setattr(store.result_consumer, "consume_from", lambda _id: store.ensure(subscribe, ()))
    with pytest.raises(NotSentError):
        store.on_task_call(None, "id")
    assert len(times) == tries


@pytest.mark.usefixtures("nobody_is_silent")
def test_a_sentinel_that_gave_no_answer_is_asked_last_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(silence, "_clock", lambda: now[0])
    asked: list[str] = []

    def masters(self: Any) -> dict[str, Any]:
        host = self.connection_pool.connection_kwargs["host"]
        asked.append(host)
        if host == "s1":
            raise redis.exceptions.TimeoutError
        return {"celeryops": {"ip": "r1", "port": 6379, "is_master": True, "is_sdown": False, "is_odown": False,
                              "num-other-sentinels": 2}}  # fmt: skip

    monkeypatch.setattr(redis.Redis, "sentinel_masters", masters)
    monkeypatch.setattr(redis.Redis, "execute_command", lambda self, *_words, **_options: masters(self))
    hosts = [("s1", 1), ("s2", 1), ("s3", 1)]
    assert Sentinel(hosts).discover_master("celeryops") == ("r1", 6379)
    assert Sentinel(hosts).discover_master("celeryops") == ("r1", 6379)
    assert asked == ["s1", "s2", "s2"]
    now[0] += silence.SECONDS
    Sentinel(hosts).discover_master("celeryops")
    assert asked == ["s1", "s2", "s2", "s1", "s2"]
