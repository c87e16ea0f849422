# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The URLs of RabbitMQ's management API for Flower, one for each node.

Flower 2.2 (flower/utils/broker.py) decodes the account in the address and hands it to tornado 6.5 beside the address;
tornado (simple_httpclient.py) takes the one in the address, which it does not decode: RabbitMQ is sent ``p%40ss`` and
answers 401. Where the address has none, Flower sends the account of the broker's address, decoded.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ansible_collections.celeryops.stack.plugins.module_utils.endpoints import UnreadableURLError, each_address, parse
from ansible_collections.celeryops.stack.plugins.module_utils.masking import hidden
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem

#: What stands for itself in the account of an address beside letters and digits (RFC 3986, 3.2.1: sub-delims and those
#: that Python never encodes).
_PLAIN = "!$&'()*+,;="
_AS_IT_IS = re.compile(rf"[A-Za-z0-9._~{_PLAIN}-]*")


def flower_api(api: str, broker: str) -> tuple[list[str], list[Problem]]:
    """Return the addresses as Flower needs them, and why it could not use one that was given.

    Arguments:
        api: ``flower_broker_api``: none, one or several addresses.
        broker: ``flower_broker_url``.
    """
    urls: list[str] = []
    problems: list[Problem] = []
    for address in each_address(api):
        url, found = _for_flower(address, broker)
        urls += [url] if url else []
        problems += found
    return urls, problems


def _for_flower(address: str, broker: str) -> tuple[str, list[Problem]]:
    variable = "flower_broker_api"
    try:
        endpoint = parse(address)
    except UnreadableURLError as error:
        return "", [Problem("unreadable-address", variable, hidden(address), error.reason, error.instead)]
    own = (endpoint.user, endpoint.password)
    if own == ("", "") or own == _account(broker):
        return replace(endpoint, user="", password="").url(), []
    if all(map(_AS_IT_IS.fullmatch, own)):
        return endpoint.url(plain=_PLAIN), []
    reason = "has an account that Flower cannot send: it would send the encoded signs as they stand there"
    instead = "the account of flower_broker_url, with the tag management, or a password of letters and digits"
    return "", [Problem("account-flower-cannot-send", variable, endpoint.shown(), reason, instead)]


def _account(broker: str) -> tuple[str, str]:
    """Return the account of the first address, which is the one that Flower reads."""
    try:
        first = parse(next(iter(each_address(broker)), ""))
    except UnreadableURLError:
        return "", ""
    return first.user, first.password
