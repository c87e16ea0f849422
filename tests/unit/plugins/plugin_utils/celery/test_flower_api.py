"""The account that RabbitMQ's management API is sent."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.flower_api import flower_api

BROKER = "amqp://watch:{}@mq1:5672/shop"
API = "http://watch:{}@mq1:15672/api/"


@pytest.mark.parametrize(
    "password", ["plain12345", "with@sign", "with%cent", "star!*", "a b", "s/l#a?sh;", "ü:€", "%41"]
)
def test_the_account_of_the_broker_is_left_out(password: str) -> None:
    encoded = quote(password, safe="")
    assert flower_api(API.format(encoded), BROKER.format(encoded)) == (["http://mq1:15672/api/"], [])
    several = f"{BROKER.format(encoded)};amqp://other:x@mq2:5672/shop"
    assert flower_api(API.format(encoded), several) == (["http://mq1:15672/api/"], [])


@pytest.mark.parametrize(
    ("api", "result"),
    [
        ("", ""),
        ("http://mq1:15672/api/", "http://mq1:15672/api/"),
        ("https://[::1]:15671/api/", "https://[::1]:15671/api/"),
        (API.format("plain-12_3.4~"), API.format("plain-12_3.4~")),
        # Encoded without need: decoded, it says the same to tornado.
        (API.format("star%21%2A%2B"), API.format("star!*+")),
        ("https://watch:x%2Ay@[::1]:15671/api/", "https://watch:x*y@[::1]:15671/api/"),
    ],
)
def test_another_account_stays_as_tornado_sends_it(api: str, result: str) -> None:
    assert flower_api(api, BROKER.format("other")) == ([result] if result else [], [])


@pytest.mark.parametrize("password", ["p%40ss", "p%25ss", "p%2Fss", "p%20ss", "p%3Ass", "%C3%BC"])
def test_an_account_that_flower_cannot_send_is_refused(password: str) -> None:
    result, (problem,) = flower_api(API.format(password), BROKER.format("other"))
    assert result == []
    assert str(problem) == (
        "flower_broker_api: 'http://***@mq1:15672/api/' has an account that Flower cannot send: it would send the"
        " encoded signs as they stand there; write the account of flower_broker_url, with the tag management, or a"
        " password of letters and digits"
    )


def test_an_account_that_cannot_be_read_is_refused() -> None:
    for api in ("http://watch:p/ss@mq1:15672/api/", "http://watch:p;ss@mq1:15672/api/"):
        assert "must be percent-encoded" in flower_api(api, BROKER.format("other"))[1][0].reason


def test_each_node_has_its_own_address() -> None:
    second = "http://watch:p%40ss@mq2:15672/api/"
    several = f"{API.format('p%40ss')};{second}"
    assert flower_api(several, BROKER.format("p%40ss")) == (["http://mq1:15672/api/", "http://mq2:15672/api/"], [])
    urls, (problem,) = flower_api(f"http://mq1:15672/api/;{second}", BROKER.format("other"))
    assert urls == ["http://mq1:15672/api/"]
    assert "'http://***@mq2:15672/api/' has an account that Flower cannot send" in str(problem)


def test_of_a_broker_that_cannot_be_read_no_account_is_known() -> None:
    api = API.format("plain12345")
    assert flower_api(api, "amqp://watch:plain;12345@mq1:5672/shop") == ([api], [])
    assert flower_api(api, "") == ([api], [])
