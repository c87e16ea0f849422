# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of servers as users write them: told apart, read only when there is one way to, and shown without a secret.

A password with a sign that separates the parts of an address (``; / # ? @`` and others) moves what comes behind it into
another part. So what may be shown does not follow from the parts: nothing in front of the last ``@`` is, and without
one only what cannot be anything but a host.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN

#: Nobody writes a scheme with capitals and digits; who writes a password alone may.
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*|[A-Za-z+]+")
_BEGINS_WITH_A_SCHEME = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
#: A host, a port and a path, with nothing behind them that could belong to something else.
_PLACE = re.compile(
    r"(?P<shown>(\[[0-9a-f:.]+\]|[a-z0-9_.-]*)(:[0-9]{1,5}|:(?=/))?(/[a-z0-9_.,~%+:/-]*)?)(?P<query>[?#].*)?",
    re.IGNORECASE | re.DOTALL,
)
#: The user of an address whose parts are beyond doubt; a token in its place is longer.
_USER = re.compile(r"(?P<user>[a-z][a-z0-9_.-]{0,19}):[^\s/?#;:@\\'\"]+@[^@]*", re.DOTALL)
HIDDEN_ACCOUNT = "***@"
NO_SCHEME = "(no scheme, not shown)"
#: What stands in a message in place of a password that cannot be told from the rest.
SEPARATORS = "/ # ? : @ ;"


def each_address(url: object) -> list[str]:
    """Return the addresses in ``url``, which Celery separates by semicolons (kombu 5.7, connection.py).

    What has no scheme behind a semicolon is no address: the semicolon belongs to a password, and the text is returned
    as the one address that was meant.
    """
    text = str(url or "").strip()
    parts = [part.strip() for part in text.split(";") if part.strip()]
    return parts if all(map(_BEGINS_WITH_A_SCHEME.match, parts[1:])) else [text]


def parts_of(address: str) -> SplitResult | None:
    """Return the parts of one address; nothing when it has no scheme or can be read in more than one way."""
    if not _BEGINS_WITH_A_SCHEME.match(address) or ";" in address.partition("?")[0]:
        return None
    try:
        parts = urlsplit(address)
        _port = parts.port
    except ValueError:
        # Also raised for a port that is not a number: usually a password with a / or # in it.
        return None
    return None if "@" in parts.path + parts.query + parts.fragment else parts


def hidden(url: object, only: str = "") -> str:
    """Return what can be shown of a value that is meant to be one or several addresses.

    Arguments:
        url: the whole value, since one of its addresses may be a part of a password.
        only: the address to show, when they can be told apart.
    """
    text = str(url).strip()
    if not text:
        return ""
    scheme, separator, _rest = text.partition("://")
    if not separator:
        return text if text in (NO_SCHEME, NOT_SHOWN) else NO_SCHEME
    if not _SCHEME.fullmatch(scheme):
        return NOT_SHOWN
    several = each_address(text)
    if len({"@" in address for address in several}) > 1:
        # Of some with an account and some without, the latter may be the beginning of a password.
        return _hidden(text)
    return ";".join(map(_hidden, [only] if only else several))


def _hidden(address: str) -> str:
    scheme, _separator, rest = address.partition("://")
    account, at, place = rest.rpartition("@")
    found = _PLACE.fullmatch(place)
    # A vhost, a database or a file; but a password that is a number looks like a port when there is no host.
    shown = found["shown"] if found and not (not at and found["shown"].startswith(":")) else NOT_SHOWN
    query = "?..." if found and found["query"] and shown != NOT_SHOWN else ""
    return f"{scheme}://{HIDDEN_ACCOUNT if account or at else ''}{shown}{query}"


def without_accounts(text: str) -> str:
    """Return any value without the accounts of the addresses in it; one line is one address as far as ``@`` goes."""
    return "\n".join(map(_line_without_accounts, text.split("\n"))) if "://" in text else text


def _line_without_accounts(line: str) -> str:
    head, separator, rest = line.partition("://")
    if not separator or (HIDDEN_ACCOUNT in rest and "@" not in rest.replace(HIDDEN_ACCOUNT, "")):
        return line
    if "@" in rest:
        plain = _USER.fullmatch(rest)
        return f"{head}://{plain['user'] + ':' if plain else ''}***@{rest.rpartition('@')[2]}"
    authority = re.split(r"[/?#\s'\",)\]}]", rest, maxsplit=1)[0]
    host, colon, port = authority.rpartition(":")
    if not colon or authority.startswith("[") or (host and re.fullmatch(r"[0-9]{0,5}", port)) or "{" in authority:
        return line
    return f"{head}://{NOT_SHOWN}"
