# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""One call is one message: what may have arrived is not sent again, and a publish that gets no answer raises in time.

On RabbitMQ a task is published with confirms. kombu waits for the confirmation as long as the connection gives a sign
of life (heartbeats count), and when the wait fails it connects anew and publishes the same message again. During an
alarm of RabbitMQ's memory or disk each copy waits in a socket that the server does not read, and each of them runs when
the alarm ends: one ``delay()`` took 120 s and ran four times (measured with Celery 5.7.0 and kombu 5.7.0). So here:

* The wait ends after :data:`PUBLISH_SECONDS`, whatever else the connection says, and raises :class:`MaybeSentError`:
  nobody but the broker knows whether the message will run. It is not published again, and neither is one whose
  connection was lost before the answer.
* While RabbitMQ has announced that it takes nothing, nothing is written: :class:`NotSentError` when the time is up.
* A connection that is refused, or found dead before anything was written, is what kombu makes good, as ever.
* What Celery sends on behalf of a task that is done, or is to be tried again, may wait longer (:mod:`.follow`).
* The same message, tried again on the same connection (as Celery 5.7 does for the next step of a chain), is not
  written twice: its first copy is waited for, unless it was confirmed meanwhile. On another connection it is: what
  follows a task is sent at least once.

On Redis an ``LPUSH`` without an answer is such a message, and the connections that publish wait for
:data:`REDIS_SECONDS`. Before a task whose result may be asked for is sent, the result backend subscribes to it, in a
bounded time as well (:mod:`.awaiting`).

Every other question to RabbitMQ (a declaration, the end of a connection) is bounded as well: heartbeats undo that else.
Both errors are kombu's ``OperationalError``, which callers of ``delay()`` know.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kombu.exceptions import OperationalError

from celeryops_runtime import awaiting, follow, locks, nodes
from celeryops_runtime.around import around, run_each

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

PUBLISH_SECONDS = 20.0
"""How long a confirmation may take. ``apply_async(confirm_timeout=...)`` says another time for one message."""

ANSWER_SECONDS = 20.0
"""How long RabbitMQ may take for an answer to anything else."""

CLOSE_SECONDS = 0.5
"""The same for the end of a connection that RabbitMQ has announced not to read."""

NODE_SECONDS = 10.0
"""How long a confirmation, or any other answer, may take of one node of several: another one may answer. An election
behind a frozen node took 7.9 s (RabbitMQ 4.0.5)."""

NODE_CLOSE_SECONDS = 2.0
"""The same for the end of a connection: a node that does not answer is left without a word."""

REDIS_SECONDS = 10.0
"""How long Redis may take for an answer to what publishes."""

_OVER = "not sent: the time of the task that it follows is over"

