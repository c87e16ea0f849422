"""Countdowns below one second, and retries that stay in their queue: through Celery's real send_task and router."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from celeryops_runtime.delay import KeepQueue, with_zero

from .conftest import CELERY, KOMBU

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Python = Callable[..., subprocess.CompletedProcess[str]]

ZEROS = "0." * 28

IN_BROKER = KOMBU >= (5, 5)
"""Whether kombu knows how a message waits in RabbitMQ; with an older one the worker holds each task with an ETA."""


def calculate_routing_key(countdown: int, routing_key: str) -> str:
    """As kombu 5.5.4 has it (kombu/transport/native_delayed_delivery.py): later ones remove an earlier prefix."""
    if countdown < 1:
        raise ValueError("countdown must be a positive number")
    if not routing_key:
        raise ValueError("routing_key must be non-empty")
    return ".".join(list(f"{countdown:028b}")) + f".{routing_key}"


SEND = """
import contextlib, json
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from celery import Celery
app = Celery("shop")
sent = []

def keep(producer, name, message, exchange=None, routing_key=None, queue=None, **more):
    sent.append([getattr(exchange, "name", exchange), routing_key, getattr(queue, "name", queue)])

connection = SimpleNamespace(_reraise_as_library_errors=contextlib.nullcontext)
app.amqp._create_task_sender = lambda: keep
app.producer_or_acquire = lambda producer=None: contextlib.nullcontext(SimpleNamespace(connection=connection))
@app.task(name="shop.other", bind=True, ignore_result=True)
def other(self): pass
now = datetime.now(timezone.utc)
app.now = lambda: now  # or a slow machine would be past the ETA
for options in CALLS:
    try:
        other.apply_async(**options)
    except ValueError as exc:
        sent.append(["ValueError", str(exc), None])
