# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The URLs of an app's servers: which server each one names, and what is wrong with it.

They are ``celery_app_broker_url``, ``celery_app_result_backend`` and ``celery_app_once_url``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils import celery_versions
from ansible_collections.celeryops.stack.plugins.module_utils.endpoints import (
    Endpoint,
    UnreadableURLError,
    each_address,
    parse,
    scheme_of,
    server_of,
)
from ansible_collections.celeryops.stack.plugins.module_utils.masking import hidden
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.kernel_limits import LONGEST, size

BROKER_HELP = (
    "amqp://user:password@host:5672/vhost (RabbitMQ; amqps:// for TLS) "
    "or redis://user:password@host:6379/0 (rediss:// for TLS)"
)
#: Databases and transports that Celery takes for a broker, and why they are none here.
_DATABASES = ("database", "db", "sqla", "sqlalchemy", "mysql", "postgresql", "sqlite", "django", "pgmq")
_FOR_TESTS = ("filesystem", "memory")
#: Schemes of result backends that several hosts can share and that need no package beyond celery[redis]; then those
#: that need the app's own packages.
REDIS_BACKENDS = frozenset({"redis", "rediss", "sentinel"})
#: The Redis of the host itself, behind a Unix socket (by_url in celery/app/backends.py and _params_from_url in
#: celery/backends/redis.py, 5.7.0); for results only.
SOCKET_BACKEND = "redis+socket"
OTHER_BACKENDS = frozenset(
    {
        "rpc", "mongodb", "db+postgresql", "db+mysql", "db+mariadb", "db+oracle", "db+mssql", "cache+memcached",
        "cache+pylibmc", "elasticsearch", "cassandra", "couchbase", "couchdb", "cosmosdbsql", "consul", "dynamodb",
        "azureblockblob", "arangodb", "s3", "gs",
    }
)  # fmt: skip
#: Names that packages give their result backends (entry points celery.result_backends): django-celery-results 2.6. Any
#: other can be given by its class (by_name in celery/app/backends.py, 5.7.0).
PACKAGED_BACKENDS = ("django-db", "django-cache")
_IMPORT_OF_BACKEND = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
BACKEND_HELP = "redis://user:password@host:6379/0 (rediss:// for TLS), or nothing for an app that never reads a result"


def _addresses(url: object) -> list[str]:
    return each_address(url) or [""]


def first_scheme(url: object) -> str:
    """Return the scheme of the first address; empty where it has none."""
    return scheme_of(_addresses(url)[0])


def broker_kind(url: object) -> str:
    """Return which broker a URL leads to, ``rabbitmq`` or ``redis``; the former when it cannot be told."""
    return server_of(first_scheme(url)) or "rabbitmq"


def broker_problems(url: object) -> list[Problem]:
    """Return what is wrong with ``celery_app_broker_url``."""
    variable = "celery_app_broker_url"
    if not str(url).strip():
        return [Problem("empty", variable, "", "is empty", BROKER_HELP)]
    problems: list[Problem] = []
    for address in _addresses(url):
        scheme = scheme_of(address)
        if server_of(scheme):
            problems += address_problems(variable, url, address)
            continue
        reason = "is not a broker that this collection supports"
        if scheme.partition("+")[0] in _DATABASES:
            reason = "is a database, which loses tasks and is slow as a queue"
        elif scheme in _FOR_TESTS:
            reason = "is a transport for tests, which no other host can reach"
        problems.append(Problem("transport-for-tests", variable, hidden(url, address), reason, BROKER_HELP))
    if not problems and len({server_of(scheme_of(address)) for address in _addresses(url)}) > 1:
        reason = "mixes brokers"
        problems.append(Problem("mixes-brokers", variable, hidden(url), reason, "addresses of one broker's nodes"))
    return problems


def address_problems(variable: str, url: object, address: str) -> Iterator[Problem]:
    """Yield what is wrong with the address of a RabbitMQ or a Redis.

    Arguments:
        variable: that holds it.
        url: the whole value.
        address: the one address in it.
    """
    try:
        endpoint = parse(address)
    except UnreadableURLError as error:
        yield Problem("unreadable-address", variable, hidden(url, address), error.reason, error.instead)
        return
    if endpoint.scheme == SOCKET_BACKEND:
        # As Celery reads it, what stands before the first slash is no part of the path.
        if not endpoint.path:
            right = Endpoint(SOCKET_BACKEND, path="run/redis/redis-server.sock", query=(("virtual_host", "0"),))
            yield Problem("names-no-socket", variable, hidden(url, address), "names no socket", right.url())
    elif not endpoint.host:
        instead = f"{endpoint.scheme}://user:password@host/..."
        yield Problem("names-no-host", variable, hidden(url, address), "names no host", instead)
    elif endpoint.server == "redis" and not re.fullmatch(r"/*[0-9]*/*", endpoint.path):
        right = Endpoint(endpoint.scheme, endpoint.host, 6379, "user", "password", "0")
        reason = "names a Redis database that is not a number"
        yield Problem("names-a-database-of-redis", variable, hidden(url, address), reason, right.url())


