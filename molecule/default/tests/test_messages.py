"""A message that nobody can take stops nobody, and a broker that takes nothing holds no worker."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hosts import wait
from testinfra.host import Host

Produce = Callable[..., Any]

pytestmark = pytest.mark.broker("rabbitmq")

#: Puts messages into the queue feeds as any client could, each with something of its own that is wrong, or odd, which
#: stock Celery runs all the same. Prints how many were wrong.
MALFORMED = """
import json, os, uuid, zlib
import amqp
from kombu import Connection

sound = json.dumps([["nobody"], {{}}, None]).encode()
headers = {{"task": "no.such.task", "lang": "py", "timelimit": [None, None]}}
wrong = [
    *((sound, {{name: value}}, "utf-8") for name, value in (
        ("timelimit", "abc"), ("timelimit", [1]), ("eta", 5), ("expires", "soon"), ("retries", "x"), ("callbacks", "x"),
        ("chain", [5]), ("chord", 5), ("stamps", "x"), ("stamped_headers", [5]), ("id", 5), ("id", None),
        ("task", ["x"]), ("compression", "gzip"),
    )),
    *((body, {{}}, "utf-8") for body in (
        b'{{"a": 1}}', b"5", b"{{", b"", b"null", b'[["\\xff"], {{}}, null]', b'[[1], 5, null]', b"[" * 100_000,
    )),
    (zlib.compress(b"0" * 300_000_000), {{"compression": "gzip"}}, "utf-8"),
    (b"\\x00\\x01", {{}}, "binary"),
]
odd = [(sound, {{name: value}}, "utf-8") for name, value in (
    ("argsrepr", {{}}), ("group", [1]), ("root_id", {{"a": 1}}),
)]
# With confirms: what a client hands over right before it closes is not safe yet.
with Connection(os.environ["CELERY_BROKER_URL"], transport_options={{"confirm_publish": True}}) as connection:
    channel = connection.channel()
    for body, more, encoding in [*wrong, *odd]:
        full = {{**headers, "task": "{task}", "id": str(uuid.uuid4()), **more}}
        channel.basic_publish(
            amqp.Message(
                body,
                content_type="application/json" if encoding == "utf-8" else "application/x-python-serialize",
                content_encoding=encoding,
                application_headers={{name: value for name, value in full.items() if value is not None}},
                delivery_mode=2,
            ),
            exchange="",
            routing_key="feeds",
        )
    # Bytes where a content type is due, which py-amqp cannot read.
    amqp.Message._serialize_properties = lambda self: b"\\x80\\x00\\x02\\xff\\xfe"
    channel.basic_publish(amqp.Message(sound), exchange="", routing_key="feeds")
    print(json.dumps(len(wrong) + 1))
"""


def unit(host: Host, key: str) -> str:
    return str(host.check_output(f"systemctl show --property={key} --value celery-shop-bulk.service"))


def test_malformed_messages_end_as_dead_letters_and_stop_nobody(
    host: Host, produce: Produce, dead_letters: Callable[[], int]
) -> None:
    process, before = unit(host, "MainPID"), dead_letters()
    sent = produce(MALFORMED.format(task="shop.feeds.import_feed"))
    wait(lambda: dead_letters() == before + sent, 30, "a malformed message is no dead letter")
    produce("send('shop.feeds.import_feed', 'after', 1, 0.01).get(timeout=30)\nprint(0)")
    assert unit(host, "MainPID") == process


@pytest.fixture
def alarm(host: Host) -> Iterator[Callable[[], None]]:
    """RabbitMQ takes no messages, as when its memory is used up, until the test ends or calls the fixture."""

    def end() -> None:
        host.check_output("rabbitmqctl --silent set_vm_memory_high_watermark 0.6")

    host.check_output("rabbitmqctl --silent set_vm_memory_high_watermark 0.00001")
    yield end
    end()


@pytest.mark.long
def test_during_an_alarm_workers_go_on_and_a_call_is_one_message(
    host: Host, produce: Produce, request: pytest.FixtureRequest
) -> None:
    """For longer than the watchdog waits: a backlog drains, a worker starts, a caller hears in time that it did not.

    What beat sends every ten seconds waits as one message, and none of its tries of 20 seconds leaves a copy.
    """
    produce(
        "for number in range(50):\n"
        "    send('shop.feeds.import_feed', f'alarm-{number}', 1, 1.5, ignore_result=True)\n"
        "print(0)"
    )
    process = unit(host, "MainPID")
    end_alarm = request.getfixturevalue("alarm")
    took = produce(
        "began = time.monotonic()\n"
        "try:\n"
        "    send('shop.feeds.import_feed', 'told', 1, 0.01, ignore_result=True)\n"
        "    print(0)\n"
        "except Exception as exc:\n"
        "    assert type(exc).__name__ == 'MaybeSentError', exc\n"
        "    print(time.monotonic() - began)"
    )
    assert 15 < took < 40
    time.sleep(45)
    assert unit(host, "MainPID") == process, "the watchdog ended it"
    host.check_output("systemctl restart celery-shop-bulk.service")
    assert "consuming" in unit(host, "StatusText")
    queue = "rabbitmqctl --silent list_queues --vhost shop name messages_ready"
    wait(lambda: "feeds\t0" in host.check_output(queue), 60, "the backlog stands still")
    # It ends while beat pauses, so that RabbitMQ confirms what waits between two tries.
    failed = f"journalctl --unit=celery-shop-beat --since=@{seconds(host)} --output=cat --no-pager"
    wait(lambda: "trying again" in host.check_output(failed), 30, "beat does not try to send")
    began = seconds(host)
    end_alarm()
    wait(lambda: carts(host, began) != [], 20, "what beat sent in the alarm does not run")
    time.sleep(3)
    # One that waited, and the next, which Celery before 5.7 sends at once.
    ids = carts(host, began)
    assert len(ids) <= 2
    assert len(set(ids)) == len(ids), "one message ran twice"


def seconds(host: Host) -> float:
    return float(host.check_output("date +%s.%N"))


def carts(host: Host, began: float) -> list[str]:
    """Return the ids of the periodic task's messages that the worker has received."""
    journal = host.check_output(f"journalctl --unit=celery-shop-default --since=@{began} --output=cat --no-pager")
    return re.findall(r"shop\.orders\.expire_carts\[([^]]+)\] received", journal)