_clock = time.monotonic
_calling = threading.local()
_events = {"celeryev"}


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Let RabbitMQ take less than :data:`ANSWER_SECONDS` for each answer to this thread.

    :param seconds: so long.
    """
    before = getattr(_calling, "seconds", None)
    _calling.seconds = seconds
    try:
        yield
    finally:
        _calling.seconds = before


class NotSentError(OperationalError):  # type: ignore[misc]  # kombu has no type information
    """The message was not sent."""

    in_alarm = False
    """Whether RabbitMQ has announced on this connection that it takes nothing. A new one would not know of it."""


class MaybeSentError(OperationalError):  # type: ignore[misc]  # kombu has no type information
    """The message was sent, and nobody said that it has arrived: it may run, later."""

    in_alarm = False
    """The same. Tried again on this connection, the message is waited for and not written a second time."""


class _Confirms:
    """What was published on one channel and not confirmed yet, by RabbitMQ's numbers (``delivery-tag``)."""

    def __init__(self, channel: Any) -> None:
        self.sent = 0
        self.open: dict[int, Hashable] = {}
        self.refused: set[int] = set()
        self.doubtful: set[int] = set()
        self.arrived: set[Hashable] = set()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)

    def add(self, key: Hashable) -> int:
        self.sent += 1
        self.open[self.sent] = key
        return self.sent

    def pass_over(self) -> None:
        """Count a message of which nobody wants to know whether it is confirmed."""
        self.sent += 1

    def find(self, key: Hashable) -> int | None:
        """Return the number of a message that waits already, for which is waited again from now on."""
        for tag, other in self.open.items():
            if key is not None and other == key:
                self.doubtful.discard(tag)
                return tag
        return None

    def give_up(self, tag: int) -> None:
        """Remember a message that nobody waits for any more: it may be tried again after RabbitMQ confirmed it."""
        if self.open[tag] is not None:
            self.doubtful.add(tag)

    def has_arrived(self, key: Hashable) -> bool:
        """Tell, once, whether a message that was given up has been confirmed since."""
        arrived = key in self.arrived
        self.arrived.discard(key)
        return arrived

    def begin_anew(self) -> None:
        """Forget all: RabbitMQ counts from one on a channel that it closed and that was opened again."""
        self.sent = 0
        self.open.clear()
        self.refused.clear()
        self.doubtful.clear()

    def _told(self, tag: int, multiple: bool) -> dict[int, Hashable]:
        tags = [one for one in self.open if one == tag or (multiple and one <= tag)]
        return {one: self.open.pop(one) for one in tags}

    def _on_ack(self, tag: int, multiple: bool) -> None:
        told = self._told(tag, multiple)
        self.arrived.update(key for one, key in told.items() if one in self.doubtful)
        self.doubtful.difference_update(told)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        told = self._told(tag, multiple)
        self.refused.update(told.keys() - self.doubtful)
        self.doubtful.difference_update(told)


def _key(message: Any, arguments: dict[str, Any]) -> Hashable:
    """Tell which message this is, if it is a task's."""
    headers = (getattr(message, "properties", None) or {}).get("application_headers") or {}
    task = headers.get("id")
    if not isinstance(task, str):
        return None
    return task, headers.get("retries"), str(arguments.get("exchange")), str(arguments.get("routing_key"))


def note_events(exchange: str) -> None:
    """Remember where an app of this process sends its events: its setting ``event_exchange``.

    :param exchange: its name.
    """
    _events.add(exchange)


def _is_fleeting(options: dict[str, Any]) -> bool:
    """Tell whether a message is remote control or an event (kombu 5.7.0, pidbox.py; celery/events/event.py)."""
    exchange = str(options.get("exchange", ""))
    return exchange.endswith(".pidbox") or exchange in _events


def _is_blocked(connection: Any) -> bool:
    return bool(connection.__dict__.get("_celeryops_blocked"))


def _read(connection: Any, seconds: float) -> bool:
    """Read one frame, if one comes within so many seconds."""
    try:
        connection.blocking_read(max(seconds, 0))
    except (TimeoutError, BlockingIOError):
        return False
    return True


def _in_alarm(error: Any) -> Any:
    error.in_alarm = True
    return error


