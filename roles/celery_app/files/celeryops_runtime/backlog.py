"""How many messages wait in queues, whatever the broker: none is taken, nothing is declared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celeryops_runtime.probe import ready

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["waiting"]


def waiting(connection: Any, names: Iterable[str]) -> dict[str, int | None]:
    """Count.

    A declaration that is passive asks for a queue and creates none, and RabbitMQ answers with the messages that no
    worker has taken. On Redis it is the length of the lists, those of all priorities together.

    :param connection: a connected :class:`kombu.Connection`.
    :param names: of queues.
    :returns: name -> messages; None for a queue that does not exist.
    :raises Exception: whatever the connection raises when it is lost, or the broker when it refuses.
    """
    found: dict[str, int | None] = {}
    channel = connection.channel()
    for name in dict.fromkeys(names):
        if hasattr(channel, "_size"):
            # Redis: an empty list is none (`ready` says why it is not declared passively there).
            found[name] = ready(channel, name) or None
            continue
        try:
            found[name] = int(channel.queue_declare(queue=name, passive=True).message_count)
        except connection.channel_errors as exc:
            # Not to be there is an answer, everything else is none (AMQP 0-9-1, 404).
            if str(getattr(exc, "reply_code", "") or getattr(exc, "code", "")) != "404":
                raise
            found[name] = None
            channel = connection.channel()
    return found
