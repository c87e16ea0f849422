"""The one reader and the one writer of URLs: what they mean is what kombu, redis-py and Celery take them for."""

from __future__ import annotations

import os
import string
from dataclasses import replace
from urllib.parse import quote

import pytest
from celery import Celery
from celery.app.backends import by_url
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kombu import Connection
from kombu.utils.url import url_to_parts
from redis.connection import parse_url

from ansible_collections.celeryops.stack.plugins.filter.url import FilterModule
from ansible_collections.celeryops.stack.plugins.module_utils.endpoints import (
    SCHEMES,
    Cluster,
    Endpoint,
    UnreadableURLError,
    each_address,
    parse,
    scheme_of,
    server_of,
)
from celeryops_runtime.urls import server as server_at_run_time

THOROUGH = bool(os.environ.get("CELERYOPS_THOROUGH"))
own = settings(derandomize=True, database=None, deadline=None, max_examples=500 if THOROUGH else 40)

#: Whatever UTF-8 can hold.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = st.text(string.ascii_lowercase + string.digits + "._-", min_size=1, max_size=12)
HOSTS = NAMES | st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)
ENDPOINTS = st.builds(
    Endpoint,
    st.sampled_from([*SCHEMES, "http", "https", "redis+socket", "db+postgresql"]),
    HOSTS | st.just(""),
    st.none() | st.integers(0, 65535),
    TEXT,
    TEXT,
    TEXT,
    st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
)
#: As a broker or a store of results has them: a database is a number.
SERVERS = st.builds(Endpoint, st.sampled_from([*SCHEMES]), HOSTS, st.none() | st.integers(1, 65535), TEXT, TEXT, TEXT)


@own
@given(ENDPOINTS)
def test_what_is_written_reads_the_same(endpoint: Endpoint) -> None:
    assert parse(endpoint.url()) == endpoint


@own
@given(st.lists(ENDPOINTS, max_size=4).map(tuple))
def test_several_read_the_same(nodes: tuple[Endpoint, ...]) -> None:
    cluster = Cluster(nodes)
    assert Cluster.read(cluster.url()) == cluster
    assert each_address(cluster.url()) == [node.url() for node in nodes]


@own
@given(SERVERS)
def test_kombu_reads_the_same(endpoint: Endpoint) -> None:
    parts = url_to_parts(endpoint.url())
    assert (parts.scheme, parts.hostname, parts.port) == (endpoint.scheme, endpoint.host, endpoint.port)
    assert (parts.username or "", parts.password or "", parts.path or "") == (
        endpoint.user,
        endpoint.password,
        endpoint.path,
    )


@own
@given(SERVERS, st.integers(0, 15))
def test_redis_py_reads_the_same(endpoint: Endpoint, database: int) -> None:
    endpoint = replace(endpoint, scheme="rediss" if endpoint.tls else "redis", path=str(database))
    read = parse_url(endpoint.url())
    found = {"host": endpoint.host, "port": endpoint.port, "username": endpoint.user, "password": endpoint.password}
    assert {key: read.get(key) for key in found} == {key: value or None for key, value in found.items()}
    assert read["db"] == int(endpoint.space)


@own
@given(st.lists(SERVERS, min_size=2, max_size=4))
def test_kombu_takes_the_nodes_of_a_cluster_for_alternatives(nodes: list[Endpoint]) -> None:
    nodes = [replace(node, scheme="amqp") for node in nodes]
    connection = Connection(Cluster(tuple(nodes)).url())
    assert [parse(alternative) for alternative in connection.alt] == nodes
    assert connection.virtual_host == nodes[0].space
    assert (connection.hostname, connection.port or 5672) == (nodes[0].host, nodes[0].real_port)


@own
@given(ENDPOINTS)
def test_no_password_is_shown(endpoint: Endpoint) -> None:
    secret = f"Tr0ub4dor{endpoint.password}"
    hidden = replace(endpoint, password=secret, query=(("password", secret), *endpoint.query))
    for text in (repr(hidden), str(hidden), hidden.shown(), repr(Cluster((hidden,)))):
        assert "Tr0ub4dor" not in text


