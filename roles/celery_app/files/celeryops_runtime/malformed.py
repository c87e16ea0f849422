# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""A message that cannot be read or run stops nobody: it goes to the dead letters, with one line in the log.

What Celery does with such a message depends on what is wrong with it. A broken body is acknowledged, and so lost; a
body or a header of another type than expected raises somewhere in the worker's main process, which ends, or, if the
error comes up in ``_quick_drain`` (celery/worker/loops.py), goes on with a message that it holds for ever (measured
with Celery 5.7.0). So every message is looked at before Celery takes it, and what fails nevertheless is refused too:

==============================================  ====================================================================
where it shows                                  what is done
==============================================  ====================================================================
AMQP properties that py-amqp cannot read        the message arrives without them, and is refused as unreadable
compression, also one of 100 bytes to 300 MB    kombu's decoders stop at :data:`LARGEST`
body: encoding, content type, JSON, shape       :func:`flaw`
headers, and the same names within the body     :func:`flaw`
whatever Celery trips over when it takes it     :meth:`Refusal.take`, :meth:`Refusal.start`
a broadcast (remote control, events)            is left out: it has no dead letters, and nobody waits for it
==============================================  ====================================================================

RabbitMQ moves a rejected message to the app's dead-letter queue. Redis has no such thing: there the message is put, as
it came, on the list :data:`REDIS_DEAD_LETTERS` before it is taken off, so that an end of the worker in between leaves
it twice, never not at all.
"""

from __future__ import annotations

import base64
import bz2
import json
import logging
import lzma
import pickle
import struct
import zlib
from collections.abc import Hashable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from celery import bootsteps, signals
from celery.utils.time import maybe_iso8601
from celery.worker import loops, state

from celeryops_runtime.around import put_around, run_each

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["LARGEST", "REDIS_DEAD_LETTERS", "Malformed", "Refusal", "flaw", "install", "mend"]

logger = logging.getLogger("celeryops.runtime")

LARGEST = 64 * 1024 * 1024
"""Bytes of a body that was sent compressed, at most; RabbitMQ 4 takes 16 MiB of one that was not."""

REDIS_DEAD_LETTERS = "dead-letters"
"""The list in Redis, behind the app's prefix; ``LRANGE`` shows it."""

DEEPEST = 100
"""Levels of lists and objects in what stands in a list of Redis; the body is one text there. Python reads what is
nested ten times deeper, and could not always write it again."""

LATEST = 2**53
"""What a logical clock counts to, at most: it is one more with each message."""

BLAMED = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RecursionError,
    pickle.PicklingError,
    struct.error,
)
"""What code raises that trips over a value. A lost connection, a full disk or memory is no message's fault."""

_SHOWN = 80
"""At most so many characters of an id or a name in the log."""


# --- what is wrong with a message -------------------------------------------------------------------------------------


def _text(value: object) -> bool:
    return isinstance(value, str)


def _id(value: object) -> bool:
    # kombu's JSON makes an object of a UUID.
    return isinstance(value, UUID) or (isinstance(value, str) and bool(value))


def _name(value: object) -> bool:
    # A worker counts its tasks by it; Celery prints whatever it is.
    return isinstance(value, Hashable)


def _number(value: object) -> bool:
    return isinstance(value, (int, float))


def _seconds(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e10


def _limits(value: object) -> bool:
    # Celery takes no notice of an empty one.
    return isinstance(value, (list, tuple)) and (not value or (len(value) == 2 and all(map(_seconds, value))))


def _moment(value: object) -> bool:
    try:
        if not isinstance(value, (str, datetime)):
            return False
        moment = maybe_iso8601(value) if value else None
        if moment is not None:
            # The worker computes with it in its own time zone.
            (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).astimezone()
        return value == "" or moment is not None
    except (ValueError, OverflowError):
        return False


def _names(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_text, value))


def _mapping(value: object) -> bool:
    return isinstance(value, dict) and all(map(_text, value))


def _signature(value: object) -> bool:
    # A name alone is a signature too (celery/canvas.py, 5.7.0: ``signature``).
    if isinstance(value, str):
        return bool(value)
    return (
        isinstance(value, dict)
        and isinstance(value.get("task"), str)
        and isinstance(value.get("args") or (), (list, tuple))
        and _mapping(value.get("kwargs") or {})
        and _mapping(value.get("options") or {})
        and isinstance(value.get("subtask_type") or "", str)
    )


