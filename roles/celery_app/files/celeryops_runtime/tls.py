# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Translates TLS options from JSON data to the options of each client.

The three clients want different things and are careless in different ways (kombu 5.7.0, py-amqp 5.4, redis-py 8.1,
Celery 5.7.0):

* py-amqp takes ``cert_reqs`` and the like, the constant and not its name; with ``amqps://`` alone it checks the
  certificate's chain and not the name in it (``amqp/transport.py``, ``_wrap_socket_sni``: only with
  ``server_hostname``, for which kombu puts the URL's host where it finds None).
* kombu's Redis transport takes ``ssl_cert_reqs`` and the like; with ``rediss://`` alone it checks nothing
  (``kombu/connection.py``, ``_init_params``), and ``True`` turns TLS off without a word (``kombu/transport/redis.py``).
* Celery's Redis backend takes the same names, and refuses ``rediss://`` alone (``celery/backends/redis.py``).

Here both spellings do for both, ``required`` is what holds when nothing is said, and TLS follows the URL: an app's own
TLS settings belong to its own URLs and are not used with the shared ones.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from celeryops_runtime.around import around
from celeryops_runtime.urls import scheme, server

if TYPE_CHECKING:
    from collections.abc import Mapping

_REQUIREMENTS = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}


def _plain(options: Mapping[str, Any] | bool | None) -> dict[str, Any]:
    """Return the options without prefix, the requirement as a constant; required unless said otherwise."""
    given = options if isinstance(options, dict) else {}
    found = {key.removeprefix("ssl_"): value for key, value in given.items()}
    wanted = found.get("cert_reqs", "required")
    if isinstance(wanted, str):
        wanted = _REQUIREMENTS.get(wanted.lower().removeprefix("cert_"), wanted)
    found["cert_reqs"] = ssl.CERT_NONE if wanted is None else wanted
    return found


def amqp_options(options: Mapping[str, Any] | bool | None) -> dict[str, Any]:
    """Translate TLS options for py-amqp.

    :param options: names with or without ``ssl_``; True or nothing for the defaults. ``check_hostname: false`` leaves
        out the comparison of the host's name.
    :returns: what ``broker_use_ssl`` has to be with ``amqps://``, a new dictionary.
    """
    found = _plain(options)
    by_name = found.pop("check_hostname", True) and found["cert_reqs"] != ssl.CERT_NONE
    if "min_version" in found:
        found["tls_minimum_version"] = found.pop("min_version")
    for key in ("tls_minimum_version", "tls_maximum_version"):
        if isinstance(found.get(key), str):
            found[key] = ssl.TLSVersion[found[key]]
    if not by_name:
        found.pop("server_hostname", None)
    else:
        # None: kombu puts the host of the URL here.
        found.setdefault("server_hostname", None)
    return found


def redis_options(options: Mapping[str, Any] | bool | None) -> dict[str, Any]:
    """Translate TLS options for redis-py, which compares the host's name by itself only from 6.0 on.

    :param options: as for :func:`amqp_options`.
    :returns: what ``broker_use_ssl`` and ``redis_backend_use_ssl`` have to be with ``rediss://``, a new dictionary.
    """
    found = _plain(options)
    if "tls_minimum_version" in found:
        found["min_version"] = found.pop("tls_minimum_version")
    if isinstance(found.get("min_version"), str):
        found["min_version"] = ssl.TLSVersion[found["min_version"]]
    if found["cert_reqs"] != ssl.CERT_NONE:
        found.setdefault("check_hostname", True)
    return {f"ssl_{key}": value for key, value in found.items()}


def tls_settings(settings: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Work out the TLS settings that belong to the URLs of the environment.

    :param settings: the shared settings; ``broker_use_ssl`` and ``redis_backend_use_ssl`` are read.
    :param environ: where ``CELERY_BROKER_URL`` and ``CELERY_RESULT_BACKEND`` are.
    :returns: ``broker_use_ssl`` if there is a broker's URL, ``redis_backend_use_ssl`` if there is one of Redis:
        options for a URL that says TLS or where the settings ask for it, False and None otherwise.
    """
    found: dict[str, Any] = {}
    broker = scheme(environ.get("CELERY_BROKER_URL", ""))
    given = settings.get("broker_use_ssl")
    if broker:
        translate = amqp_options if "amqp" in broker else redis_options
        found["broker_use_ssl"] = translate(given) if given or broker in ("amqps", "rediss") else False
    results = environ.get("CELERY_RESULT_BACKEND", "")
    given = settings.get("redis_backend_use_ssl")
    if server(results) == "redis":
        found["redis_backend_use_ssl"] = redis_options(given) if given or scheme(results) == "rediss" else None
    return found


def mend() -> None:
    """Keep kombu from writing into the settings. Calling it again changes nothing.

    kombu writes the host's name into the dictionary that it was given (kombu/transport/pyamqp.py,
    ``establish_connection``, 5.7.0), which is the app's setting: after a switch to another node it would compare that
    node's certificate with the first one's name.
    """
    from kombu.transport.pyamqp import Transport

    @around(Transport, "establish_connection")
    def establish_connection(own: Any, self: Any) -> Any:
        # Made anew from the settings at each switch (kombu/connection.py, switch).
        if isinstance(self.client.ssl, dict):
            self.client.ssl = dict(self.client.ssl)
        return own(self)
