# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Carries on when a node of a RabbitMQ cluster is lost. Nothing of it holds for a broker of one address.

* **Another first node for each process.** kombu takes the addresses in their order, whatever
  ``broker_failover_strategy`` says of the first one (kombu 5.7.0, connection.py): all processes of all hosts would be
  connected to one node. See :func:`rotated` and :func:`key_of`.
* **A node that gave no answer is tried last for a while**, and so is one that is about to be restarted
  (:mod:`.leaving`). Every connection of a process begins with the same address: a worker has several, and waited for a
  node that was cut off, or frozen, once for each of them (26 s until it consumed again, RabbitMQ 3.10).
* **No delayed-delivery step.** At each start of its consumer, also after each reconnection, Celery declares 28 queues
  through every address, and tries one that is down four times (celery/worker/consumer/delayed_delivery.py, 5.7.0):
  a worker that was connected again after 0.2 s consumed after 21.5 s. The role has declared these queues already.
* **A new control queue for each connection.** RabbitMQ 4.3 keeps the record of an exclusive queue whose node is down.
  With the old name the worker could not declare it on another node (405, "cannot obtain exclusive access"), and had no
  task until the node was back.
* **Remote control and events without confirmations.** A message to all control queues is never confirmed while one of
  them is on a node that is down (RabbitMQ 4.3).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
import uuid
import zlib
from typing import TYPE_CHECKING, Any

from celeryops_runtime.around import around, run_each
from celeryops_runtime.silence import Silence
from celeryops_runtime.urls import addresses, server

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

VARIABLE = "CELERY_BROKER_URL"

PORT = 5672
"""Of an address that names none."""

_MARK = "__celeryops_nodes__"


def several(url: str) -> bool:
    """Tell whether a broker's URL leads to several nodes of RabbitMQ.

    :param url: one or several addresses, separated by semicolons.
    """
    return server(url) == "rabbitmq" and len(addresses(url)) > 1


def there(environ: Mapping[str, str] | None = None) -> bool:
    """Tell whether the broker of this process has several nodes.

    :param environ: the environment; the process's own if not given.
    """
    return several((environ if environ is not None else os.environ).get(VARIABLE, ""))


def rotated(url: str, key: str) -> str:
    """Return the same addresses in the same circular order, beginning with another one.

    :param url: addresses, separated by semicolons.
    :param key: text that tells one process from another.
    """
    them = addresses(url)
    first = zlib.crc32(key.encode()) % len(them)
    return ";".join(them[first:] + them[:first])


def key_of(arguments: Sequence[str], host: str, pid: int) -> str:
    """Return what tells this process from others: its host, and what it is there.

    That is the name of a worker, and the command of another of Celery's programs, so that a unit has the same node
    first whenever it starts. Producers are the processes of a server that has one command line for all of them.

    :param arguments: of its command line.
    :param host: the name of this machine.
    :param pid: the number of the process.
    """
    own = next((one for one in arguments if one in ("worker", "beat", "flower")), str(pid))
    names = []
    if own == "worker":
        names += [later for one, later in itertools.pairwise(arguments) if one in ("-n", "--hostname")]
        names += [one.partition("=")[2] for one in arguments if one.startswith("--hostname=")]
        # click takes a short option and its value in one word, too.
        names += [one[2:] for one in arguments if one.startswith("-n") and one != "-n"]
    return f"{host}/{names[0] if names else own}"


def rotate(environ: MutableMapping[str, str] | None = None) -> None:
    """Put the addresses of this process into its own order, once: its children have the same.

    :param environ: the environment; the process's own if not given.
    """
    environ = environ if environ is not None else os.environ
    url = environ.get(VARIABLE, "")
    if not several(url) or environ.get(_ROTATED) == _stamp(url):
        return
    environ[VARIABLE] = rotated(url, key_of(sys.argv, socket.gethostname(), os.getpid()))
    environ[_ROTATED] = _stamp(url)


_ROTATED = "CELERYOPS_BROKER_ROTATED"


def _stamp(url: str) -> str:
    """Return a text that is the same for the same addresses in any order, and tells nothing of them."""
    return f"{zlib.crc32(';'.join(sorted(addresses(url))).encode()):08x}"


def _mend_order() -> None:
    from kombu import Connection

    @around(Connection, "_establish_connection", _MARK)
    def _establish_connection(own: Any, self: Any) -> Any:
        them = list(self.alt or ())
        if len(them) < 2 or server(them[0]) != "rabbitmq":
            return own(self)
        if place_of(self) in _silent:
            other = next((url for url in them if _place(url) not in _silent), None)
            if other is not None:
                self.switch(other)
        place = place_of(self)
        try:
            connection = own(self)
        except Exception:
            _silent.begin(place)
            raise
        _silent.end(place)
        return connection

    @around(Connection, "heartbeat_check", _MARK)
    def heartbeat_check(own: Any, self: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return own(self, *arguments, **options)
        except self.recoverable_connection_errors:
            _silent.begin(place_of(self))
            raise


_silent = Silence()


def avoid(connection: Any) -> None:
    """Have the node of a connection tried last for a while.

    :param connection: a connected :class:`kombu.Connection`.
    """
    _silent.begin(place_of(connection))


def place_of(connection: Any) -> tuple[str, int]:
    """Return host and port of the server that a connection leads to, or would.

    :param connection: a :class:`kombu.Connection`.
    """
    return str(connection.hostname), int(connection.port or PORT)


def _place(url: str) -> tuple[str, int]:
    from kombu.utils.url import url_to_parts

    parts = url_to_parts(url)
    return str(parts.hostname), int(parts.port or PORT)


def _mend_delayed_delivery() -> None:
    # Celery 5.4 has no such step.
    with contextlib.suppress(ImportError):
        from celery.worker.consumer.delayed_delivery import DelayedDelivery

        @around(DelayedDelivery, "include_if", _MARK)
        def include_if(own: Any, self: Any, c: Any) -> Any:
            return False if there() else own(self, c)


def _mend_control_queue() -> None:
    from kombu.pidbox import Mailbox

    @around(Mailbox, "get_queue", _MARK)
    def get_queue(own: Any, self: Any, hostname: str) -> Any:
        queue = own(self, hostname)
        if there():
            queue.name = f"{hostname}.{uuid.uuid4().hex[:8]}.{self.namespace}.pidbox"
        return queue


def mend() -> None:
    """Change Celery and kombu in this process. Calling it again changes nothing more."""
    run_each((_mend_order, _mend_delayed_delivery, _mend_control_queue))
