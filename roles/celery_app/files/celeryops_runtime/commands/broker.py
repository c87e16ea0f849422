# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""The connection of a command to an app's broker, and the error if the broker does not answer."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from celeryops_runtime.commands import REFUSED, USAGE, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@contextmanager
def asked_app(environ: Mapping[str, str]) -> Iterator[Any]:
    """Give an app without tasks: whether the user's own can be imported is another question, and asked elsewhere.

    :param environ: where ``CELERY_BROKER_URL`` is.
    :raises Failure: if it is not, or if the broker does not answer what is asked herein, or refuses.
    """
    from amqp.exceptions import AMQPError
    from celery import Celery
    from kombu.exceptions import KombuError
    from redis.exceptions import RedisError

    if not environ.get("CELERY_BROKER_URL"):
        raise Failure(USAGE, "CELERY_BROKER_URL is not set; the app's celery.env sets it")
    app = Celery("celeryops", set_as_current=False, loader="celeryops_runtime.loader:Loader")
    try:
        yield app
    except (AMQPError, KombuError, RedisError, OSError) as exc:
        reason = getattr(exc, "reply_text", None) or str(exc) or type(exc).__name__
        raise Failure(REFUSED, f"the broker: {reason}") from exc