def _signatures(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_signature, value))


_FIELDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "timelimit": (_limits, "two numbers of seconds"),
    "eta": (_moment, "a time in ISO 8601"),
    "expires": (_moment, "a time in ISO 8601"),
    "retries": (_number, "a number"),
    "shadow": (_name, "text"),
    "callbacks": (_signatures, "a list of signatures"),
    "errbacks": (_signatures, "a list of signatures"),
    "chain": (_signatures, "a list of signatures"),
    "chord": (_signature, "a signature"),
    "stamped_headers": (_names, "a list of names"),
    "stamps": (_mapping, "an object"),
}
"""What a worker trips over if it is of another type, beside id and task (celery/worker/request.py, strategy.py, 5.7.0).
None is as good as absent. Anything else is only passed on, or taken for true or false, and may be a header that the app
gave the name itself."""

_EMBEDDED = frozenset({"callbacks", "errbacks", "chain", "chord"})
"""What stands in the body of protocol 2. A header of the name counts only where the body does not have it."""

_OF_A_PART: dict[str, tuple[Callable[[object], bool], str]] = {
    "group": (_text, "text"),
    "taskset": (_text, "text"),
    "group_index": (_number, "a number"),
}
"""What is only used of a part of a chord."""


def _fields(values: Mapping[Any, Any], where: str, fields: Mapping[str, Any] | None = None) -> str | None:
    for name, (right, wanted) in (_FIELDS if fields is None else fields).items():
        value = values.get(name)
        if value is not None and not right(value):
            return f"{where} {name} is not {wanted}"
    return None


def _part(values: Mapping[Any, Any]) -> str | None:
    return None if values.get("chord") is None else _fields(values, "of a chord's part,", _OF_A_PART)


def _identity(values: Mapping[Any, Any], where: str) -> str | None:
    for name in ("id", "task"):
        value = values.get(name)
        if not (_id if name == "id" else _text)(value) or not value:
            return f"{where} {name} is missing" if value is None else f"{where} {name} is not text, or empty"
    return None


def _arguments(args: object, kwargs: object) -> str | None:
    if not isinstance(args, (list, tuple)):
        return "the positional arguments are not a list"
    return None if _mapping(kwargs) else "the keyword arguments are not an object with names"


def flaw(headers: Mapping[Any, Any], payload: object) -> str | None:
    """Tell what is wrong with a task's message.

    :param headers: the message's headers.
    :param payload: its decoded body: of protocol 2 if the headers name the task, else of protocol 1.
    :returns: one phrase that names the field and not its content, or None if nothing is.
    """
    if headers.get("task") is None:
        if not isinstance(payload, dict):
            return "it has no header task, and its body is not an object"
        return (
            _identity(payload, "in the body,")
            or _fields(payload, "in the body,")
            or _part(payload)
            or _arguments(payload.get("args", ()), payload.get("kwargs", {}))
        )
    found = _identity(headers, "header")
    if found:
        return found
    others = {name: value for name, value in headers.items() if name not in _EMBEDDED}
    if isinstance(payload, dict):
        # The form between the two protocols (celery/worker/strategy.py, 5.7.0: ``hybrid_to_proto2``).
        if "args" not in payload:
            return "its body is an object without args"
        return (
            _fields(others, "header")
            or _fields(payload, "in the body,")
            or _part({**payload, **others})
            or _arguments(payload["args"], payload.get("kwargs", {}))
        )
    if not isinstance(payload, (list, tuple)) or len(payload) != 3:
        return "its body is not a list of arguments, keyword arguments and options"
    args, kwargs, embed = payload
    if embed is not None and not _mapping(embed):
        return "the options in its body are not an object"
    embedded = embed or {}
    seen = {**others, **{name: headers.get(name) for name in _EMBEDDED - embedded.keys()}}
    return (
        _arguments(args, kwargs)
        or _fields(seen, "header")
        or _fields(embedded, "in the body,")
        or _part({**seen, **embedded})
    )


