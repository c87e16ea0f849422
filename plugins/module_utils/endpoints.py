# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers that Celery, Flower and this collection connect to: the only place that reads and writes their URLs.

A URL means here what it means to the clients (kombu 5.7, utils/url.py; redis-py 5 to 8, ``connection.parse_url``;
tests compare them). A URL that they would misread, because a password is not percent-encoded, is
refused. ``masking.hidden`` removes the secret from any text that is meant as a URL.

Runs on managed hosts as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import MASK

_BEGINS_WITH_A_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
#: What has to be percent-encoded inside a password, as messages name it.
SEPARATORS = "/ # ? : @ ;"
#: In place of an account.
HIDDEN_ACCOUNT = f"{MASK}@"


class Scheme(NamedTuple):
    """What a scheme says of a server: ``rabbitmq`` or ``redis``, and the port that a URL without one leads to."""

    server: str
    port: int


#: The schemes of Celery's brokers that this collection supports; the ports are those of kombu (5.7: transport/pyamqp.py
#: and transport/redis.py), and of redis-py for Sentinel.
SCHEMES = {
    "amqp": Scheme("rabbitmq", 5672), "pyamqp": Scheme("rabbitmq", 5672), "amqps": Scheme("rabbitmq", 5671),
    "redis": Scheme("redis", 6379), "rediss": Scheme("redis", 6379), "sentinel": Scheme("redis", 26379),
}  # fmt: skip


class UnreadableURLError(ValueError):
    """A text that is not a URL, or can be read as more than one. Shows nothing of it.

    Arguments are those of ``problem.UnreadableError``, which hosts do not have.
    """

    def __init__(self) -> None:
        self.reason = f"cannot be read: characters such as {SEPARATORS} inside a password must be percent-encoded"
        # Jinja's urlencode leaves the slash alone.
        self.instead = "the password through urlencode | replace('/', '%2F')"
        super().__init__(f"{self.reason}; write {self.instead}")


@dataclass(frozen=True)
class Endpoint:
    """One server, and how a client is let in.

    Arguments:
        scheme: in lower case (``amqp``, ``rediss``, ``sentinel``, ``redis+socket``, ``https``).
        host: name or IP address without brackets, in lower case; empty for a socket, or a store without one.
        port: None where the client takes its own.
        user: empty where the client takes its own.
        password: of that account.
        path: without the slash at its begin, decoded: RabbitMQ's virtual host, the number of Redis's database, the
            path of a socket or of a page.
        query: names and values of further options, decoded, in their order.
    """

    scheme: str
    host: str = ""
    port: int | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    path: str = ""
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def server(self) -> str:
        """``rabbitmq`` or ``redis``; empty for anything else."""
        return server_of(self.scheme)

    @property
    def tls(self) -> bool:
        """Whether the scheme asks for TLS. To Sentinels only options can say it."""
        return self.scheme in ("amqps", "rediss", "https")

    @property
    def real_port(self) -> int:
        """The port that a client connects to; 0 where it is not known."""
        return self.port or (SCHEMES[self.scheme].port if self.scheme in SCHEMES else 0)

    @property
    def space(self) -> str:
        """What a client uses of the server: kombu takes the virtual host "/" and database 0 where none is named."""
        if self.server == "redis":
            return self.path.strip("/") or "0"
        return self.path or ("/" if self.server == "rabbitmq" else "")

    def url(self, plain: str = "") -> str:
        """Return the URL.

        Arguments:
            plain: signs of the account that are not percent-encoded, for a client that does not decode it.
        """
        account = ""
        if self.user or self.password:
            password = f":{quote(self.password, safe=plain)}" if self.password else ""
            account = f"{quote(self.user, safe=plain)}{password}@"
        return self._written(account, urlencode(self.query))

    def shown(self) -> str:
        """Return the URL without the account and the options, which may hold a password as well."""
        return self._written(HIDDEN_ACCOUNT if self.user or self.password else "", "..." if self.query else "")

    def _written(self, account: str, query: str) -> str:
        host = bracketed(self.host) + ("" if self.port is None else f":{self.port}")
        # A virtual host is one name, whatever signs it has.
        path = quote(self.path, safe="" if self.server == "rabbitmq" else "/")
        return f"{self.scheme}://{account}{host}{'/' if path else ''}{path}{'?' if query else ''}{query}"


@dataclass(frozen=True)
class Cluster:
    """The servers of which a client needs one, in the order in which it tries them.

    Arguments:
        nodes: brokers, or the Sentinels of a Redis.
    """

    nodes: tuple[Endpoint, ...]

    @classmethod
    def read(cls, text: object) -> Cluster:
        """Return what a text leads to; the check tells of what cannot be read, which is left out.

        Arguments:
            text: URLs, separated by semicolons.
        """
        nodes = []
        for address in each_address(text):
            try:
                nodes.append(parse(address))
            except UnreadableURLError:
                continue
        return cls(tuple(nodes))

    def url(self) -> str:
        """Return the URLs, separated as kombu's failover and Celery's backend of Sentinels want them (both 5.7)."""
        return ";".join(node.url() for node in self.nodes)


def parse(address: str) -> Endpoint:
    """Return the server that one URL leads to.

    Raises:
        UnreadableURLError: when it has no scheme, or a sign in it may belong to a password or separate two parts.
    """
    address = address.strip()
    if not _BEGINS_WITH_A_SCHEME.match(address) or ";" in address.partition("?")[0]:
        raise UnreadableURLError
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        # Also raised for a port that is not a number: usually a password with a / or # in it.
        raise UnreadableURLError from None
    if "@" in parts.path + parts.query + parts.fragment:
        raise UnreadableURLError
    return Endpoint(
        parts.scheme.lower(),
        parts.hostname or "",
        port,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        unquote(parts.path.removeprefix("/")),
        tuple(parse_qsl(parts.query, keep_blank_values=True)),
    )


def each_address(text: object) -> list[str]:
    """Return the addresses in a text, which Celery separates by semicolons (kombu 5.7, connection.py).

    What has no scheme behind a semicolon is no address: the semicolon belongs to a password, and the text is returned
    as the one address that was meant.
    """
    whole = str(text or "").strip()
    parts = [part.strip() for part in whole.split(";") if part.strip()]
    return parts if all(map(_BEGINS_WITH_A_SCHEME.match, parts[1:])) else [whole]


def scheme_of(address: str) -> str:
    """Return the scheme of an address in lower case, also of one that cannot be read; empty where it has none."""
    scheme, separator, _rest = address.partition("://")
    return scheme.lower() if separator else ""


def server_of(scheme: str) -> str:
    """Return the server that a scheme means, ``rabbitmq`` or ``redis``; empty for anything else."""
    return SCHEMES[scheme].server if scheme in SCHEMES else ""


def bracketed(address: str) -> str:
    """Return an address as it stands before a port: one of IPv6 in brackets (RFC 3986, 3.2.2)."""
    return f"[{address}]" if ":" in address else address
