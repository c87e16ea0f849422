"""TLS options as data: what a document can say, and what reaches py-amqp, kombu and redis-py."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from celeryops_runtime.tls import amqp_options, redis_options, tls_settings

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Python = Callable[..., subprocess.CompletedProcess[str]]


REDIS = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
"""redis-py before 6.0 compares the name in a certificate only when it is told to."""


@pytest.mark.parametrize("word", ["required", "CERT_REQUIRED", "Required", 2, ssl.CERT_REQUIRED])
def test_either_spelling_does_for_both(word: Any) -> None:
    for options in ({"cert_reqs": word, "ca_certs": "/ca"}, {"ssl_cert_reqs": word, "ssl_ca_certs": "/ca"}):
        assert amqp_options(options) == {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": "/ca", "server_hostname": None}
        assert redis_options(options) == {**REDIS, "ssl_ca_certs": "/ca"}


@pytest.mark.parametrize("nothing", [None, True, False, {}])
def test_nothing_said_means_that_the_server_has_to_prove_itself(nothing: Any) -> None:
    assert amqp_options(nothing) == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
    assert redis_options(nothing) == REDIS


@pytest.mark.parametrize("word", ["none", "CERT_NONE", None, 0])
def test_checking_nothing_has_to_be_said(word: Any) -> None:
    # With a name to compare, py-amqp could not set this mode.
    assert amqp_options({"cert_reqs": word, "server_hostname": "mq1"}) == {"cert_reqs": ssl.CERT_NONE}
    assert redis_options({"cert_reqs": word}) == {"ssl_cert_reqs": ssl.CERT_NONE}


def test_the_name_alone_can_be_left_out() -> None:
    assert amqp_options({"check_hostname": False}) == {"cert_reqs": ssl.CERT_REQUIRED}
    assert redis_options({"check_hostname": False})["ssl_check_hostname"] is False


def test_versions_are_written_as_words() -> None:
    for key in ("min_version", "tls_minimum_version", "ssl_min_version"):
        assert amqp_options({key: "TLSv1_3"})["tls_minimum_version"] == ssl.TLSVersion.TLSv1_3
        assert redis_options({key: "TLSv1_3"})["ssl_min_version"] == ssl.TLSVersion.TLSv1_3


def test_tls_follows_the_urls() -> None:
    def settings(broker: str, backend: str, **given: Any) -> dict[str, Any]:
        return tls_settings(given, {"CELERY_BROKER_URL": broker, "CELERY_RESULT_BACKEND": backend})

    assert settings("amqp://a", "redis://a") == {"broker_use_ssl": False, "redis_backend_use_ssl": None}
    for broker, backend in (("amqps://a;amqps://b", "rediss://a"), ("AMQPS://a", "REDISS://a")):
        assert settings(broker, backend) == {
            "broker_use_ssl": amqp_options(None),
            "redis_backend_use_ssl": redis_options(None),
        }
    assert settings("rediss://a", "rpc://") == {"broker_use_ssl": redis_options(None)}
    # What the settings say holds with every scheme: kombu reads them so too.
    asked = settings("amqp://a:5671", "redis://a", broker_use_ssl=True, redis_backend_use_ssl={"ca_certs": "/ca"})
    assert asked == {
        "broker_use_ssl": amqp_options(None),
        "redis_backend_use_ssl": redis_options({"ca_certs": "/ca"}),
    }
    assert tls_settings({}, {}) == {}


def test_the_clients_take_them(python: Python, config_file: Path, document: dict[str, Any]) -> None:
    # Up to the handshake, which a server of the whole stack's tests has to answer.
    document["settings"] |= {"broker_use_ssl": {"cert_reqs": "required"}, "redis_backend_use_ssl": {"ca_certs": "/ca"}}
    config_file.write_text(json.dumps(document), encoding="utf-8")
    code = (
        "import json, ssl; from celery import Celery; a = Celery('a', broker_use_ssl={'cert_reqs': ssl.CERT_NONE})\n"
        "from amqp.transport import SSLTransport; c = a.connection_for_write(); t = c.transport\n"
        "b = a.backend.connparams; from redis.connection import SSLConnection\n"
        "r = SSLConnection(**{k: v for k, v in b.items() if k.startswith('ssl_')})\n"
        "print(json.dumps([SSLTransport('h', ssl=c.ssl).sslopts, r.cert_reqs, r.ca_certs, r.check_hostname]))"
    )
    urls = {"CELERY_BROKER_URL": "amqps://broker.invalid", "CELERY_RESULT_BACKEND": "rediss://results.invalid"}
    done = python("-c", code, env=urls)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [{"cert_reqs": 2, "server_hostname": None}, 2, "/ca", True]


def test_each_node_is_compared_with_its_own_name(python: Python) -> None:
    # What reaches py-amqp, for two nodes in turn: both refuse the connection, on a port where nothing listens.
    code = (
        "from celery import Celery; from kombu.transport.pyamqp import Transport; import json; a = Celery('a')\n"
        "seen = []; before = dict(a.conf.broker_use_ssl)\n"
        "class Amqp:\n"
        "    def __init__(self, ssl, **more): seen.append(ssl['server_hostname'])\n"
        "    def connect(self): raise OSError('refused')\n"
        "Transport.Connection = Amqp; c = a.connection_for_write()\n"
        "for _ in range(3):\n"
        "    try: c.connect()\n"
        "    except Exception: c.maybe_switch_next()\n"
        # Which of them is the first differs from process to process (nodes.py).
        "print(json.dumps([*sorted(set(seen)), a.conf.broker_use_ssl == before]))"
    )
    done = python("-c", code, env={"CELERY_BROKER_URL": "amqps://mq1.invalid;amqps://mq2.invalid"})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["mq1.invalid", "mq2.invalid", True]