def _publish(self: Any, message: Any, *arguments: Any, **options: Any) -> Any:
    """Take the place of py-amqp's ``Channel.basic_publish_confirm``; arguments as there."""
    from amqp.exceptions import ConnectionError as AmqpConnectionError
    from amqp.exceptions import MessageNacked, RecoverableChannelError, RecoverableConnectionError

    patience = NODE_SECONDS if nodes.there() else PUBLISH_SECONDS
    limit = options.pop("confirm_timeout", None) or options.get("timeout") or patience
    left = follow.seconds()
    # What follows a task has one time for everything; it may pass in an alarm, and does not begin anew.
    longer = limit if left is None else left
    over = float("inf") if left is None else _clock() + left
    connection = self.connection
    if not connection:
        raise RecoverableConnectionError("basic_publish: connection closed")
    if not self._confirm_selected:
        self._confirm_selected = True
        self.confirm_select()
    confirms = self.__dict__.get("_celeryops_confirms")
    if confirms is None:
        confirms = self.__dict__["_celeryops_confirms"] = _Confirms(self)
    if _is_fleeting(options) and nodes.there():
        # Whoever asks waits for answers, and nobody for events.
        confirms.pass_over()
        self._basic_publish(message, *arguments, **options)
        return
    key = _key(message, options)
    # What was announced, or the end of the connection, before anything is written.
    while _read(connection, 0):
        pass
    if confirms.has_arrived(key):
        return
    tag = confirms.find(key)
    if tag is None and left == 0:
        raise NotSentError(_OVER)
    begun = _clock()
    while tag is None and _is_blocked(connection):
        if _clock() >= begun + longer:
            raise _in_alarm(
                NotSentError(f"not sent: RabbitMQ takes no messages now (an alarm), and did not for {longer:.0f} s")
            )
        _read(connection, begun + longer - _clock())
    if tag is None:
        options["timeout"] = patience = max(0.01, min(limit, over - _clock()))
        try:
            self._basic_publish(message, *arguments, **options)
        except (RecoverableConnectionError, RecoverableChannelError) as exc:
            # A message of which a part was written is none, and the connection no use. But a broker that takes nothing
            # for so long is no lost connection, of which a new one makes good. (py-amqp 5.3: a channel's error.)
            if not isinstance(exc.__context__, TimeoutError):
                raise
            connection.collect()
            raise NotSentError(f"not sent: RabbitMQ did not take the message within {patience:.0f} s") from None
        tag = confirms.add(key)
    begun = free = _clock()
    try:
        while tag in confirms.open:
            if self.connection is None:
                raise RecoverableConnectionError("connection closed")
            blocked = _is_blocked(connection)
            deadline = min(over, begun + longer if blocked else free + limit)
            if _clock() >= deadline:
                break
            _read(connection, deadline - _clock())
            if blocked:
                # The end of an alarm leaves as much time as there was before.
                free = _clock()
    except (OSError, AmqpConnectionError) as exc:
        raise MaybeSentError(
            f"the connection to RabbitMQ was lost before it confirmed the message, which may run: {exc}"
        ) from exc
    if tag in confirms.open:
        blocked = _is_blocked(connection)
        confirms.give_up(tag)
        if not blocked:
            # It may be dead: the next message needs another one.
            connection.collect()
        why = "it takes no messages now (an alarm)" if blocked else "it does not answer"
        waited = _clock() - begun
        error = MaybeSentError(f"RabbitMQ did not confirm the message within {waited:.0f} s; it may run, later: {why}")
        raise _in_alarm(error) if blocked else error
    if tag in confirms.refused:
        confirms.refused.discard(tag)
        raise MessageNacked


