"""The document's shape, and its translation to Celery's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from celery.app.defaults import SETTING_KEYS

from celeryops_runtime.celery_settings import celery_settings
from celeryops_runtime.config import ConfigError
from celeryops_runtime.config_reader import load, parse

from .conftest import CELERY

if TYPE_CHECKING:
    from pathlib import Path


def settings(document: dict[str, Any]) -> dict[str, Any]:
    return celery_settings(parse(document))


def app_with(document: dict[str, Any]) -> Celery:
    app = Celery("t", loader="celery.loaders.app:AppLoader", set_as_current=False)
    app.conf.update(settings(document))
    return app


def test_rabbitmq_queues(document: dict[str, Any]) -> None:
    document["queues"] += [
        {"name": "old", "type": "classic"},
        {"name": "dead", "arguments": {"x-dead-letter-exchange": "graveyard", "x-delivery-limit": 5}},
    ]
    found = {q.name: q for q in settings(document)["task_queues"]}
    assert {q.exchange.name for q in found.values()} == {"tasks"}
    assert {q.exchange.type for q in found.values()} == {"topic"}
    assert all(q.routing_key == name for name, q in found.items())
    assert found["default"].queue_arguments == {"x-queue-type": "quorum"}
    assert found["old"].queue_arguments == {"x-queue-type": "classic"}, "the host's default type may be another"
    assert found["dead"].queue_arguments == {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "graveyard",
        "x-delivery-limit": 5,
    }


def test_rabbitmq_settings(document: dict[str, Any]) -> None:
    found = settings(document)
    expected = {
        "task_default_queue": "default",
        "task_default_exchange": "tasks",
        "task_default_exchange_type": "topic",
        "task_default_routing_key": "default",
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "task_time_limit": 777,
    }
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "value", "since", "until"),
    [
        ("task_default_queue_type", "quorum", (5, 5), None),
        ("broker_native_delayed_delivery_queue_type", "quorum", (5, 5), None),
        ("worker_detect_quorum_queues", True, (5, 5), None),
        ("task_create_missing_queue_type", "quorum", (5, 6), None),
        ("task_create_missing_queue_exchange_type", "topic", (5, 6), None),
        # Before 5.7 a worker of quorum queues never had its whole prefetch again after a reconnect.
        ("worker_enable_prefetch_count_reduction", False, (5, 4), (5, 7)),
    ],
)
def test_a_version_gets_the_settings_that_it_has(
    document: dict[str, Any], name: str, value: Any, since: tuple[int, int], until: tuple[int, int] | None
) -> None:
    found = settings(document)
    if since <= CELERY and (until is None or until > CELERY):
        assert found[name] == value
    else:
        assert name not in found
    document["settings"][name] = "classic"
    assert settings(document)[name] == "classic", "what the inventory says is passed on as it is"


def test_a_worker_of_classic_queues_reduces_its_prefetch_as_celery_does(document: dict[str, Any]) -> None:
    for queue in document["queues"]:
        queue["type"] = "classic"
    assert "worker_enable_prefetch_count_reduction" not in settings(document)


def test_every_derived_setting_exists_in_celery(document: dict[str, Any]) -> None:
    for broker in ("rabbitmq", "redis"):
        document["broker"] = broker
        assert set(settings(document)) <= set(SETTING_KEYS)


def test_redis_queues_are_plain(document: dict[str, Any]) -> None:
    document["broker"] = "redis"
    found = settings(document)
    assert [(q.name, q.exchange.type, q.routing_key, q.queue_arguments) for q in found["task_queues"]] == [
        ("default", "direct", "default", None),
        ("payments", "direct", "payments", None),
    ]
    assert not {key for key in found if "queue_type" in key or "exchange_type" in key} - {"task_default_exchange_type"}


def test_verbatim_settings_win(document: dict[str, Any]) -> None:
    document["settings"] = {"accept_content": ["json", "msgpack"], "task_default_queue_type": "classic"}
    assert settings(document)["accept_content"] == ["json", "msgpack"]
    assert settings(document)["task_default_queue_type"] == "classic"


def test_first_route_wins(document: dict[str, Any]) -> None:
    # In one mapping Celery would prefer the exact name, wherever it is.
    document["routes"] = [
        {"task": "shop.pay*", "queue": "payments"},
        {"task": "shop.pay_later", "queue": "default"},
        {"task": "*.slow", "queue": "payments"},
        {"task": "exact", "queue": "payments"},
    ]
    router = app_with(document).amqp.router
    routed = {
        name: router.route({}, name)["queue"].name for name in ("shop.pay_later", "a.b.slow", "exact", "exact.not")
    }
    assert routed == {"shop.pay_later": "payments", "a.b.slow": "payments", "exact": "payments", "exact.not": "default"}


def test_caller_still_chooses_the_queue(document: dict[str, Any]) -> None:
    router = app_with(document).amqp.router
    assert router.route({"queue": "default"}, "shop.pay")["queue"].name == "default"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "format is 2"),
        ({"format": True}, "format is True"),
        ({"format": None}, "format is None"),
        ({"broker": "kafka"}, "'kafka', not one of rabbitmq, redis"),
        ({"extra": 1}, "'extra' is not known"),
        ({"app": ""}, "app is ''"),
        ({"exchange": None}, "exchange is None"),
        ({"queues": None}, "queues is missing"),
        ({"queues": {}}, "queues is dict"),
        ({"queues": []}, "'default' is not one of the queues"),
        ({"queues": [{"name": "default"}, {"name": "default"}]}, "'default' is there twice"),
        ({"queues": [{"name": "default", "type": "stream"}]}, "queues\\[0\\].type: 'stream'"),
        ({"queues": [{"name": "default", "typ": "quorum"}]}, "queues\\[0\\]: 'typ' is not known"),
        ({"queues": ["default"]}, "queues\\[0\\] is str, not an object"),
        ({"queues": [{"name": "default", "arguments": []}]}, "queues\\[0\\].arguments is list"),
        ({"default_queue": "x"}, "default_queue: 'x'"),
        ({"routes": [{"task": "a", "queue": "x"}]}, "routes\\[0\\].queue: 'x'"),
        ({"routes": [{"task": "a"}]}, "routes\\[0\\]: queue is None"),
        ({"settings": []}, "settings is list"),
        ({"settings": {"CELERY_ACKS_LATE": 1}}, "settings.CELERY_ACKS_LATE: not a Celery setting's name"),
        ({"settings": {"broker_native_delayed_delivery_queue_type": "stream"}}, "'stream' is not one of"),
        ({"queues": [{"name": "default"}, {"name": "eu.default"}], "routes": []}, "would also receive every task"),
    ],
)
def test_wrong_documents(document: dict[str, Any], change: dict[str, Any], reason: str) -> None:
    document.update(change)
    with pytest.raises(ConfigError, match=reason):
        parse(document)


def test_dotted_suffix_is_no_matter_on_redis(document: dict[str, Any]) -> None:
    document.update({"broker": "redis", "queues": [{"name": "default"}, {"name": "eu.default"}], "routes": []})
    assert len(parse(document).queues) == 2


def test_dotted_name_that_only_ends_alike_is_fine(document: dict[str, Any]) -> None:
    document.update({"queues": [{"name": "default"}, {"name": "eudefault"}, {"name": "default.eu"}], "routes": []})
    assert len(parse(document).queues) == 3


def test_load_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "bad.json"
    bad.write_bytes(b"\xff")
    for path in (bad, tmp_path / "none.json", tmp_path):
        with pytest.raises(ConfigError, match=str(path)):
            load(str(path))
    monkeypatch.delenv("CELERYOPS_CONFIG", raising=False)
    with pytest.raises(ConfigError, match="CELERYOPS_CONFIG is not set"):
        load()


def test_load(config_file: Path) -> None:
    assert load(str(config_file)).app == "shop"