print(json.dumps(sent))
"""


def send(python: Python, *calls: str, **env: str) -> list[list[Any]]:
    done = python("-c", SEND.replace("CALLS", f"[{', '.join(calls)}]"), env=env)
    assert done.returncode == 0, done.stderr
    sent: list[list[Any]] = json.loads(done.stdout)
    return sent


def test_fractions_of_a_second_are_sent(python: Python) -> None:
    sent = send(
        python,
        "{'countdown': 0.5}",
        "{'eta': now + timedelta(seconds=0.9)}",
        "{'countdown': 5.7}",
        "{'countdown': 0}",
        "{'eta': now - timedelta(seconds=3)}",
    )
    in_worker = [None, None, "default"]
    assert sent[0] == sent[1] == (["celery_delayed_27", f"{ZEROS}default", None] if IN_BROKER else in_worker)
    assert sent[2] == (["celery_delayed_27", "0." * 25 + "1.0.1.default", None] if IN_BROKER else in_worker)
    assert sent[3] == sent[4] == in_worker


@pytest.mark.parametrize("protocol", [1, 2])
def test_either_protocol_and_every_way_to_write_a_time(python: Python, config_file: Path, protocol: int) -> None:
    document = json.loads(config_file.read_text())
    document["settings"]["task_protocol"] = protocol
    config_file.write_text(json.dumps(document))
    sent = send(
        python,
        # Celery's first protocol takes no text before 5.5 (celery/app/amqp.py, as_task_v1).
        "{'eta': (now + timedelta(seconds=5.7))" + (".isoformat()}" if protocol == 2 else "}"),
        "{'eta': (now + timedelta(seconds=5.7)).astimezone(timezone(timedelta(hours=3)))}",
        "{'countdown': 5.7, 'queue': 'payments'}",
        "{'countdown': 2**28 + 9.0, 'queue': 'payments'}" if CELERY < (5, 5) else "{'queue': 'payments'}",
    )
    name, key = ("celery_delayed_27", "0." * 25 + "1.0.1.") if IN_BROKER else (None, "")
    assert sent[0] == sent[1] == ([name, f"{key}default", None] if name else [None, None, "default"])
    assert sent[2] == ([name, f"{key}payments", None] if name else [None, None, "payments"])
    assert sent[3] == [None, None, "payments"], "longer than the queues can count: the worker holds it"


def test_only_quorum_queues_delay_in_the_broker(python: Python, config_file: Path) -> None:
    document = json.loads(config_file.read_text())
    document["queues"] = [{"name": name, "type": "classic"} for name in ("default", "payments")]
    config_file.write_text(json.dumps(document))
    assert send(python, "{'countdown': 5.7}") == [[None, None, "default"]]


def test_retry_of_a_fraction_keeps_its_queue(python: Python) -> None:
    # What Task.retry sends: the delivery's exchange and key, with the prefix of an earlier delay or without.
    delivered = f"'exchange': 'tasks', 'routing_key': '{ZEROS}payments'"
    sent = send(
        python,
        f"{{'countdown': 0.5, {delivered}}}",
        "{'countdown': 3, 'exchange': 'tasks', 'routing_key': 'payments'}",
        "{'countdown': 3, 'exchange': 'celery_delayed_delivery', 'routing_key': '" + ZEROS + "payments'}",
    )
    if IN_BROKER:
        assert [s[1] for s in sent] == [f"{ZEROS}payments", "0." * 26 + "1.1.payments", "0." * 26 + "1.1.payments"]
    else:
        # No such key was ever made, so none has to be understood but the queue's own.
        assert sent[1][:2] == ["tasks", "payments"]


def test_celery_still_needs_mending(python: Python) -> None:
    # If this fails after an upgrade, Celery does it itself: the mend can go.
    code = (
        "from celery.app import base\n"
        "try:\n    base.calculate_routing_key(0, 'x')\n"
        "except (ValueError, AttributeError) as exc:\n    print(exc)\n"
    )
    said = "countdown must be a positive number" if CELERY >= (5, 5) else "has no attribute 'calculate_routing_key'"
    assert said in python("-c", code).stdout


def test_zero_clears_the_lowest_bit_only() -> None:
    fixed = with_zero(calculate_routing_key)
    assert fixed(0, "key") == f"{ZEROS}key"
    assert fixed(0, "1.key.1.") == f"{ZEROS}1.key.1."
    assert fixed(0, "0." * 27 + "1.key") == f"{ZEROS}key"
    for seconds in (1, 2, 2**27, 2**28 - 1):
        assert fixed(seconds, "key") == calculate_routing_key(seconds, "key")


@pytest.mark.parametrize(("seconds", "key"), [(-1, "key"), (0, ""), (5, "")])
def test_other_errors_stay(seconds: int, key: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        with_zero(calculate_routing_key)(seconds, key)


def test_mend_wraps_once(python: Python) -> None:
    code = (
        "from celeryops_runtime.delay import mend; from celery.app import base; mend();"
        "first = base.calculate_routing_key; mend(); print(first is base.calculate_routing_key, first.__name__);"
        "del base.calculate_routing_key; print(mend())"
    )
    if CELERY < (5, 5):
        code = "from celeryops_runtime.delay import mend; print(mend(), 'calculate_routing_key', mend())"
    first = str(CELERY >= (5, 5))
    assert python("-c", code).stdout.split() == [first, "calculate_routing_key", "False"]


def test_the_sender_of_an_older_celery_is_wrapped_once(python: Python) -> None:
    code = (
        "from celery import Celery; from celeryops_runtime.delay import send_delayed; a = Celery('a'); a.conf.timezone;"
        "send_delayed(a); first = a.amqp.send_task_message; send_delayed(a); print(first is a.amqp.send_task_message)"
    )
    done = python("-c", code)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize(
    ("options", "queue"),
    [
        ({}, None),
        (None, None),
        ({"routing_key": "payments"}, "payments"),
        ({"routing_key": "unknown"}, None),
        ({"routing_key": "payments", "queue": "default"}, None),
        ({"routing_key": "payments", "exchange": "tasks"}, "payments"),
        ({"routing_key": "payments", "exchange": "other"}, None),
        ({"routing_key": ZEROS + "payments", "exchange": "celery_delayed_delivery"}, "payments"),
        ({"routing_key": "0.1.payments", "exchange": "tasks"}, None),
    ],
)
def test_keep_queue(options: dict[str, Any] | None, queue: str | None) -> None:
    routed = KeepQueue("tasks", ["default", "payments"])("shop.x", (), {}, options, task=None)
    assert routed == ({"queue": queue} if queue else None)
