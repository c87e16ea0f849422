"""Times messages through quorum queues: a part of scripts/bench_cluster.py, which runs it where the producer is.

The argument says how many members each queue has. What it found goes to standard output as one JSON object.
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
import time
from typing import Any

#: Queues, each with a connection of its own; messages for each of them; and those that are sent one by one.
QUEUES, MESSAGES, SINGLE = 6, 1_000, 300
BODY = b"x" * 1024


def declare(channel: Any, name: str, members: int) -> None:
    """Make an empty quorum queue."""
    channel.queue_delete(name)
    arguments = {"x-queue-type": "quorum", "x-quorum-initial-group-size": members}
    channel.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)


def publish(channel: Any, name: str, number: int) -> None:
    """Send messages, each of which is waited for until it is confirmed."""
    import amqp

    for _message in range(number):
        channel.basic_publish(amqp.Message(BODY, delivery_mode=2), exchange="", routing_key=name)


def fetch(channel: Any, name: str, number: int) -> None:
    """Take messages, acknowledging each."""
    left = number

    def took(message: Any) -> None:
        nonlocal left
        channel.basic_ack(message.delivery_tag)
        left -= 1

    channel.basic_qos(0, 100, False)
    channel.basic_consume(name, callback=took)
    while left:
        channel.connection.drain_events(timeout=60)


def through(channel: Any, name: str) -> None:
    """Send all messages of a queue, and take them."""
    publish(channel, name, MESSAGES)
    fetch(channel, name, MESSAGES)


def main() -> None:
    """Measure and print."""
    app = importlib.import_module("chaos_app.celery").app
    members = int(sys.argv[1])
    channels = {f"bench-{number}": app.connection_for_write().default_channel for number in range(QUEUES)}
    for name, channel in channels.items():
        declare(channel, name, members)
    first, channel = next(iter(channels.items()))
    publish(channel, first, SINGLE // 10)
    began = time.monotonic()
    publish(channel, first, SINGLE)
    each = (time.monotonic() - began) / SINGLE
    channel.queue_purge(first)
    began = time.monotonic()
    threads = [threading.Thread(target=through, args=(channel, name)) for name, channel in channels.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - began
    for name, channel in channels.items():
        channel.queue_delete(name)
    print(json.dumps({"per_second": QUEUES * MESSAGES / seconds, "publish_ms": 1000 * each}))


if __name__ == "__main__":
    main()