def _unreadable(exc: BaseException) -> str:
    """Say why a body cannot be read, without a word of it."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, UnicodeError):
            return "its body is not in the encoding that it names"
        if isinstance(cause, TooLargeError):
            return str(cause)
        if isinstance(cause, json.JSONDecodeError):
            return f"its body is not JSON ({cause.msg})"
        if type(cause).__name__ == "ContentDisallowed":
            # kombu's own words name the type, and nothing of the body.
            return f"its content type is not accepted ({_shown(str(cause))})"
        cause = cause.__cause__ or cause.__context__
    return f"its body cannot be read ({type(exc).__name__})"


def _shown(value: object) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, UUID):
        value = str(value)
    # repr: what comes from outside must not begin a new line.
    return repr(value[:_SHOWN]) if isinstance(value, str) else f"({type(value).__name__})"


# --- what is done with it ---------------------------------------------------------------------------------------------


class Refusal:
    """Stands between the consumers of one worker and Celery's handling of what they receive."""

    def __init__(self, consumer: Any) -> None:
        """Put itself in front of the consumer's methods; Celery binds them when it connects.

        :param consumer: the worker's consumer, not started yet.
        """
        self.consumer = consumer
        controller = consumer.controller
        own = controller._process_task
        self._process = own
        self._unknown_task = consumer.on_unknown_task
        self._create_task_handler = consumer.create_task_handler
        consumer.create_task_handler = self.create_task_handler
        consumer.on_decode_error = self.on_decode_error
        consumer.on_unknown_message = self.on_unknown_message
        consumer.on_invalid_task = self.on_invalid_task
        consumer.on_unknown_task = self.on_unknown_task
        # Remote control has the event loop call these, where an error ends the worker.
        self._add_task_queue, self._cancel_task_queue = consumer.add_task_queue, consumer.cancel_task_queue
        consumer.add_task_queue, consumer.cancel_task_queue = self.add_task_queue, self.cancel_task_queue
        # Where a semaphore counts the pool's processes it calls this one later, else the consumer does at once
        # (celery/worker/components.py, Pool.create, 5.7.0).
        controller._process_task = self.start
        if consumer.on_task_request == own:
            consumer.on_task_request = self.start

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Make the callback for the messages of tasks; arguments are Celery's own."""
        take = self._create_task_handler(*args, **kwargs)
        return lambda message: self.take(take, message)

    def take(self, take: Callable[[Any], Any], message: Any) -> None:
        """Give a message to Celery, or refuse it.

        :param take: Celery's own callback.
        :param message: kombu's message.
        """
        try:
            payload = message.payload
        except MemoryError:
            raise
        except Exception as exc:
            self.refuse(message, _unreadable(exc), exc)
            return
        problem = flaw(message.headers, payload)
        if problem:
            self.refuse(message, problem)
            return
        try:
            take(message)
        except BLAMED as exc:
            self.refuse(message, f"Celery cannot take it ({type(exc).__name__})", exc)

    def start(self, request: Any) -> None:
        """Give a task to the pool, or refuse its message.

        :param request: Celery's request.
        """
        try:
            self._process(request)
        except BLAMED as exc:
            release = getattr(self.consumer.controller, "_quick_release", None)
            if release is not None:
                release()
            state.task_ready(request)
            self.refuse(request.message, f"no process can be given it ({type(exc).__name__})", exc)

    def on_decode_error(self, message: Any, exc: BaseException) -> None:
        """Refuse what kombu could not decompress or decode."""
        self.refuse(message, _unreadable(exc), exc)

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Refuse what is no task."""
        del body
        self.refuse(message, "it names no task")

    def on_invalid_task(self, body: Any, message: Any, exc: BaseException) -> None:
        """Refuse what Celery itself found to be wrong."""
        del body
        self.refuse(message, f"Celery cannot take it ({type(exc).__name__})", exc)

    def on_unknown_task(self, body: Any, message: Any, exc: BaseException) -> None:
        """Let Celery refuse a task that this app does not have, which it tells whoever waits for the result."""
        self._keep(message)
        self._unknown_task(body, message, exc)

    def add_task_queue(
        self, queue: Any, exchange: Any = None, exchange_type: Any = None, routing_key: Any = None, **options: Any
    ) -> None:
        """Consume from a queue as remote control asks for, or tell why not.

        What cannot be declared would be declared again at each connection, and no worker would ever consume anything.
        So a queue that is new here is tried on a channel of its own, and forgotten if that fails.

        :param queue: its name.
        :param exchange: its exchange's name; the queue's, if not given.
        :param exchange_type: ``direct`` if not given.
        :param routing_key: the queue's name if not given.
        :param options: for kombu's queue.
        """
        connection = self.consumer.connection
        queues = self.consumer.app.amqp.queues
        new = False
        try:
            new = queue not in queues
            if new:
                # Selected, or a worker with queues of its own forgets it at the next connection.
                queues.select_add(
                    queue,
                    exchange=queue if exchange is None else exchange,
                    exchange_type=exchange_type or "direct",
                    routing_key=routing_key,
                    **options,
                )
                with connection.channel() as channel:
                    queues[queue](channel).declare()
            self._add_task_queue(queue)
        except Exception as exc:
            if new:
                queues.deselect(queue)
                queues.pop(queue, None)
            if not isinstance(exc, (*BLAMED, *connection.channel_errors)):
                raise
            logger.error("remote control: not consuming from %s (%s: %s)", _shown(queue), type(exc).__name__, exc)

    def cancel_task_queue(self, queue: Any) -> None:
        """Consume no more from a queue as remote control asks for.

        :param queue: its name.
        """
        try:
            self._cancel_task_queue(queue)
        except BLAMED as exc:
            logger.error("remote control: %s is no queue (%s)", _shown(queue), type(exc).__name__)

    def refuse(self, message: Any, reason: str, exc: BaseException | None = None) -> None:
        """Send a message to the dead letters.

        :param message: kombu's message. One of a broadcast, which nobody acknowledges, is only left out.
        :param reason: for the log, without the message's content.
        :param exc: what was raised, for those who listen to Celery's signal ``task_rejected``.
        """
        if message.acknowledged:
            return
        broadcast = _needs_no_answer(message)
        logger.error(
            "message refused, %s: queue %s, id %s, task %s: %s",
            "and left out" if broadcast else "to the dead letters",
            _shown(self._queue(message)),
            *self._names(message),
            reason,
        )
        logger.debug("the refused message", exc_info=exc)
        if broadcast:
            return
        self._keep(message)
        message.reject_log_error(logger, self.consumer.connection_errors)
        signals.task_rejected.send(sender=self.consumer, message=message, exc=exc)

    def _keep(self, message: Any) -> None:
        """Put a message on the list of the dead, where the broker would drop it."""
        channel, raw = message.channel, getattr(message, "_raw", None)
        if raw is None or not hasattr(channel, "conn_or_acquire") or message.acknowledged:
            return
        with channel.conn_or_acquire() as client:
            client.lpush(REDIS_DEAD_LETTERS, json.dumps(raw, default=repr))

    def _queue(self, message: Any) -> object:
        info = message.delivery_info or {}
        tags = getattr(self.consumer.task_consumer, "_active_tags", None) or {}
        for queue, tag in tags.items():
            if tag == info.get("consumer_tag"):
                return queue
        return info.get("routing_key")

    @staticmethod
    def _names(message: Any) -> tuple[str, str]:
        values = message.headers
        payload = message._decoded_cache
        if values.get("task") is None and isinstance(payload, dict):
            values = payload
        return _shown(values.get("id")), _shown(values.get("task"))


def _needs_no_answer(message: Any) -> bool:
    """Tell whether a message came through a consumer that does not acknowledge."""
    delivered = getattr(getattr(message.channel, "qos", None), "_delivered", None)
    if delivered is not None:
        # kombu's own queues (Redis) keep what is to be acknowledged, and no list of consumers.
        return message.delivery_tag not in delivered
    tags = getattr(message.channel, "no_ack_consumers", None)
    return bool(tags and (message.delivery_info or {}).get("consumer_tag") in tags)


class Malformed(bootsteps.Step):  # type: ignore[misc]  # Celery has no type information
    """A step of the consumer without a start: it is made when the worker is, before anything is received."""

    label = "malformed"

    def __init__(self, c: Any, **kwargs: Any) -> None:
        """Put :class:`Refusal` in its place.

        :param c: the consumer.
        :param kwargs: the worker's options.
        """
        super().__init__(c, **kwargs)
        try:
            self.refusal = Refusal(c)
        except AttributeError:
            logger.warning("malformed messages are left to Celery: this version is not known", exc_info=True)


# --- what kombu, py-amqp and Celery's loop do before ------------------------------------------------------------------


class TooLargeError(ValueError):
    """A compressed body is larger than :data:`LARGEST`, or not a whole one."""


def _bounded(make: Callable[[], Any]) -> Callable[[bytes], bytes]:
    """Make a decoder that stops.

    :param make: makes the standard library's decompressor, of zlib, bz2 or lzma.
    """

    def decode(body: bytes) -> bytes:
        decompressor = make()
        text: bytes = decompressor.decompress(body, LARGEST + 1)
        if len(text) > LARGEST:
            raise TooLargeError(f"its body is larger than {LARGEST} bytes when decompressed")
        if not decompressor.eof:
            raise TooLargeError("its compressed body is not complete")
        return text

    return decode


class _Brotli:
    """Brotli's decompressor with the standard library's words."""

    def __init__(self, brotli: Any) -> None:
        self._own = brotli.Decompressor()

    def decompress(self, body: bytes, limit: int) -> bytes:
        parts = [self._own.process(body, output_buffer_limit=limit)]
        size = len(parts[0])
        while size < limit and parts[-1] and not self._own.is_finished():
            parts.append(self._own.process(b"", output_buffer_limit=limit - size))
            size += len(parts[-1])
        return b"".join(parts)

    @property
    def eof(self) -> bool:
        return bool(self._own.is_finished())


def _refused(_body: bytes) -> bytes:
    raise TooLargeError("its compression cannot be bounded here")


def _mend_compression() -> None:
    from kombu import compression

    decoders = compression._decoders
    for content_type, make in (
        ("application/x-gzip", zlib.decompressobj),
        ("application/x-bz2", bz2.BZ2Decompressor),
        ("application/x-lzma", lzma.LZMADecompressor),
    ):
        if content_type in decoders:
            decoders[content_type] = _bounded(make)
    # These come with kombu 5.7 and a package, or Python 3.14; the module is the one that kombu has chosen.
    zstd, brotli = getattr(compression, "zstd", None), getattr(compression, "brotli", None)
    if "application/zstd" in decoders:
        own = getattr(zstd, "ZstdDecompressor", None)
        decoders["application/zstd"] = _bounded(own) if own else _refused
    if "application/x-brotli" in decoders:
        # Brotli's own decompressor stops nowhere before its version 1.2.
        bounds = hasattr(getattr(brotli, "Decompressor", None), "can_accept_more_data")
        decoders["application/x-brotli"] = _bounded(lambda: _Brotli(brotli)) if bounds else _refused


def _mend_amqp() -> None:
    """Let a message arrive whose properties py-amqp cannot read; it ends the connection otherwise, twenty times."""
    from amqp.basic_message import Message

    def make(own: Any) -> Callable[..., Any]:
        def _load_properties(self: Any, class_id: int, buf: bytes, offset: int) -> None:
            try:
                own(self, class_id, buf, offset)
            except Exception:
                logger.debug("a message's properties cannot be read", exc_info=True)
                self.properties = {}

        return _load_properties

    put_around(Message, "_load_properties", make)


def _wrapped(raw: str) -> dict[str, Any]:
    """Put what is no message of kombu's into one that nobody can read."""
    return {
        "body": base64.b64encode(raw.encode("utf-8", "surrogateescape")).decode("ascii"),
        "content-encoding": "binary",
        "content-type": "application/data",
        "headers": {},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
            "delivery_mode": 2,
            "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": ""},
        },
    }


