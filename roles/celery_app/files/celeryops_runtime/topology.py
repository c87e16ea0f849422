# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Declares the RabbitMQ objects of an app in advance: exchange, queues, and their delayed delivery.

Without them a worker that consumes some of the queues logs a CRITICAL line for the others, and a delayed task for a
queue that nobody has declared yet waits minutes or is lost (measured with Celery 5.7.0 on RabbitMQ 3.10 and 4.0).

What delayed delivery consists of is kombu's knowledge (kombu/transport/native_delayed_delivery.py): its own functions
are run against a recorder instead of a channel, and what they asked for is compared with the broker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from amqp.exceptions import AccessRefused, NotFound, PreconditionFailed, ResourceLocked
from kombu.transport.base import to_rabbitmq_queue_arguments

if TYPE_CHECKING:
    from collections.abc import Callable

    from celeryops_runtime.config import SharedConfig


@dataclass
class Topology:
    """What must exist on the broker. Each item holds the keyword arguments of py-amqp's method of that name.

    :param exchanges: by name, arguments of ``Channel.exchange_declare``.
    :param queues: by name, arguments of ``Channel.queue_declare``.
    :param bindings: arguments of ``Channel.queue_bind`` (with ``queue``) or ``Channel.exchange_bind`` (with
        ``destination``).
    """

    exchanges: dict[str, dict[str, Any]] = field(default_factory=dict)
    queues: dict[str, dict[str, Any]] = field(default_factory=dict)
    bindings: list[dict[str, Any]] = field(default_factory=list)

    def __len__(self) -> int:
        """Count the objects that can be missing: exchanges and queues."""
        return len(self.exchanges) + len(self.queues)


class Recorder:
    """Stands in for a kombu connection and its channel, and keeps what it is asked to declare. No I/O."""

    is_open = True

    def __init__(self) -> None:
        """Begin with nothing."""
        self.topology = Topology()

    def channel(self) -> Recorder:
        """Give the channel.

        :returns: itself.
        """
        return self

    def prepare_queue_arguments(self, arguments: dict[str, Any] | None, **options: Any) -> dict[str, Any]:
        """Translate kombu's queue options, as its channel for RabbitMQ does.

        :param arguments: ``x-`` arguments.
        :param options: ``expires``, ``message_ttl`` and the like.
        :returns: all as ``x-`` arguments.
        """
        prepared: dict[str, Any] = to_rabbitmq_queue_arguments(arguments or {}, **options)
        return prepared

    def exchange_declare(self, exchange: str, **arguments: Any) -> None:
        """Keep an exchange.

        :param exchange: its name.
        :param arguments: as for py-amqp.
        """
        arguments.pop("nowait", None)
        arguments.pop("passive", None)
        self.topology.exchanges[exchange] = {"exchange": exchange, **arguments}

    def queue_declare(self, queue: str, **arguments: Any) -> tuple[str, int, int]:
        """Keep a queue.

        :param queue: its name.
        :param arguments: as for py-amqp.
        :returns: name, messages, consumers, as a channel would.
        """
        arguments.pop("nowait", None)
        arguments.pop("passive", None)
        self.topology.queues[queue] = {"queue": queue, **arguments}
        return queue, 0, 0

    def queue_bind(self, queue: str, exchange: str, routing_key: str, arguments: Any = None, **_more: Any) -> None:
        """Keep a queue's binding; arguments as for py-amqp."""
        self._bind({"queue": queue, "exchange": exchange, "routing_key": routing_key, "arguments": arguments or {}})

    def exchange_bind(
        self, destination: str, source: str, routing_key: str, arguments: Any = None, **_more: Any
    ) -> None:
        """Keep an exchange's binding; arguments as for py-amqp."""
        self._bind(
            {"destination": destination, "source": source, "routing_key": routing_key, "arguments": arguments or {}}
        )

    def _bind(self, binding: dict[str, Any]) -> None:
        if binding not in self.topology.bindings:
            self.topology.bindings.append(binding)


def topology(config: SharedConfig) -> Topology:
    """Work out what an app needs on RabbitMQ.

    :param config: the shared configuration; its broker must be RabbitMQ.
    :returns: exchange, queues and bindings; with delayed delivery unless all queues are classic, for which Celery
        does not use it.
    """
    recorder = Recorder()
    queues = config.kombu_queues()
    for queue in queues:
        queue(recorder).declare()
    if config.delays_in_broker:
        # Only kombu 5.5 and newer have it; with an older one the workers hold these tasks.
        from kombu.transport.native_delayed_delivery import (
            bind_queue_to_native_delayed_delivery_exchange,
            declare_native_delayed_delivery_exchanges_and_queues,
        )

        declare_native_delayed_delivery_exchanges_and_queues(recorder, config.delayed_queue_type)
        for queue in queues:
            bind_queue_to_native_delayed_delivery_exchange(recorder, queue)
    return recorder.topology


