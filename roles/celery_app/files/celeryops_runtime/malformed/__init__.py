# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""A message that cannot be read or run stops no worker: it goes to the dead letters, with one line in the log.

What Celery does with such a message depends on what is wrong with it. A broken body is acknowledged, and so lost; a
body or a header of another type than expected raises somewhere in the worker's main process, which ends, or, if the
error comes up in ``_quick_drain`` (celery/worker/loops.py), goes on with a message that it holds for ever (measured
with Celery 5.7.0). So every message is looked at before Celery takes it, and what fails nevertheless is refused too:

==============================================  ====================================================================
where it shows                                  what is done
==============================================  ====================================================================
AMQP properties that py-amqp cannot read        the message arrives without them, and is refused as unreadable
what is no message, in a list of Redis          it arrives as one that is unreadable (:mod:`.redis_lists`)
compression, also one of 100 bytes to 300 MB    kombu's decoders stop at a limit (:mod:`.decompression`)
body: encoding, content type, JSON, shape       :func:`.flaws.flaw`
headers, and the same names within the body     :func:`.flaws.flaw`
whatever Celery trips over when it takes it     :meth:`.refusal.Refusal.take`, :meth:`.refusal.Refusal.start`
a broadcast (remote control, events)            is left out: it has no dead letters, and nobody waits for it
==============================================  ====================================================================

RabbitMQ moves a rejected message to the app's dead-letter queue. Redis has no such thing: there the message is put, as
it came, on the list :data:`.refusal.REDIS_DEAD_LETTERS` before it is taken off, so that an end of the worker in between
leaves it twice, never not at all.
"""

from __future__ import annotations

from typing import Any

from celeryops_runtime.malformed.refusal import Malformed
from celeryops_runtime.malformed.tolerance import mend


def install(app: Any) -> None:
    """Protect the worker that is about to start.

    :param app: its app.
    """
    mend()
    app.steps["consumer"].add(Malformed)