@pytest.mark.parametrize(
    ("endpoint", "url", "shown"),
    [
        (Endpoint("amqp", "mq", 5672, "shop", "p@/ :%", "my/vhost"),
         "amqp://shop:p%40%2F%20%3A%25@mq:5672/my%2Fvhost", "amqp://***@mq:5672/my%2Fvhost"),
        (Endpoint("amqp", "mq", path="/"), "amqp://mq/%2F", "amqp://mq/%2F"),
        (Endpoint("amqps", "mq"), "amqps://mq", "amqps://mq"),
        (Endpoint("rediss", "::1", 6380, "", "pw", "2", (("ssl_cert_reqs", "none"),)),
         "rediss://:pw@[::1]:6380/2?ssl_cert_reqs=none", "rediss://***@[::1]:6380/2?..."),
        (Endpoint("sentinel", "s1", 26379, "shop", "", "0"), "sentinel://shop@s1:26379/0", "sentinel://***@s1:26379/0"),
        (Endpoint("redis+socket", path="run/redis/r.sock", query=(("virtual_host", "1"),)),
         "redis+socket:///run/redis/r.sock?virtual_host=1", "redis+socket:///run/redis/r.sock?..."),
        (Endpoint("https", "mq", 15671, "watch", "a!b", "up/api/"),
         "https://watch:a%21b@mq:15671/up/api/", "https://***@mq:15671/up/api/"),
    ],
)  # fmt: skip
def test_a_url_is_written_as_people_know_it(endpoint: Endpoint, url: str, shown: str) -> None:
    assert (endpoint.url(), endpoint.shown()) == (url, shown)
    assert parse(url) == endpoint


def test_signs_that_a_client_does_not_decode_are_written_as_they_are() -> None:
    endpoint = Endpoint("http", "mq", 15672, "w!", "a*b@", "api/")
    assert endpoint.url(plain="!*") == "http://w!:a*b%40@mq:15672/api/"


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("amqp://u:p%40@[::1]:5672/x?a=b;c", Endpoint("amqp", "::1", 5672, "u", "p@", "x", (("a", "b;c"),))),
        (" AMQP://MQ.Example.org//\n", Endpoint("amqp", "mq.example.org", path="/")),
        ("redis://:p@h", Endpoint("redis", "h", password="p")),
        ("redis://h/0#note", Endpoint("redis", "h", path="0")),
        ("redis+socket://:p@/run/r.sock", Endpoint("redis+socket", password="p", path="run/r.sock")),
        ("memory://", Endpoint("memory")),
    ],
)
def test_what_people_write_is_read(text: str, endpoint: Endpoint) -> None:
    assert parse(text) == endpoint


@pytest.mark.parametrize(
    "address",
    [
        "", "django-db", "amqp:/mq", "amqp://u:a;b@c", "redis://u:a/b@c", "redis://u:1/b@c", "redis://u:a#b@c",
        "redis://u:a?b@c", "amqp://[x", "amqp://h:x", "amqp://a;amqp://b",
    ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused(address: str) -> None:
    with pytest.raises(UnreadableURLError) as caught:
        parse(address)
    assert caught.value.reason.endswith("must be percent-encoded")
    assert str(caught.value) == f"{caught.value.reason}; write {caught.value.instead}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("amqp://a;amqp://b", ["amqp://a", "amqp://b"]),
        (" amqp://a ; amqp://b ;", ["amqp://a", "amqp://b"]),
        ("amqp://u:a;b@c", ["amqp://u:a;b@c"]),
        ("amqp://u:a;@c;amqp://d", ["amqp://u:a;@c;amqp://d"]),
        ("django-db", ["django-db"]),
        ("mq1/shop;amqp://mq2/shop", ["mq1/shop", "amqp://mq2/shop"]),
        ("", []),
        (None, []),
    ],
)
def test_a_semicolon_separates_addresses_only(url: object, parts: list[str]) -> None:
    assert [address for address in each_address(url) if address] == parts


