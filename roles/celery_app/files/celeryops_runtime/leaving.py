# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Has a worker leave a node of RabbitMQ before that node is restarted, so that no task of it runs again.

A node that stops ends its connections, and what the workers there had in hand goes back to its queue: a task that runs
is ended and begins anew, and one that ends in that moment runs twice. The role asks the workers before
(``plugins/modules/rabbitmq_cluster.py``, ``drained``), by a command of remote control that is the runtime's own. A
worker whose connection leads to that node

1. cancels its consumers, and returns what no process of the pool has begun with, as for a stop (:mod:`.drain`);
2. waits for the tasks that run, as long as the command says, and acknowledges them as ever;
3. ends its connection, and is connected to another node at once (:mod:`.nodes`), where it consumes again. Without
   another node, as before a cluster grows from one, it stays away until the node has stopped.

What runs longer goes back to its queue, as it does when a node is lost.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from celery.worker import state

from celeryops_runtime import nodes
from celeryops_runtime.around import around
from celeryops_runtime.drain import LOOK_SECONDS, return_waiting
from celeryops_runtime.urls import server

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

logger = logging.getLogger("celeryops.runtime")

COMMAND = "celeryops_leave"
"""The command. Its arguments: ``addresses`` of the node, ``ports`` from which processes of the node's own host are
connected to its loopback address, and ``seconds``."""

LONGEST_SECONDS = 600.0
"""No command has a worker wait for its tasks for longer."""

AWAY_SECONDS = 15.0
"""For so long after the last worker had to be gone, the only node is expected to stop."""

TRY_SECONDS = 1.0
"""How often a worker that stays away looks whether the node has stopped, and how long it waits for an answer."""

_MARK = "__celeryops_leaving__"


class Leaving:
    """One worker's way from its node to another."""

    def __init__(self, consumer: Any, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Do nothing yet.

        :param consumer: the worker's consumer, connected.
        :param seconds: how long running tasks may go on.
        :param clock: seconds that never run backwards.
        """
        self.consumer = consumer
        self._connection = consumer.connection
        self._clock = clock
        self._deadline = clock() + min(seconds, LONGEST_SECONDS)
        #: Until when a worker that has no other node stays away.
        self.until = self._deadline + AWAY_SECONDS
        self._entry: Any = None
        self.over = False

    def begin(self) -> None:
        """Stop consuming, return what nobody has begun with, and watch for the end of the rest."""
        c = self.consumer
        try:
            c.task_consumer.cancel()
            returned = return_waiting(c)
        except Exception:
            # The connection is lost already, or was never whole: Celery sees to that.
            self.over = True
            logger.warning("this node of the broker was not left before its restart", exc_info=True)
            return
        logger.info(
            "leaving this node of the broker before its restart: %d messages returned, %d tasks still running",
            returned,
            len(state.active_requests),
        )
        if c.hub is not None:
            self._entry = c.timer.call_repeatedly(LOOK_SECONDS, self.look)
        else:
            threading.Thread(target=self._look_from_outside, name="celeryops-leaving", daemon=True).start()

    def _look_from_outside(self) -> None:
        """Have a loop without a hub look; threads, gevent and solo do not fork, so a thread does no harm."""
        while not self.over:
            self.consumer.call_soon(self.look)
            time.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Go once no task is left, or the time is up."""
        if self.over:
            return
        lost = self.consumer.connection is not self._connection
        if lost or not state.reserved_requests or self._clock() >= self._deadline:
            self.over = True
            if self._entry is not None:
                self.consumer.timer.cancel(self._entry)
            # Celery has another connection where this one was lost meanwhile.
            if not lost:
                self._go()

    def _go(self) -> None:
        c = self.consumer
        # The server has read what was sent before it answers this: no acknowledgement is lost.
        with contextlib.suppress(Exception):
            c.task_consumer.channel.queue_declare(queue=c.task_consumer.queues[0].name, passive=True)
        nodes.avoid(self._connection)
        if not nodes.there():
            c.__dict__[_AWAY] = self
        # The loop reads the end of the connection, as if the server had ended it.
        with contextlib.suppress(OSError):
            _socket(self._connection).shutdown(socket.SHUT_RDWR)

    def stay_away(self) -> None:
        """Return once the node has stopped, or the worker has to stop, or the time is up."""
        place = nodes.place_of(self._connection)
        logger.info(
            "waiting for the restart of this node of the broker, for %.0f seconds at most", self.until - self._clock()
        )
        while self._clock() < self.until and not _stops() and _accepts(place):
            time.sleep(TRY_SECONDS)


def _stops() -> bool:
    # Otherwise an exit code, which may be 0.
    return any(said is not None and said is not False for said in (state.should_stop, state.should_terminate))


def _accepts(place: tuple[str, int]) -> bool:
    """Tell whether a server takes connections."""
    try:
        socket.create_connection(place, TRY_SECONDS).close()
    except OSError:
        return False
    return True


def _socket(connection: Any) -> socket.socket:
    found: socket.socket = connection.connection.transport.sock
    return found


def leads_there(own: tuple[str, int], peer: str, addresses: Collection[str], ports: Collection[int]) -> bool:
    """Tell whether a connection leads to a node.

    :param own: address and port of its end here.
    :param peer: address of its other end.
    :param addresses: of the node.
    :param ports: the ends of the connections within the node's own host, whose addresses say nothing.
    """
    if peer.startswith("127.") or peer == "::1":
        return own[1] in ports
    return peer.removeprefix("::ffff:") in addresses


_UNDERWAY = "_celeryops_leaving"
_AWAY = "_celeryops_away"


def leave(
    panel: Any, addresses: Collection[str] = (), ports: Collection[int] = (), seconds: float = 0.0, **_later: Any
) -> dict[str, str]:
    """Answer the command.

    :param panel: what Celery gives a command: the worker's ``consumer``.
    :param addresses: of :func:`leads_there`.
    :param ports: of :func:`leads_there`.
    :param seconds: of :class:`Leaving`.
    :returns: what is done, for whoever waits for an answer.
    """
    c = panel.consumer
    sock = _socket(c.connection)
    if not leads_there(sock.getsockname()[:2], str(sock.getpeername()[0]), addresses, ports):
        return {"ok": "another node"}
    underway: Leaving | None = c.__dict__.get(_UNDERWAY)
    if underway is not None and not underway.over:
        return {"ok": "leaving already"}
    c.__dict__[_UNDERWAY] = found = Leaving(c, max(0.0, float(seconds)))
    # Not from within the message that said so.
    c.call_soon(found.begin)
    return {"ok": "leaving"}


def install() -> None:
    """Let this worker know the command, if its broker is RabbitMQ. Calling it again changes nothing more."""
    if server(os.environ.get(nodes.VARIABLE, "")) != "rabbitmq":
        return
    from celery.worker.consumer import Consumer
    from celery.worker.control import Panel

    Panel.register(name=COMMAND, type="control", help="Leave a node of the broker before its restart.")(leave)

    # Its connection for tasks, and no other: a task that still runs may publish.
    @around(Consumer, "connect", _MARK)
    def connect(own: Any, self: Any) -> Any:
        away: Leaving | None = self.__dict__.pop(_AWAY, None)
        if away is not None:
            away.stay_away()
        return own(self)
