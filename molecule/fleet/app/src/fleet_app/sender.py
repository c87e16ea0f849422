"""Sends a task to one queue after the other until it is told to stop, and watches how many consumers each queue has."""

from __future__ import annotations

import json
import threading
import time

from kombu import Connection

from fleet_app import QUEUES, STATE, app

STOP = STATE / "stop"


def consumers(connection: Connection, queue: str) -> int:
    """Count them: a quorum queue that does not answer its node within 250 ms counts as one without consumers."""
    for _each in range(4):
        if count := connection.default_channel.queue_declare(queue, passive=True).consumer_count:
            return int(count)
        time.sleep(0.2)
    return 0


def watch(fewest: dict[str, int]) -> None:
    """Ask the broker again and again, and keep the lowest answer."""
    with app.connection_for_read() as connection:
        while not STOP.exists():
            for queue in QUEUES:
                count = consumers(connection, queue)
                fewest[queue] = min(count, fewest.get(queue, count))
            time.sleep(0.02)


def main() -> None:
    """Send; what was sent and what was seen is in two files afterwards."""
    fewest: dict[str, int] = {}
    watcher = threading.Thread(target=watch, args=(fewest,))
    watcher.start()
    number = 0
    with (STATE / "sent").open("w") as sent:
        while not STOP.exists():
            for queue in QUEUES:
                app.send_task(f"{queue}.work", args=(f"{number}",))
                sent.write(f"{number}\n")
                number += 1
            sent.flush()
            time.sleep(0.1)
    watcher.join()
    (STATE / "fewest").write_text(json.dumps(fewest))


if __name__ == "__main__":
    main()