@dataclass(frozen=True)
class Outcome:
    """What a comparison with the broker found.

    :param missing: objects that did not exist, as ``queue payments`` or ``exchange tasks``.
    :param conflicts: one sentence per object that exists in another form, or that this user may not declare, with
        what to do about it.
    """

    missing: list[str]
    conflicts: list[str]


def reconcile(connection: Any, wanted: Topology, *, check: bool) -> Outcome:
    """Compare with the broker, and declare what is missing.

    Objects that exist are declared once more, which is how a broker compares type and arguments; it changes nothing.
    Bindings cannot be asked for in AMQP, so they are all made again, which is idempotent and needs no answer each.

    :param connection: a connected :class:`kombu.Connection`.
    :param wanted: what must exist.
    :param check: only look.
    :returns: what was missing (and exists now, unless ``check``), and what stands in the way. With a conflict nothing
        is created.
    :raises Exception: whatever the connection raises when it is lost.
    """
    missing: list[str] = []
    conflicts: list[str] = []
    absent: list[tuple[str, str, dict[str, Any]]] = []
    channel = connection.channel()

    def attempt(call: Callable[[], object]) -> Exception | None:
        # A refused method closes its channel, so the next one needs another.
        nonlocal channel
        try:
            call()
        except (NotFound, PreconditionFailed, AccessRefused, ResourceLocked) as exc:
            channel = connection.channel()
            refusal: Exception = exc
            return refusal
        return None

    def declare(kind: str, arguments: dict[str, Any], *, passive: bool) -> object:
        method = channel.exchange_declare if kind == "exchange" else channel.queue_declare
        # py-amqp's own defaults are auto_delete=True; kombu's arguments always say it.
        return method(passive=passive, **arguments)

    for kind, objects in (("exchange", wanted.exchanges), ("queue", wanted.queues)):
        for name, arguments in objects.items():
            refused = attempt(lambda k=kind, a=arguments: declare(k, a, passive=True))  # type: ignore[misc]
            if isinstance(refused, NotFound):
                missing.append(f"{kind} {name}")
                absent.append((kind, name, arguments))
                continue
            refused = refused or attempt(lambda k=kind, a=arguments: declare(k, a, passive=False))  # type: ignore[misc]
            if refused:
                conflicts.append(_explain(kind, name, refused))
    if check or conflicts:
        return Outcome(missing, conflicts)

    for kind, name, arguments in absent:
        refused = attempt(lambda k=kind, a=arguments: declare(k, a, passive=False))  # type: ignore[misc]
        if refused:
            return Outcome(missing, [_explain(kind, name, refused)])
    refused = attempt(lambda: _bind_all(channel, wanted))
    return Outcome(missing, [_explain("binding to", wanted_name(wanted), refused)] if refused else [])


def wanted_name(wanted: Topology) -> str:
    """Name the app's own exchange, for messages.

    :param wanted: the topology.
    :returns: the first exchange that was asked for.
    """
    return next(iter(wanted.exchanges), "?")


def _bind_all(channel: Any, wanted: Topology) -> None:
    for binding in wanted.bindings:
        bind = channel.queue_bind if "queue" in binding else channel.exchange_bind
        bind(nowait=True, **binding)
    # One answer for all: the broker works through a channel in order, and a refusal arrives here.
    for arguments in wanted.exchanges.values():
        channel.exchange_declare(passive=True, **arguments)
        break


def _explain(kind: str, name: str, refused: Exception) -> str:
    text = str(getattr(refused, "reply_text", None) or refused)
    if isinstance(refused, PreconditionFailed):
        return (
            f"{kind} {name} exists in another form ({text}). RabbitMQ never changes the type or the arguments of an "
            f"existing {kind}: give it a new name in the inventory (a queue that becomes a quorum queue, or an "
            "exchange that becomes a topic exchange, needs new names for both), or stop what uses it, delete it on "
            "the broker once it is empty, and run this again."
        )
    if isinstance(refused, AccessRefused):
        return (
            f"{kind} {name}: the broker's user may not declare it ({text}). It needs the permission 'configure' on "
            "the app's exchange and queues and on celery_delayed_*."
        )
    return f"{kind} {name}: {text}"
