# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""The shared configuration of an app, as objects: its queues, routes, rules and settings.

It comes from two JSON documents (:mod:`celeryops_runtime.config_reader`), and becomes Celery's settings
(:mod:`celeryops_runtime.celery_settings`). Kombu is imported only where objects of it are built, so that reading the
documents costs a process no more than :mod:`json`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from celeryops_runtime import versions
from celeryops_runtime.delay import KeepQueue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kombu import Queue as KombuQueue


class ConfigError(Exception):
    """The shared configuration cannot be used. The message is complete: it names the file and what is wrong."""


@dataclass(frozen=True)
class Queue:
    """A queue that workers consume and producers publish to.

    :param name: the queue's name, which is its routing key too.
    :param type: ``quorum`` or ``classic``; a Redis broker has one kind of queue and ignores it.
    :param arguments: further ``x-`` arguments of the declaration, for example ``x-dead-letter-exchange``. RabbitMQ
        compares them on every declaration, so a change needs a new queue name.
    """

    name: str
    type: str = "quorum"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def declared_arguments(self) -> dict[str, Any]:
        """All arguments of the declaration, the queue's type among them.

        :returns: what ``queue.declare`` is sent. The type is always said: RabbitMQ 3.10 and 4.0 take a declaration
            without one for the virtual host's default type, which may be quorum, and for equal to ``classic`` where
            that is the default (measured), so a queue that an app without this package declared still matches.
        """
        return {"x-queue-type": self.type, **self.arguments}


@dataclass(frozen=True)
class Route:
    """Sends the tasks whose name matches to a queue.

    :param task: a task's name, or a pattern in which ``*`` stands for any characters.
    :param queue: name of one of the configuration's queues.
    """

    task: str
    queue: str


@dataclass(frozen=True)
class OnceRule:
    """Lets the tasks whose name matches run once per period; see :mod:`celeryops_runtime.once_guard`.

    :param task: a task's name, or a pattern as in a route.
    :param period: seconds, at least 1.
    :param key: names or positions of the arguments that tell calls apart; None for all.
    :param on_failure: ``free`` lets a failed run be repeated at once, ``keep`` does not.
    :param when_redis_is_down: ``run`` unguarded, or ``refuse`` and wait.
    """

    task: str
    period: int
    key: tuple[str | int, ...] | None = None
    on_failure: str = "free"
    when_redis_is_down: str = "refuse"


@dataclass(frozen=True)
class Once:
    """The tasks that run once per period.

    :param prefix: begins the keys in Redis.
    :param rules: in order; the first that matches decides.
    """

    prefix: str = ""
    rules: tuple[OnceRule, ...] = ()


@dataclass(frozen=True)
class ResultRule:
    """Says whether the results of the tasks whose name matches are kept; see :mod:`celeryops_runtime.results`.

    :param task: a task's name, or a pattern as in a route.
    :param result: ``keep`` or ``ignore``.
    """

    task: str
    result: str


@dataclass(frozen=True)
class SharedConfig:
    """The document after its shape was checked.

    :param app: short name of the app.
    :param broker: ``rabbitmq`` or ``redis``.
    :param default_queue: name of the queue for tasks that no route matches.
    :param exchange: name of the one exchange that all queues are bound to.
    :param queues: all queues of the app, in the order of the document, names distinct.
    :param routes: in order; the first that matches decides.
    :param settings: verbatim Celery settings under their lower-case names; they win over what is derived.
    :param digest: SHA-256 of the file of the settings, in hexadecimal; empty if it was not read from one. What is in
        the file of the queues has no part in it.
    :param once: the tasks that run once per period; none if the document does not speak of them.
    :param results: whose results are kept, in order; the first that matches decides.
    :param own_routes: whether the app's own routes hold in their place (:class:`celeryops_runtime.own.OwnRoutes`).
    :param queues_file: the file that queues and routes are in; empty where they are in that of the settings.
    """

    app: str
    broker: str
    default_queue: str
    exchange: str
    queues: tuple[Queue, ...]
    routes: tuple[Route, ...]
    settings: Mapping[str, Any]
    digest: str = ""
    once: Once = Once()
    results: tuple[ResultRule, ...] = ()
    own_routes: bool = False
    queues_file: str = ""

    @property
    def exchange_type(self) -> str:
        """Type of the exchange.

        :returns: ``topic`` on RabbitMQ, because Celery's native delayed delivery refuses a direct exchange
            (celery/app/base.py, ``send_task``, 5.7.0); ``direct`` on Redis, where kombu then needs no binding table.
        """
        return "topic" if self.broker == "rabbitmq" else "direct"

    @property
    def delayed_queue_type(self) -> str:
        """Type of the queues in which delayed messages wait.

        :returns: ``quorum`` unless the settings say otherwise: classic ones lose a message whose target queue does
            not exist yet (measured with Celery 5.7.0 on RabbitMQ 3.10 and 4.0).
        """
        return str(self.settings.get("broker_native_delayed_delivery_queue_type", "quorum"))

    @property
    def quorum_queues(self) -> bool:
        """Whether there are any.

        :returns: what ``detect_quorum_queues`` of Celery 5.7.0 will find: RabbitMQ with at least one quorum queue.
        """
        return self.broker == "rabbitmq" and any(
            queue.declared_arguments.get("x-queue-type") == "quorum" for queue in self.queues
        )

    @property
    def delays_in_broker(self) -> bool:
        """Whether tasks with an ETA wait in the broker.

        :returns: True with quorum queues, where this process' kombu knows how; else the workers hold these tasks.
        """
        return self.quorum_queues and versions.delays_are_kombus()

    def kombu_queues(self) -> list[KombuQueue]:
        """Build the queues, bound to the exchange with their name as routing key.

        :returns: new objects at each call, in the document's order: Celery changes queues in place, so two apps in
            one process must not share them.
        """
        from kombu import Exchange
        from kombu import Queue as KombuQueue

        exchange = Exchange(self.exchange, type=self.exchange_type)
        rabbitmq = self.broker == "rabbitmq"
        return [
            KombuQueue(
                queue.name,
                exchange,
                routing_key=queue.name,
                queue_arguments=queue.declared_arguments if rabbitmq else None,
            )
            for queue in self.queues
        ]

    def routers(self) -> list[Any]:
        """Build the routers, for ``task_routes``.

        One per route: within one mapping Celery looks at exact names before patterns, whatever their order
        (celery/app/routes.py, MapRoute, 5.7.0). Here the first that matches decides. An app's own routes are the
        loader's to add.

        :returns: new objects at each call.
        """
        keep = [KeepQueue(self.exchange, (queue.name for queue in self.queues))] if self.delays_in_broker else []
        return [*keep, *({route.task: {"queue": route.queue}} for route in self.routes)]
