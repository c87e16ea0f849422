"""TLS options of both clients, held against the clients and the runtime that translates for them."""

from __future__ import annotations

import inspect
import ssl
from typing import Any

import pytest
from amqp.transport import SSLTransport
from problems import told
from redis.connection import SSLConnection

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.tls_options import (
    AMQP_KEYS,
    REDIS_KEYS,
    lax_in_url,
    tls_problems,
    unverified,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from celeryops_runtime.tls import amqp_options, redis_options

AMQP = set(inspect.signature(SSLTransport._wrap_socket_sni).parameters)
REDIS = {name for name in inspect.signature(SSLConnection.__init__).parameters if name.startswith("ssl_")}


def found(options: Any, *, redis: bool = False) -> list[Problem]:
    return list(tls_problems("tls", options, redis=redis))


@pytest.mark.parametrize("prefix", ["", "ssl_"])
def test_the_keys_are_what_the_clients_take_when_they_are_translated(prefix: str) -> None:
    value = {"min_version": "TLSv1_2", "tls_minimum_version": "TLSv1_2", "tls_maximum_version": "TLSv1_3"}
    for key in AMQP_KEYS:
        assert set(amqp_options({f"{prefix}{key}": value.get(key)})) <= AMQP
    for key in REDIS_KEYS:
        assert set(redis_options({f"{prefix}{key}": value.get(key)})) <= REDIS
    # What both have, but objects and secrets, is known here.
    own = {"self", "sock", "server_side", "ssl_version"}
    assert AMQP - own - {"tls_minimum_version"} <= AMQP_KEYS
    objects = {"include_verify_flags", "exclude_verify_flags", "ocsp_context", "password"}
    assert {name.removeprefix("ssl_") for name in REDIS} - objects <= REDIS_KEYS


@pytest.mark.parametrize(
    "options",
    [
        {"ca_certs": "/etc/ssl/ca.pem"},
        {
            "ssl_ca_certs": "/etc/ssl/ca.pem",
            "ssl_cert_reqs": "CERT_REQUIRED",
            "ssl_certfile": "/c",
            "ssl_keyfile": "/k",
        },
        {"cert_reqs": "required"},
        {"cert_reqs": "Optional"},
        {"cert_reqs": "none"},
        {"cert_reqs": None},
        {"cert_reqs": 2},
        {"cert_reqs": 0},
        {"min_version": "TLSv1_3", "check_hostname": False, "ciphers": "HIGH"},
        {"certfile": "/c"},
        {"certfile": None, "keyfile": None, "ca_certs": None, "check_hostname": None, "min_version": None},
        {},
        True,
        False,
        None,
    ],
)
def test_what_both_clients_take(options: Any) -> None:
    assert found(options) == found(options, redis=True) == []


@pytest.mark.parametrize(
    ("key", "redis", "instead"),
    [
        ("ca_cert", False, "ca_certs (did you mean that?)"),
        ("ssl_cert_req", True, "cert_reqs (did you mean that?)"),
        ("ssl_version", False, ""),
        (5, False, "one of ca_certs"),
    ],
)
def test_a_key_that_no_client_knows(key: Any, redis: bool, instead: str) -> None:
    (problem,) = found({key: "x"}, redis=redis)
    assert told([problem]) == [("no-tls-option", f"tls.{key}")]
    assert problem.instead.startswith(instead)


def test_every_key_that_no_client_knows_is_told() -> None:
    assert len(found({"ca_cert": "/x", "key_file": "/y"})) == 2


@pytest.mark.parametrize(
    ("key", "value", "redis"),
    [
        ("server_hostname", "mq", False),
        ("tls_maximum_version", "TLSv1_3", False),
        ("ca_path", "/etc/ssl", True),
        ("validate_ocsp", True, True),
    ],
)
def test_a_key_of_the_other_client(key: str, value: Any, redis: bool) -> None:
    assert found({key: value}, redis=redis) == []
    for other in (value, 5):
        assert told(found({key: other}, redis=not redis)) == [("no-tls-option", f"tls.{key}")]


@pytest.mark.parametrize(
    ("options", "identity"),
    [
        *(({"cert_reqs": value}, "not-a-choice") for value in ("requird", "ssl.CERT_REQUIRED", 1.0, 3, ["none"])),
        ({"ssl_cert_reqs": False}, "not-a-choice"),
        ({"ca_certs": "ca.pem"}, "not-an-absolute-path"),
        ({"certfile": "~/c.pem"}, "not-an-absolute-path"),
        ({"ca_certs": True}, "not-an-absolute-path"),
        ({"check_hostname": "no"}, "not-a-boolean"),
        ({"min_version": "TLSv1.2"}, "no-version-of-tls"),
        ({"min_version": 1.2}, "no-version-of-tls"),
        ({"tls_minimum_version": [1]}, "no-version-of-tls"),
        ({"keyfile": "/k"}, "belongs-to-a-certificate"),
        ({"ssl_keyfile": "/k"}, "belongs-to-a-certificate"),
    ],
)
@pytest.mark.parametrize("redis", [False, True])
def test_values_that_no_client_takes(options: dict[str, Any], identity: str, redis: bool) -> None:
    ((key, _value),) = options.items()
    named = "keyfile" if key == "ssl_keyfile" else key
    assert told(found(options, redis=redis)) == [(identity, f"tls.{named}")]


@pytest.mark.parametrize(
    ("options", "instead"),
    [
        ({"cert_reqs": "requird"}, "required (did you mean that?)"),
        ({"ssl_cert_reqs": False}, "one of none, optional"),
        ({"min_version": "TLSv1.2"}, "TLSv1_2 (did you mean that?)"),
        ({"min_version": 1.2}, "one of TLSv1, TLSv1_1, TLSv1_2, TLSv1_3"),
    ],
)
def test_which_values_they_take_is_said(options: dict[str, Any], instead: str) -> None:
    assert found(options)[0].instead.startswith(instead)


@pytest.mark.parametrize("name", ["required", "CERT_REQUIRED", "optional", "none", "cert_none"])
def test_the_runtime_reads_the_same_words(name: str) -> None:
    wanted = ssl.CERT_NONE if "none" in name else ssl.CERT_OPTIONAL if name == "optional" else ssl.CERT_REQUIRED
    assert redis_options({"cert_reqs": name})["ssl_cert_reqs"] is wanted


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"cert_reqs": "none"}, True),
        ({"ssl_cert_reqs": "CERT_NONE"}, True),
        ({"cert_reqs": None}, True),
        ({"cert_reqs": 0}, True),
        ({"cert_reqs": "optional"}, False),
        ({"cert_reqs": 2}, False),
        ({"cert_reqs": False}, False),
        ({"ca_certs": "/x"}, False),
        ({"ca_certs": None, "cert_reqs": "required"}, False),
        ({}, False),
        (True, False),
        (None, False),
    ],
)
def test_what_is_not_verified(options: Any, expected: bool) -> None:
    assert unverified(options) is expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rediss://u:p@h/0?ssl_cert_reqs=none", ("ssl_cert_reqs=none", "none")),
        ("rediss://u:p@h/0?a=b&ssl_cert_reqs=CERT_NONE&c=d", ("ssl_cert_reqs=CERT_NONE", "none")),
        ("amqps://u:p@h/v?cert_reqs=0", ("cert_reqs=0", "0")),
        ("rediss://u:p@h/0?ssl_cert_reqs=CERT_OPTIONAL", ("ssl_cert_reqs=CERT_OPTIONAL", "optional")),
        ("sentinel://a/0;sentinel://b/0?ssl_cert_reqs=optional", ("ssl_cert_reqs=optional", "optional")),
        ("rediss://u:p@h/0?ssl_cert_reqs=required", ("", "")),
        ("rediss://u:p@h/0?ssl_ca_certs=none", ("", "")),
        ("rediss://u:none@h/ssl_cert_reqs=none", ("", "")),
        ("", ("", "")),
        (None, ("", "")),
    ],
)
def test_urls_that_ask_for_less(url: object, expected: tuple[str, str]) -> None:
    assert lax_in_url(url) == expected