def test_what_cannot_be_read_is_left_out_of_a_cluster() -> None:
    assert Cluster.read("redis://h:port/0;redis://h/1").nodes == (Endpoint("redis", "h", path="1"),)
    assert Cluster.read("django-db").nodes == Cluster.read(None).nodes == Cluster(()).nodes
    assert Cluster(()).url() == ""


@pytest.mark.parametrize(
    ("url", "server", "port", "space", "tls"),
    [
        ("amqp://mq", "rabbitmq", 5672, "/", False),
        ("pyamqp://mq:1/shop", "rabbitmq", 1, "shop", False),
        ("amqps://mq//", "rabbitmq", 5671, "/", True),
        ("redis://c", "redis", 6379, "0", False),
        ("rediss://c:6380//2/", "redis", 6380, "2", True),
        ("sentinel://s/3", "redis", 26379, "3", False),
        ("https://mq/api/", "", 0, "api/", True),
        ("http://mq", "", 0, "", False),
        ("db+postgresql://db:5432/shop", "", 5432, "shop", False),
    ],
)
def test_what_a_client_takes_where_nothing_is_said(url: str, server: str, port: int, space: str, tls: bool) -> None:
    endpoint = parse(url)
    assert (endpoint.server, endpoint.real_port, endpoint.space, endpoint.tls) == (server, port, space, tls)


def test_the_scheme_of_what_cannot_be_read_is_known() -> None:
    assert list(map(scheme_of, ("AMQP://u:a/b@h", "django-db", "", "://"))) == ["amqp", "", "", ""]


def test_the_runtime_knows_the_same_schemes() -> None:
    for scheme in (*SCHEMES, "http", "redis+socket", ""):
        assert server_at_run_time(f"{scheme}://h;redis://h") == server_of(scheme), scheme
    assert server_at_run_time(" AMQPS://h") == "rabbitmq"
    assert server_at_run_time("redis") == server_at_run_time("") == ""


def test_celery_reads_a_socket_the_same() -> None:
    url = Endpoint("redis+socket", path="run/redis/r.sock", query=(("virtual_host", "1"),)).url()
    backend, own_url = by_url(url, Celery(set_as_current=False).loader)
    read = backend(app=Celery(set_as_current=False), url=own_url).connparams
    assert (read["path"], read["db"]) == ("/run/redis/r.sock", 1)


url = FilterModule().filters()["url"]


def test_the_filter_names_every_server() -> None:
    nodes = [{"address": "a", "port": 1}, {"address": "b", "port": "2"}]
    assert url([{"address": "::1", "port": 1}], "http", "u", "p", "api/") == "http://u:p@[::1]:1/api/"
    assert url(nodes, "amqp", "u", "p@/ :%", "my/vhost") == (
        "amqp://u:p%40%2F%20%3A%25@a:1/my%2Fvhost;amqp://u:p%40%2F%20%3A%25@b:2/my%2Fvhost"
    )
    assert url(nodes[:1], "redis", "u", "p", 0) == "redis://u:p@a:1/0"
    assert url([], "amqp", "u", "p", "x") == ""


def test_celery_takes_the_sentinels_that_the_filter_names() -> None:
    nodes = [{"address": "s1", "port": 26379}, {"address": "fd00::2", "port": 26379}]
    app = Celery(set_as_current=False)
    app.conf.result_backend_transport_options = {"master_name": "mymaster"}
    backend, own_url = by_url(url(nodes, "sentinel", "shop", "p;/@", "0"), app.loader)
    read = backend(app=app, url=own_url).connparams
    assert [(node["host"], node["port"]) for node in read["hosts"]] == [("s1", 26379), ("fd00::2", 26379)]
    assert (read["username"], read["password"], read["db"]) == ("shop", "p;/@", 0)


@own
@given(TEXT, TEXT, NAMES)
def test_the_filter_encodes_as_the_clients_decode(user: str, password: str, host: str) -> None:
    assume(user and password)
    text = url([{"address": host, "port": 5672}], "amqp", user, password, user)
    assert text == f"amqp://{quote(user, safe='')}:{quote(password, safe='')}@{host}:5672/{quote(user, safe='')}"
