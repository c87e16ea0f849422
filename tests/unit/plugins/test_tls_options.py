"""TLS options of both clients, held against the clients and the runtime that translates for them."""

from __future__ import annotations

import inspect
import ssl
from typing import Any

import pytest
from amqp.transport import SSLTransport
from redis.connection import SSLConnection

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.tls_options import (
    AMQP_KEYS,
    REDIS_KEYS,
    lax_in_url,
    tls_problems,
    unverified,
)
from celeryops_runtime.tls import amqp_options, redis_options

AMQP = set(inspect.signature(SSLTransport._wrap_socket_sni).parameters)
REDIS = {name for name in inspect.signature(SSLConnection.__init__).parameters if name.startswith("ssl_")}
REASON = "is not a TLS option for {}, and no process could connect; write"


def told(options: Any, *, redis: bool = False) -> list[str]:
    return [str(problem) for problem in tls_problems("tls", options, redis=redis)]


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
    assert told(options) == told(options, redis=True) == []


def test_a_key_that_no_client_knows() -> None:
    assert told({"ca_cert": "/x"}) == [f"tls.ca_cert: '/x' {REASON.format('RabbitMQ')} ca_certs (did you mean that?)"]
    (line,) = told({"ssl_cert_req": "none"}, redis=True)
    assert line == f"tls.ssl_cert_req: 'none' {REASON.format('Redis')} cert_reqs (did you mean that?)"
    (line,) = told({"ssl_version": "TLSv1_2"})
    assert line.startswith("tls.ssl_version: 'TLSv1_2' is not a TLS option for RabbitMQ")
    assert len(told({"ca_cert": "/x", "key_file": "/y"})) == 2
    (line,) = told({5: "x"})
    assert line.startswith(
        "tls.5: 'x' is not a TLS option for RabbitMQ, and no process could connect; write one of ca_certs"
    )


def test_a_key_of_the_other_client() -> None:
    for key, value in (("server_hostname", "mq"), ("tls_maximum_version", "TLSv1_3")):
        assert told({key: value}) == []
        assert len(told({key: value}, redis=True)) == len(told({key: 5}, redis=True)) == 1
    for key, value in (("ca_path", "/etc/ssl"), ("validate_ocsp", True)):
        assert told({key: value}, redis=True) == []
        assert len(told({key: value})) == 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"cert_reqs": "requird"}, "tls.cert_reqs: 'requird' is not one of its values; write required (did you mean"),
        ({"cert_reqs": "ssl.CERT_REQUIRED"}, "tls.cert_reqs: 'ssl.CERT_REQUIRED' is not one of its values; write"),
        ({"ssl_cert_reqs": False}, "tls.ssl_cert_reqs: False is not one of its values; write one of none, optional"),
        ({"cert_reqs": 1.0}, "tls.cert_reqs: 1.0 is not one of its values"),
        ({"cert_reqs": 3}, "tls.cert_reqs: 3 is not one of its values"),
        ({"cert_reqs": ["none"]}, "tls.cert_reqs: ['none'] is not one of its values"),
        ({"ca_certs": "ca.pem"}, "tls.ca_certs: 'ca.pem' is not an absolute path on the hosts; write a path such as"),
        ({"certfile": "~/c.pem"}, "tls.certfile: '~/c.pem' is not an absolute path on the hosts"),
        ({"ca_certs": True}, "tls.ca_certs: True is not an absolute path on the hosts"),
        (
            {"check_hostname": "no"},
            "tls.check_hostname: 'no' is not true or false; write true or false, without quotes",
        ),
        ({"min_version": "TLSv1.2"}, "tls.min_version: 'TLSv1.2' is not a version of TLS; write TLSv1_2 (did you mean"),
        (
            {"min_version": 1.2},
            "tls.min_version: 1.2 is not a version of TLS; write one of TLSv1, TLSv1_1, TLSv1_2, TLSv1",
        ),
        ({"tls_minimum_version": [1]}, "tls.tls_minimum_version: [1] is not a version of TLS"),
        (
            {"keyfile": "/k"},
            "tls.keyfile: '/k' belongs to a certificate, and there is none; write certfile as well, or",
        ),
        ({"ssl_keyfile": "/k"}, "tls.keyfile: '/k' belongs to a certificate, and there is none"),
    ],
)
@pytest.mark.parametrize("redis", [False, True])
def test_values_that_no_client_takes(options: dict[str, Any], line: str, redis: bool) -> None:
    (only,) = told(options, redis=redis)
    assert only.startswith(line)


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
