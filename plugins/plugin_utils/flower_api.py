# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The address of RabbitMQ's management API as Flower can use it.

Flower 2.2 (flower/utils/broker.py) decodes the account in the address and hands it to tornado 6.5 beside the address;
tornado (simple_httpclient.py) takes the one in the address, which it does not decode: RabbitMQ is sent ``p%40ss`` and
answers 401. Where the address has none, Flower sends the account of the broker's address, decoded.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.urls import SEPARATORS, each_address, hidden, parts_of

#: What stands for itself in the account of an address (RFC 3986, 3.2.1: unreserved and sub-delims).
_AS_IT_IS = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=-]*")


def flower_api(api: str, broker: str) -> tuple[str, list[Problem]]:
    """Return the address for ``FLOWER_BROKER_API``, and why Flower could not use the one that was given.

    Arguments:
        api: ``flower_broker_api``, which may be empty.
        broker: ``flower_broker_url``.
    """
    variable = "flower_broker_api"
    if not api:
        return "", []
    parts = parts_of(api)
    if parts is None:
        reason = f"cannot be read: characters such as {SEPARATORS} inside a password must be percent-encoded"
        return "", [Problem(variable, hidden(api), reason, "the password through urlencode | replace('/', '%2F')")]
    own = (unquote(parts.username or ""), unquote(parts.password or ""))
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if own == ("", "") or own == _account(broker):
        return place, []
    if all(map(_AS_IT_IS.fullmatch, own)):
        return f"{parts.scheme}://{own[0]}:{own[1]}@{parts.netloc.rpartition('@')[2]}{parts.path}", []
    reason = "has an account that Flower cannot send: it would send the encoded signs as they stand there"
    instead = "the account of flower_broker_url, with the tag monitoring, or a password of letters and digits"
    return "", [Problem(variable, hidden(api), reason, instead)]


def _account(broker: str) -> tuple[str, str]:
    """Return the account of the first address, which is the one that Flower reads."""
    first = next(iter(each_address(broker)), "")
    if parts_of(first) is None:
        return "", ""
    parts = urlsplit(first)
    return unquote(parts.username or ""), unquote(parts.password or "")
