"""What each version of Celery can do: the table, compared with the Celery that is installed here, and what follows."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from celery.app.defaults import NAMESPACES, flatten
from celery.bin.worker import worker

from ansible_collections.celeryops.stack.plugins.module_utils import celery_versions as versions
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.setting_kinds import KINDS
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.worker_arguments import FLAGS, VALUED


def test_the_table_is_in_order_and_its_ends_are_the_limits() -> None:
    assert list(versions.TABLE) == [(5, 4), (5, 5), (5, 6), (5, 7)]
    assert (versions.FLOOR, versions.NEWEST, versions.supported()) == ((5, 4), (5, 7), "5.4 to 5.7")
    assert versions.OLDEST == {"celery": (5, 4), "kombu": (5, 3, 4)}


def test_every_newer_setting_is_a_setting_of_the_newest_celery() -> None:
    known = {name for name, _option in flatten(NAMESPACES)} | {"redis_client_name"}
    assert set(versions.SETTINGS) <= known
    assert set(versions.SETTINGS) <= KINDS.keys()
    assert set(versions.SETTINGS.values()) == set(versions.TABLE) - {versions.FLOOR}


def test_every_newer_option_is_an_option_of_the_newest_worker() -> None:
    known = {option for parameter in worker.params for option in parameter.opts}
    assert set(versions.WORKER_OPTIONS) <= known & {*FLAGS, *VALUED}


@pytest.mark.parametrize(
    ("version", "native", "exclusive", "kombu"),
    [
        ("5.3.6", None, None, ""),
        ("5.4", False, False, "kombu>=5.3.4,<6"),
        ("5.4.0rc2", False, False, "kombu>=5.3.4,<6"),
        ("5.5.3", True, False, "kombu>=5.5.2,<5.6"),
        ("5.6.0", True, True, "kombu>=5.6.0"),
        ("5.7.0", True, True, "kombu>=5.7.0"),
        ("6.1", True, True, "kombu>=5.7.0"),
    ],
)
def test_what_a_version_can_do(version: str, native: bool | None, exclusive: bool | None, kombu: str) -> None:
    found = versions.abilities(version)
    assert (found and found.native_delay, found and found.exclusive_control_queues) == (native, exclusive)
    assert versions.kombu_range(version) == kombu


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("5.7", (5, 7, 0)),
        ("5.7.0", (5, 7, 0)),
        ("5.10.1.2", (5, 10, 1, 2)),
        ("v5.6.0b2", (5, 6, 0)),
        ("1!5.6", (5, 6, 0)),
        ("5.4.0+local1", (5, 4, 0)),
        ("main", ()),
        ("", ()),
    ],
)
def test_the_numbers_of_a_version(text: str, numbers: tuple[int, ...]) -> None:
    assert versions.numbers(text) == numbers


def test_what_is_too_old_or_missing() -> None:
    assert versions.too_old({"celery": "5.4.0", "kombu": "5.3.4"}) == []
    assert versions.too_old({"celery": "5.4", "kombu": "5.4"}) == []
    assert versions.too_old({"celery": "6.0.0b1", "kombu": "5.10.1"}) == []
    assert versions.too_old({"celery": "5.3.6", "kombu": None}) == [
        "celery 5.3.6 is too old (at least 5.4 is needed)",
        "kombu is not installed (at least 5.3.4 is needed)",
    ]
    assert versions.too_old({}) == [
        "celery is not installed (at least 5.4 is needed)",
        "kombu is not installed (at least 5.3.4 is needed)",
    ]


@pytest.mark.parametrize(
    ("known", "broker", "told", "instead"),
    [
        (("5.7.0", "5.7.0", "8.1.0"), "redis", "", ""),
        (("5.4.0", "5.7.0", "5.3.1"), "rabbitmq", "", ""),
        (("5.4.0", "5.7.0", None), "rabbitmq", "", ""),
        (("5.4.0", "5.6.2", "5.3.1"), "redis", "", ""),
        (
            ("5.4.0", "5.7.0", "5.3.1"),
            "redis",
            "celery 5.4.0 with kombu 5.7.0 and redis 5.3.1",
            "kombu<5.7, or redis>=6.1",
        ),
        (
            ("5.7.0", "5.7.0", "5.3.1"),
            "redis",
            "celery 5.7.0 with kombu 5.7.0 and redis 5.3.1",
            "kombu<5.7, or redis>=6.1",
        ),
        ((None, "5.7.0", "5.3.1"), "redis", "kombu 5.7.0 and redis 5.3.1", "kombu<5.7, or redis>=6.1"),
        (("5.4.0", "5.7.0", None), "redis", "celery 5.4.0 and kombu 5.7.0", "kombu<5.7"),
        (("5.6.3", "5.7.0", None), "redis", "", ""),
        (("5.5.3", "5.7.0", None), "rabbitmq", "celery 5.5.3 does not work with kombu 5.7.0", "kombu>=5.5.2,<5.6"),
        (("5.5.3", "5.6", None), "rabbitmq", "celery 5.5.3 does not work with kombu 5.6", "kombu>=5.5.2,<5.6"),
        (("5.6.3", "5.5.4", None), "redis", "celery 5.6.3 does not work with kombu 5.5.4", "kombu>=5.6.0"),
        (("5.6.3", "5.6", "6.4.0"), "redis", "", ""),
        (("5.7.0", "5.6.2", "8.1"), "rabbitmq", "celery 5.7.0 does not work with kombu 5.6.2", "kombu>=5.7.0"),
        (("5.7.0", None, "5.3.1"), "redis", "", ""),
        ((None, None, None), "redis", "", ""),
        (("5.3.6", "5.7.0", None), "redis", "", ""),
    ],
)
def test_versions_that_do_not_work_together(
    known: tuple[str | None, ...], broker: str, told: str, instead: str
) -> None:
    found = list(versions.misfits(dict(zip(("celery", "kombu", "redis"), known, strict=True)), broker))
    assert [entry for _what, entry in found] == ([instead] if instead else [])
    assert all(what.startswith(told) for what, _entry in found)


def test_what_another_version_changes() -> None:
    assert versions.changes("5.7.0", "5.6.3") == []
    assert versions.changes("5.6.2", "5.6.3") == []
    assert versions.changes("5.5.3", "5.4.0") == [
        (
            "no longer: delayed tasks wait in RabbitMQ by Celery's own means, workers recognise quorum queues, a "
            "worker has a soft shutdown"
        )
    ]
    assert versions.changes("5.5.3", "5.7.0") == [
        (
            "from now on: queues for remote control and events are exclusive, a queue that is made on the fly is a "
            "quorum queue"
        )
    ]
    assert set(versions.MEANING) <= {field.name for field in fields(versions.Abilities)}
    assert versions.changes("5.3.6", "5.7.0") == versions.changes("", "5.7.0") == []


def test_what_the_configuration_counts_on() -> None:
    need: dict[str, Any] = {
        "package": "celery",
        "since": "5.7",
        "says": "x: a setting from celery 5.7 on",
        "instead": "y",
    }
    assert versions.unmet([need], {"celery": "5.7.0"}) == []
    assert versions.unmet([need], {"celery": "5.7"}) == []
    assert versions.unmet([need], {"celery": None}) == []
    assert versions.unmet([need], {}) == []
    assert versions.unmet([need], {"celery": "5.6.3"}) == [
        "x: a setting from celery 5.7 on, and this release has celery 5.6.3; write y"
    ]