def backend_problems(url: object) -> Iterator[Problem]:
    """Yield what is wrong with ``celery_app_result_backend``."""
    variable = "celery_app_result_backend"
    if not str(url).strip():
        return
    yield from _one_redis(variable, url)
    for address in _addresses(url):
        scheme = scheme_of(address)
        plain = "+".join(scheme.split("+")[:2])
        if scheme in REDIS_BACKENDS or scheme == SOCKET_BACKEND:
            yield from address_problems(variable, url, address)
        elif not scheme:
            if address not in PACKAGED_BACKENDS and not _IMPORT_OF_BACKEND.fullmatch(address):
                reason = "is not an address, and no result backend of a package that is known here"
                instead = f"{BACKEND_HELP}; {' or '.join(PACKAGED_BACKENDS)}; or the class, as shop.backends:Results"
                yield Problem("no-backend-address", variable, hidden(url, address), reason, instead)
        elif scheme in ("file", "filesystem") or scheme in ("cache+memory", "memory") or plain == "db+sqlite":
            reason = "can only be read on one host, or in one process"
            yield Problem("file-on-one-host-only", variable, hidden(url, address), reason, BACKEND_HELP)
        elif plain not in OTHER_BACKENDS:
            reason = f"is not a result backend of Celery {celery_versions.text(celery_versions.NEWEST)}"
            yield Problem("not-a-result-backend", variable, hidden(url, address), reason, BACKEND_HELP)


def once_url_problems(url: object) -> Iterator[Problem]:
    """Yield what is wrong with ``celery_app_once_url``."""
    variable = "celery_app_once_url"
    for address in each_address(url):
        if scheme_of(address) in REDIS_BACKENDS:
            yield from address_problems(variable, url, address)
        else:
            reason = "is not a Redis"
            yield Problem("not-a-redis", variable, hidden(url, address), reason, BACKEND_HELP.partition(", or")[0])
    yield from _one_redis(variable, url)


def _one_redis(variable: str, url: object) -> Iterator[Problem]:
    """Say that several addresses are none to Celery's backend in Redis, which takes all of them for one (5.7.0)."""
    schemes = [scheme_of(address) for address in _addresses(url)]
    if len(schemes) > 1 and {*schemes} & (REDIS_BACKENDS | {SOCKET_BACKEND}) and {*schemes} != {"sentinel"}:
        reason = "has several addresses, and results in Redis take one: every access would fail"
        yield Problem("several-result-addresses", variable, hidden(url), reason, "one of them, or sentinel:// for each")


def sentinel_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Say which addresses of Sentinels lead nowhere, because nobody says for which server they are asked.

    Arguments:
        values: the variables of the role celery_app, without its prefix.
    """
    for name, setting in (
        ("broker_url", "broker_transport_options"),
        ("result_backend", "result_backend_transport_options"),
        ("once_url", "result_backend_transport_options"),
    ):
        addresses = [address for address in _addresses(values[name]) if scheme_of(address) == "sentinel"]
        options = values["settings"].get(setting)
        own = options.get("master_name") if isinstance(options, Mapping) else None
        of_results = name != "broker_url" and values["sentinel_results_master_name"]
        if addresses and not (own or of_results or values["sentinel_master_name"]):
            reason = "names Sentinels, but not the server that they monitor"
            instead = f"celery_app_sentinel_master_name, or master_name in celery_app_settings.{setting}, as well"
            yield Problem(
                "sentinel-without-master-name",
                f"celery_app_{name}",
                hidden(values[name], addresses[0]),
                reason,
                instead,
            )


def length_problems(values: Mapping[str, Any]) -> Iterable[Problem]:
    """Say which addresses are longer than the kernel hands to a process; their own text may be a secret.

    Arguments:
        values: the variables of the role celery_app, without its prefix.
    """
    names = {
        "broker_url": "CELERY_BROKER_URL",
        "result_backend": "CELERY_RESULT_BACKEND",
        "once_url": "CELERYOPS_ONCE_URL",
    }
    for key, name in names.items():
        if size(name, values[key]) > LONGEST:
            reason = f"is longer than the {LONGEST} bytes that the kernel hands to a process"
            yield Problem("too-long-in-bytes", f"celery_app_{key}", NOT_SHOWN, reason, "a shorter one")
