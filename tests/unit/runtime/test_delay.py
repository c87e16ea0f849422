"""Countdowns below one second, and retries that stay in their queue: through Celery's real send_task and router."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from kombu.transport.native_delayed_delivery import calculate_routing_key

from celeryops_runtime.delay import KeepQueue, with_zero

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Python = Callable[..., subprocess.CompletedProcess[str]]

ZEROS = "0." * 28

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
app.amqp.send_task_message = keep
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
    assert sent[0] == sent[1] == ["celery_delayed_27", f"{ZEROS}default", None]
    assert sent[2] == ["celery_delayed_27", "0." * 25 + "1.0.1.default", None]
    assert sent[3] == sent[4] == [None, None, "default"]


def test_retry_of_a_fraction_keeps_its_queue(python: Python) -> None:
    # What Task.retry sends: the delivery's exchange and key, with the prefix of an earlier delay or without.
    delivered = f"'exchange': 'tasks', 'routing_key': '{ZEROS}payments'"
    sent = send(
        python,
        f"{{'countdown': 0.5, {delivered}}}",
        "{'countdown': 3, 'exchange': 'tasks', 'routing_key': 'payments'}",
        "{'countdown': 3, 'exchange': 'celery_delayed_delivery', 'routing_key': '" + ZEROS + "payments'}",
    )
    assert [s[1] for s in sent] == [f"{ZEROS}payments", "0." * 26 + "1.1.payments", "0." * 26 + "1.1.payments"]


def test_celery_still_needs_mending(python: Python) -> None:
    # If this fails after an upgrade, Celery does it itself: the mend can go.
    code = (
        "from celery.app import base\n"
        "try:\n    base.calculate_routing_key(0, 'x')\n"
        "except ValueError as exc:\n    print(exc)\n"
    )
    assert python("-c", code).stdout == "countdown must be a positive number\n"


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
    assert python("-c", code).stdout.split() == ["True", "calculate_routing_key", "False"]


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
