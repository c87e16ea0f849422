# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dictionaries ``broker_use_ssl`` and ``redis_backend_use_ssl``, as the runtime translates them for each client.

A key that a client does not know ends every attempt to connect, which is tried again for ever
(celeryops_runtime/tls.py has what becomes of which).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils.endpoints import Cluster
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, did_you_mean

#: What both clients take (py-amqp 5.4, redis-py 8.1), with or without the prefix ``ssl_``; then what one takes alone.
#: Without objects, which JSON cannot hold, the deprecated ``ssl_version``, and secrets.
_COMMON = frozenset(
    {"ca_certs", "cert_reqs", "certfile", "check_hostname", "ciphers", "keyfile", "min_version", "tls_minimum_version"}
)
AMQP_KEYS = _COMMON | {"do_handshake_on_connect", "server_hostname", "suppress_ragged_eofs", "tls_maximum_version"}
REDIS_KEYS = _COMMON | {"ca_data", "ca_path", "ocsp_expected_cert", "validate_ocsp", "validate_ocsp_stapled"}
REQUIREMENTS = ("none", "optional", "required")
_FILES = ("ca_certs", "ca_path", "certfile", "keyfile")
_SWITCHES = (
    "check_hostname", "do_handshake_on_connect", "suppress_ragged_eofs", "validate_ocsp", "validate_ocsp_stapled",
)  # fmt: skip
_VERSIONS = ("min_version", "tls_maximum_version", "tls_minimum_version")


def tls_problems(variable: str, options: Any, *, redis: bool) -> Iterator[Problem]:
    """Yield what is wrong with TLS options.

    Arguments:
        variable: where they are written.
        options: the dictionary; true, false and nothing are no mistake.
        redis: whether they are for a client of Redis, rather than of RabbitMQ.
    """
    known = REDIS_KEYS if redis else AMQP_KEYS
    plain = {_plain(key): value for key, value in options.items()} if isinstance(options, Mapping) else {}
    for key in options if isinstance(options, Mapping) else ():
        if _plain(key) not in known:
            server = "Redis" if redis else "RabbitMQ"
            reason = f"is not a TLS option for {server}, and no process could connect"
            yield Problem("no-tls-option", f"{variable}.{key}", options[key], reason, did_you_mean(_plain(key), known))
            continue
        yield from _value_problems(f"{variable}.{key}", _plain(key), options[key])
    if plain.get("keyfile") and not plain.get("certfile"):
        reason = "belongs to a certificate, and there is none"
        instead = "certfile as well, or leave it out"
        yield Problem("belongs-to-a-certificate", f"{variable}.keyfile", plain["keyfile"], reason, instead)


def unverified(options: Any) -> bool:
    """Whether TLS options let anybody pass for the server."""
    if not isinstance(options, Mapping):
        return False
    for key, value in options.items():
        if _plain(key) == "cert_reqs":
            # None too, which YAML writes as null.
            return _requirement(value) in ("none", "0")
    return False


def lax_in_url(url: Any) -> tuple[str, str]:
    """Return what the URL of a server says of its certificate, and which requirement that is; nothing of any other.

    Arguments:
        url: addresses, separated by semicolons. No other part of them is returned.
    """
    for node in Cluster.read(url).nodes:
        for key, value in node.query:
            if _plain(key) == "cert_reqs" and _requirement(value) in ("none", "0", "optional"):
                return f"{key}={value}", _requirement(value)
    return "", ""


def _requirement(value: Any) -> str:
    return str(value).lower().removeprefix("cert_")


def _plain(key: Any) -> str:
    return str(key).removeprefix("ssl_")


def _value_problems(variable: str, key: str, value: Any) -> Iterator[Problem]:
    if key == "cert_reqs":
        number = isinstance(value, int) and not isinstance(value, bool) and value in list(ssl.VerifyMode)
        word = isinstance(value, str) and value.lower().removeprefix("cert_") in REQUIREMENTS
        if value is not None and not number and not word:
            reason = "is not one of its values"
            yield Problem("not-a-choice", variable, value, reason, did_you_mean(str(value), REQUIREMENTS))
    elif value is None:
        return
    elif key in _FILES and not str(value).startswith("/"):
        reason = "is not an absolute path on the hosts"
        yield Problem("not-an-absolute-path", variable, value, reason, "a path such as /etc/ssl/private-ca.pem")
    elif key in _SWITCHES and not isinstance(value, bool):
        yield Problem("not-a-boolean", variable, value, "is not true or false", "true or false, without quotes")
    elif key in _VERSIONS and str(value) not in ssl.TLSVersion.__members__:
        known = [name for name in ssl.TLSVersion.__members__ if name.startswith("TLSv")]
        yield Problem("no-version-of-tls", variable, value, "is not a version of TLS", did_you_mean(str(value), known))