def _is_flat(value: object, text: str) -> bool:
    """Tell whether what was read is nested so little that it can be written again, from wherever that happens.

    :param value: what was read.
    :param text: what it was read from: it has a bracket for each level.
    """
    if text.count("{") + text.count("[") <= DEEPEST:
        return True
    level = [value]
    for _level in range(DEEPEST):
        level = [
            child
            for one in level
            if isinstance(one, (dict, list))
            for child in (one.values() if isinstance(one, dict) else one)
        ]
    return not level


def _tag(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:
        return False


def _is_message(value: object) -> bool:
    """Tell whether kombu can make a message of this (kombu/transport/virtual/base.py, ``Message``), and keep it."""
    if not isinstance(value, dict) or not isinstance(value.get("properties"), dict):
        return False
    properties = value["properties"]
    return (
        _tag(properties.get("delivery_tag"))
        and isinstance(properties.get("delivery_info"), dict)
        and isinstance(properties.get("body_encoding") or "", str)
        and isinstance(value.get("headers") or {}, dict)
        and isinstance(value.get("body") or "", str)
        and isinstance(value.get("content-type") or "", str)
        and isinstance(value.get("content-encoding") or "", str)
    )


def _lead_back(message: dict[str, Any], queue: str, state: Any) -> None:
    """Let a message that is returned go to the queue that it came from, whatever its sender wrote into it.

    kombu returns it by the exchange and the routing key that it carries, and drops it where these lead nowhere: a
    client in another language may have names of its own there, or none.

    :param message: as it was read.
    :param queue: whose list it was on.
    :param state: what the transport knows of exchanges and bindings.
    """
    if not message.get("headers"):
        # kombu notes the return in them.
        message["headers"] = {}
    info = message["properties"]["delivery_info"]
    way = info.get("exchange"), info.get("routing_key")
    known = all(isinstance(part, str) for part in way) and state.has_binding(queue, *way)
    if not known and way != ("", queue):
        info.update(exchange="", routing_key=queue)


def _mend_redis() -> None:
    """Let what stands in a list of Redis arrive, whatever it is: it is off the list by the time kombu reads it."""
    try:
        from kombu.transport import redis as transport
    except ImportError:
        return
    loads, bytes_to_str = transport.loads, transport.bytes_to_str
    if getattr(loads, "__celeryops__", False):
        return
    decode_body = transport.Channel.decode_body

    def tolerant_bytes_to_str(value: Any) -> Any:
        try:
            return bytes_to_str(value)
        except UnicodeDecodeError:
            return value.decode("utf-8", "surrogateescape")

    def tolerant_loads(text: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            value = loads(text, *args, **kwargs)
        except (ValueError, TypeError, RecursionError):
            value = None
        # A list of three: a message that was not acknowledged, with where it came from.
        kept = isinstance(value, list) and len(value) == 3 and _is_message(value[0])
        if (kept or _is_message(value)) and _is_flat(value, text):
            return value
        return _wrapped(text if isinstance(text, str) else str(text))

    def made_whole(own: Any) -> Callable[..., Any]:
        def _deliver(self: Any, message: Any, queue: str) -> Any:
            if not isinstance(message, dict):
                # In a queue such a list is nobody's.
                message = _wrapped(json.dumps(message))
            # What was broadcast names its event by its key, and is never returned.
            if not any(queue in channel._fanout_queues for channel in self.channels if channel):
                _lead_back(message, queue, self.state)
            return own(self, message, queue)

        return _deliver

    def tolerant_decode_body(self: Any, body: Any, encoding: Any = None) -> Any:
        try:
            return decode_body(self, body, encoding)
        except (ValueError, TypeError, AttributeError):
            return body

    tolerant_loads.__celeryops__ = True  # type: ignore[attr-defined]
    transport.loads, transport.bytes_to_str = tolerant_loads, tolerant_bytes_to_str
    transport.Channel.decode_body = tolerant_decode_body
    put_around(transport.Transport, "_deliver", made_whole)


def _mend_loop() -> None:
    """Let Celery's first look at a new connection raise what it meets, as each later one does."""

    def _quick_drain(connection: Any, timeout: float = 0.1) -> None:
        try:
            connection.drain_events(timeout=timeout)
        except (TimeoutError, BlockingIOError):
            return

    if hasattr(loops, "_quick_drain"):
        put_around(loops, "_quick_drain", lambda _own: _quick_drain)


def _mend_broadcasts() -> None:
    """Keep what other processes broadcast from ending this one."""
    from celery.worker.consumer.gossip import Gossip

    def make(own: Any) -> Callable[..., Any]:
        def on_message(self: Any, prepare: Any, message: Any) -> Any:
            try:
                return own(self, prepare, message)
            except MemoryError:
                raise
            except Exception as exc:
                if isinstance(exc, OSError):
                    raise
                logger.warning("an event that cannot be read was left out: %s", type(exc).__name__)
                return None

        return on_message

    put_around(Gossip, "on_message", make)


def _mend_clock() -> None:
    """Let no other process set this one's logical clock to what fits into no answer (64 bits in AMQP's headers)."""
    from kombu.clocks import LamportClock

    def make(own: Any) -> Callable[..., Any]:
        def adjust(self: Any, other: Any) -> Any:
            return own(self, other if isinstance(other, int) and 0 <= other < LATEST else 0)

        return adjust

    put_around(LamportClock, "adjust", make)


def mend() -> None:
    """Change kombu, py-amqp and Celery in this process. Calling it again changes nothing more."""
    run_each((_mend_compression, _mend_amqp, _mend_redis, _mend_loop, _mend_broadcasts, _mend_clock))


def install(app: Any) -> None:
    """Protect the worker that is about to start.

    :param app: its app.
    """
    mend()
    app.steps["consumer"].add(Malformed)