def _mend_amqp() -> None:
    from amqp import Channel, Connection, spec
    from amqp.abstract_channel import AbstractChannel

    ends = {spec.Connection.CloseOk, spec.Channel.CloseOk}
    around(Channel, "basic_publish_confirm")(lambda _own, *arguments, **options: _publish(*arguments, **options))

    @around(AbstractChannel, "wait")
    def wait(own: Any, self: Any, method: Any, callback: Any = None, timeout: Any = None, **options: Any) -> Any:
        connection = self.connection
        if timeout is not None or connection is None:
            return own(self, method, callback, timeout, **options)
        methods = method if isinstance(method, list) else [method]
        answer = getattr(_calling, "seconds", None) or (NODE_SECONDS if nodes.there() else ANSWER_SECONDS)
        ending = any(one in ends for one in methods)
        before = connection.__dict__.get("_celeryops_deadline")
        patience, left = answer, follow.seconds()
        if ending and (_is_blocked(connection) or nodes.there()):
            patience = CLOSE_SECONDS if _is_blocked(connection) else NODE_CLOSE_SECONDS
        if left is not None:
            patience = min(patience, max(left, CLOSE_SECONDS))
        connection.__dict__["_celeryops_deadline"] = _clock() + patience
        try:
            return own(self, method, callback, timeout, **options)
        finally:
            connection.__dict__["_celeryops_deadline"] = before

    @around(Connection, "drain_events")
    def drain_events(own: Any, self: Any, timeout: Any = None) -> Any:
        deadline = self.__dict__.get("_celeryops_deadline")
        if timeout is not None or deadline is None:
            return own(self, timeout)
        while True:
            left = deadline - _clock()
            if left <= 0:
                raise TimeoutError("RabbitMQ did not answer")
            if self.blocking_read(left):
                return None

    @around(Connection, "connect")
    def connect(own: Any, self: Any, *arguments: Any, **options: Any) -> Any:
        left = follow.seconds()
        if left is None:
            return own(self, *arguments, **options)
        if left <= 0:
            raise NotSentError(_OVER)
        before = self.connect_timeout
        self.connect_timeout = min(before or ANSWER_SECONDS, left)
        try:
            return own(self, *arguments, **options)
        finally:
            self.connect_timeout = before

    @around(Channel, "_do_revive")
    def revive(own: Any, self: Any) -> Any:
        # RabbitMQ closed the channel for one message (no such exchange, too large). Its successor confirms nothing
        # until it is asked to, which py-amqp 5.3 takes for done.
        self._confirm_selected = False
        if "_celeryops_confirms" in self.__dict__:
            self.__dict__["_celeryops_confirms"].begin_anew()
        return own(self)

    @around(Connection, "_on_blocked")
    def note_blocked(own: Any, self: Any, *arguments: Any) -> Any:
        self.__dict__["_celeryops_blocked"] = True
        return own(self, *arguments)

    @around(Connection, "_on_unblocked")
    def note_unblocked(own: Any, self: Any, *arguments: Any) -> Any:
        self.__dict__["_celeryops_blocked"] = False
        return own(self, *arguments)


def _mend_redis() -> None:
    """Let Redis take a message once, or raise: kombu connects anew and pushes it again else."""
    import redis
    from kombu.transport.redis import Channel

    @around(Channel, "_put")
    def _put(own: Any, self: Any, queue: Any, message: Any, **options: Any) -> Any:
        if follow.seconds() == 0:
            raise NotSentError(_OVER)
        try:
            return own(self, queue, message, **options)
        except redis.exceptions.TimeoutError as exc:
            if " connecting to " in str(exc):
                raise
            raise MaybeSentError(f"Redis did not answer in time; the message may run, later: {exc}") from exc
        except redis.exceptions.ConnectionError as exc:
            # Not connected: nothing was sent. Its subclasses are answers, such as that Redis still loads its data.
            if exc.__class__ is not redis.exceptions.ConnectionError or " connecting to " in str(exc):
                raise
            raise MaybeSentError(
                f"the connection to Redis was lost before it answered; the message may run: {exc}"
            ) from exc


def bound_writes(app: Any) -> None:
    """Give an app's connections for writing to Redis a shorter patience than those that consume.

    :param app: the app.
    """
    own = app.connection_for_write

    def connection_for_write(*arguments: Any, **options: Any) -> Any:
        connection = own(*arguments, **options)
        given = connection.transport_options or {}
        patience = min(given.get("socket_timeout") or REDIS_SECONDS, REDIS_SECONDS)
        connection.transport_options = {**given, "socket_timeout": patience, "socket_connect_timeout": patience}
        return connection

    app.__dict__["connection_for_write"] = connection_for_write


def _mend_awaiting() -> None:
    awaiting.mend(NotSentError)


def mend(broker: str) -> None:
    """Change what publishes to a broker, in this process. Calling it again changes nothing more.

    :param broker: ``rabbitmq`` or ``redis``.
    """
    run_each((_mend_amqp if broker == "rabbitmq" else _mend_redis, _mend_awaiting, locks.mend))
