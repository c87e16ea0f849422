# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Keeps events, mingle and the answers of remote control from blocking a worker.

Celery publishes them from the worker's main process, with the same options as a task: it waits for RabbitMQ's
confirmation. During an alarm of its memory or disk RabbitMQ reads nothing more from a connection that has published
(https://www.rabbitmq.com/docs/alarms), so the loop stood still, the watchdog ended it, and no worker could start before
the alarm was over (measured with Celery 5.7.0); a node that is frozen has the same effect. Here these messages have
connections of their own, on which nothing else is said. Nobody waits there for a confirmation, every write and answer
is bounded, and while RabbitMQ has announced that the connection is blocked (``connection.blocked``,
https://www.rabbitmq.com/docs/connection-blocked), or after an error for a while, what would be said is left out.

The connection through which tasks come and are acknowledged publishes nothing, so an alarm does not stop it. What tasks
and producers publish stays confirmed.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from celery import bootsteps

from celeryops_runtime import follow
from celeryops_runtime.around import around, run_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger("celeryops.runtime")

WRITE_SECONDS = 2
"""How long the socket may take what is said."""

ANSWER_SECONDS = 5
"""How long the broker may take for an answer, when something is declared, and for a new connection."""

MUTE_SECONDS = 30.0
"""Nothing is said for so long after an error: at most one in :data:`MUTE_SECONDS` holds the loop for some seconds."""

_GATE = "_celeryops_gate"


class Gate:
    """Whether a connection takes what is said."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with an open one.

        :param clock: seconds that never run backwards.
        """
        self.blocked = False
        self._clock = clock
        self._until = float("-inf")

    @property
    def open(self) -> bool:
        """Tell whether anything may be said."""
        return not self.blocked and self._clock() >= self._until

    def on_blocked(self, reason: object = None) -> None:
        """Note RabbitMQ's ``connection.blocked``."""
        if not self.blocked:
            logger.warning("RabbitMQ takes no messages now (%s): events and answers are left out until it does", reason)
        self.blocked = True

    def on_unblocked(self) -> None:
        """Note RabbitMQ's ``connection.unblocked``."""
        if self.blocked:
            logger.warning("RabbitMQ takes messages again")
        self.blocked = False

    def failed(self) -> None:
        """Note that something could not be said."""
        self._until = self._clock() + MUTE_SECONDS


def options(given: dict[str, Any] | None, driver: str, gate: Gate) -> dict[str, Any]:
    """Turn a connection's transport options into those of a connection for what may be lost.

    :param given: the app's.
    :param driver: kombu's name of the transport's kind: ``amqp``, ``redis``.
    :param gate: told what RabbitMQ announces.
    """
    if driver == "amqp":
        ours: dict[str, Any] = {
            "confirm_publish": False,
            "read_timeout": ANSWER_SECONDS,
            "write_timeout": WRITE_SECONDS,
            "on_blocked": gate.on_blocked,
            "on_unblocked": gate.on_unblocked,
        }
    elif driver == "redis":
        ours = {"socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS}
    else:
        ours = {}
    return {**(given or {}), **ours}


def poll(connection: Any, gate: Gate, timeout: float = 0) -> None:
    """Read what RabbitMQ has announced, which nothing else does where no event loop reads the connection.

    :param connection: kombu's connection.
    :param gate: the connection's own.
    :param timeout: seconds to wait for something.
    """
    if connection.transport.driver_type != "amqp" or not connection.connected:
        return
    for _each in range(10):
        try:
            connection.connection.blocking_read(timeout)
        except (TimeoutError, BlockingIOError):
            return
        timeout = 0
        if gate.blocked:
            return


def quiet_connection(app: Any, gate: Gate, **arguments: Any) -> Any:
    """Make a connection, not yet connected, for what may be lost.

    :param app: the app.
    :param gate: of this connection.
    :param arguments: for ``app.connection_for_write``.
    """
    connection = app.connection_for_write(**arguments)
    driver = connection.transport.driver_type
    connection.transport_options = options(connection.transport_options, driver, gate)
    close = connection.close

    def release() -> None:
        # To close an AMQP connection is a question, which RabbitMQ does not read while the connection is blocked.
        with contextlib.suppress(Exception):
            poll(connection, gate, 0.1)
        if gate.open:
            close()
        else:
            connection.collect(socket_timeout=0.1)

    connection.close = connection.release = release
    setattr(connection, _GATE, gate)
    return connection


class Voice:
    """Publishes in place of a pool of producers, and is one itself: what mingle and remote control need of both."""

    def __init__(self, app: Any, clock: Callable[[], float] = time.monotonic) -> None:
        """Connect when something is to be said.

        :param app: the app.
        :param clock: seconds that never run backwards.
        """
        self._app = app
        self._clock = clock
        self._pid = os.getpid()
        self._gate = Gate(clock)
        self._connection: Any = None
        self._producer: Any = None

    @contextlib.contextmanager
    def acquire(self, *_arguments: Any, **_options: Any) -> Iterator[Voice]:
        """Give itself, as a pool of producers would give one."""
        yield self

    @property
    def usable(self) -> bool:
        """Tell whether this process made it: a process of the pool has connections of its own."""
        return self._pid == os.getpid()

    def publish(self, body: Any, **arguments: Any) -> None:
        """Say something, or leave it out.

        :param body: as for kombu's producer.
        :param arguments: as for kombu's producer; there is no second try.
        """
        arguments["retry"] = False
        try:
            if self._connection is not None:
                poll(self._connection, self._gate)
            if not self._gate.open:
                return
            self._ready().publish(body, **arguments)
        except Exception as exc:
            logger.warning("an answer to remote control could not be sent: %s", type(exc).__name__)
            logger.debug("an answer could not be sent", exc_info=True)
            failed = self._connection is None or isinstance(exc, self._connection.connection_errors)
            self.close()
            if failed:
                self._gate.failed()

    def _ready(self) -> Any:
        if self._producer is None:
            from kombu import Producer

            self._gate = Gate(self._clock)
            connection = quiet_connection(self._app, self._gate, heartbeat=0, connect_timeout=ANSWER_SECONDS)
            # Once: what is waited for here holds the worker.
            connection.connect()
            self._connection = connection
            self._producer = Producer(connection.channel(), auto_declare=False)
        return self._producer

    def close(self) -> None:
        """Give the connection up, without a word."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.collect(socket_timeout=0.1)


class _Noting:
    """A producer that shuts the gate when it fails.

    The worker's heartbeat asks for a retry, which kombu takes for one without end: instead, a connection that was lost
    is made anew by the next one that finds the gate open.
    """

    def __init__(self, producer: Any, gate: Gate, connection: Any) -> None:
        self._producer = producer
        self._gate = gate
        self._connection = connection

    def publish(self, *arguments: Any, **options: Any) -> Any:
        options["retry"] = False
        try:
            if not self._connection.connected:
                self._connection.collect()
                self._connection._default_channel = None
                self._producer.revive(self._connection.default_channel)
            return self._producer.publish(*arguments, **options)
        except Exception:
            self._gate.failed()
            raise


class Quiet(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no type information
    """A step of the consumer: gives it a connection for events, and a voice for mingle and remote control."""

    label = "quiet"

    def __init__(self, c: Any, **kwargs: Any) -> None:
        """Put itself in place of the consumer's way to a connection for writing, which is that of its events.

        :param c: the consumer, not started yet.
        :param kwargs: the worker's options.
        """
        super().__init__(c, **kwargs)
        # The pool is not there yet: its processes are to know it.
        follow.limit_class(c.controller.time_limit)
        c.connection_for_write = functools.partial(self.connection_for_write, c)
        c.app.__dict__["_celeryops_voice"] = self.voice = Voice(c.app)

    @staticmethod
    def connection_for_write(c: Any, url: Any = None, heartbeat: Any = None) -> Any:
        """Connect, as Celery's consumer does; arguments as for its own method."""
        del url
        return c.ensure_connected(quiet_connection(c.app, Gate(), heartbeat=heartbeat, connect_timeout=ANSWER_SECONDS))

    def start(self, c: Any) -> None:
        """Note where the loop will run: nothing that is published in this thread waits for long.

        :param c: the consumer.
        """
        del c
        follow.loop_runs_here()

    def stop(self, c: Any) -> None:
        """Give the connection up: it may be gone as well, or the worker ends."""
        del c
        self.voice.close()


def _voice(app: Any) -> Voice | None:
    voice = app.__dict__.get("_celeryops_voice")
    return voice if voice is not None and voice.usable else None


def _mend_events() -> None:
    from celery.events.dispatcher import EventDispatcher

    @around(EventDispatcher, "_publish")
    def _publish(own: Any, self: Any, event: Any, producer: Any, *arguments: Any, **options: Any) -> Any:
        gate = getattr(self.connection, _GATE, None)
        if gate is None or producer is None:
            return own(self, event, producer, *arguments, **options)
        if not gate.open:
            return None
        return own(self, event, _Noting(producer, gate, self.connection), *arguments, **options)


def _mend_mingle() -> None:
    from celery.worker.consumer.mingle import Mingle

    @around(Mingle, "sync")
    def sync(own: Any, self: Any, c: Any) -> None:
        voice = _voice(c.app)
        mailbox = c.app.control.mailbox
        # A cached property of kombu's; the mailbox copies itself, with what is cached, for each connection.
        before = mailbox.__dict__.get("producer_pool")
        if voice is not None:
            mailbox.__dict__["producer_pool"] = voice
        try:
            own(self, c)
        except (TypeError, ValueError, LookupError) as exc:
            logger.warning("mingle: an answer that cannot be read was left out: %s", type(exc).__name__)
        finally:
            mailbox.__dict__.pop("producer_pool", None)
            if before is not None:
                mailbox.__dict__["producer_pool"] = before


def _mend_remote_control() -> None:
    from kombu.pidbox import Node

    @around(Node, "reply")
    def reply(own: Any, self: Any, data: Any, exchange: Any, routing_key: Any, ticket: Any, **options: Any) -> Any:
        app = getattr(self.state, "app", None)
        voice = _voice(app) if app is not None else None
        if voice is None:
            return own(self, data, exchange, routing_key, ticket, **options)
        serializer = self.mailbox.serializer
        return self.mailbox._publish_reply(
            data, exchange, routing_key, ticket, channel=self.channel, producer=voice, serializer=serializer
        )


def mend() -> None:
    """Change Celery and kombu in this process. Calling it again changes nothing more."""
    run_each((_mend_events, _mend_mingle, _mend_remote_control))


def install(app: Any) -> None:
    """Quieten the worker that is about to start.

    :param app: its app.
    """
    mend()
    app.steps["consumer"].add(Quiet)
