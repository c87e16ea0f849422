"""Addresses as people write them: nothing that may be a password is shown, whatever signs it has."""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.masking import hidden, without_accounts
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.app_servers import (
    backend_problems,
    broker_problems,
    once_url_problems,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, shown

#: Each half of a password with one odd sign, or several, between them.
HEAD, TAIL = "Tr0ub4dor", "Staple99"
SIGNS = [
    ";", "/", "#", "?", "@", ":", " ", "%", "&", "=", "[", "]", "\\", "'", '"', "\n", "\t", "\r", "//", "://", ";/",
    "@;", ";@", "/;@", "; ", "#;?", "%3B", "%zz", "!*", "+", ",", "|", "<>", "`", "$", "{{", "}}", "ß", "\x00", ";amqp://",
    "@/", "/@", ";;", "\u2028",
]  # fmt: skip
SHAPES = [
    "{scheme}://shop:{password}@mq.example.org:5672/shop",
    "{scheme}://:{password}@mq.example.org/0",
    "{scheme}://{password}@mq.example.org/0",
    "{scheme}://shop:{password}@[2001:db8::1]:5672/shop",
    "{scheme}://shop:{password}@mq.example.org:5672/shop?ssl=true&x=1",
    "{scheme}://shop:{password}@mq1.example.org;{scheme}://shop:{password}@mq2.example.org",
    "{scheme}://mq1.example.org:5672/shop;{scheme}://shop:{password}@mq2.example.org",
    " {scheme}://shop:{password}@mq.example.org \n",
    "shop:{password}@mq.example.org:5672/shop",
    "{scheme}:/shop:{password}@mq.example.org",
    "{scheme}:shop:{password}@mq.example.org",
    "//shop:{password}@mq.example.org",
    "{password}",
]
#: Those without a sign between the parts where a host belongs.
WITHOUT_HOST = ["{scheme}://shop:{password}", "{scheme}://:{password}", "{scheme}://shop:{password}/shop"]


def everything() -> list[str]:
    schemes = ("amqp", "redis", "rediss", "sentinel", "db+postgresql", "amqqp", "https")
    return [
        shape.format(scheme=scheme, password=f"{HEAD}{sign}{TAIL}")
        for shape, sign, scheme in itertools.product([*SHAPES, *WITHOUT_HOST], SIGNS, schemes)
    ]


def test_no_sign_in_a_password_brings_a_part_of_it_to_light() -> None:
    # Without a host, what stands behind an "@" is one.
    told = {
        url: text
        for url in everything()
        for text in [hidden(url)]
        if HEAD in text or (TAIL in text and any(place in url for place in ("example", "2001")))
    }
    assert told == {}


def test_no_mistake_in_a_url_shows_a_part_of_its_password() -> None:
    wrong = []
    for url in everything():
        if "example" not in url and "2001" not in url:
            continue
        problems = [*broker_problems(url), *backend_problems(url), *once_url_problems(url)]
        problems += [
            Problem("test", name, url, "is wrong", "another") for name in ("flower_broker_url", "flower_broker_api")
        ]
        problems += [Problem("test", "celery_app_source.index_url", url, "is wrong", "another")]
        wrong += [str(problem) for problem in problems if HEAD in str(problem) or TAIL in str(problem)]
    assert wrong == []


@pytest.mark.parametrize("sign", [";", "/", "#", "?"])
def test_a_sign_that_an_address_separates_with_is_named(sign: str) -> None:
    url = f"amqp://shop:{HEAD}{sign}{TAIL}@mq.example.org:5672/shop"
    (problem,) = broker_problems(url)
    assert str(problem) == (
        "celery_app_broker_url: 'amqp://***@mq.example.org:5672/shop' cannot be read: characters such as / # ? : @ ;"
        " inside a password must be percent-encoded; write the password through urlencode | replace('/', '%2F')"
    )


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("amqp://shop:pw@mq:5672/shop", "amqp://***@mq:5672/shop"),
        ("amqp://mq:5672/shop", "amqp://mq:5672/shop"),
        ("amqp://u:p@a;amqp://u:p@b:5672/x", "amqp://***@a;amqp://***@b:5672/x"),
        ("redis://c1:6379/0;redis://c2/0", "redis://c1:6379/0;redis://c2/0"),
        ("redis://c1:6379/0;redis://:pw@c2/0", "redis://***@c2/0"),
        ("rediss://:pw@h:6380/2?password=hunter2", "rediss://***@h:6380/2?..."),
        ("amqp://u:p@[::1]:5672/x", "amqp://***@[::1]:5672/x"),
        ("redis+socket:///run/redis.sock", "redis+socket:///run/redis.sock"),
        ("redis://:12345", "redis://(not shown)"),
        ("amqp://shop:pw", "amqp://(not shown)"),
        ("amqp://shop:pw/vhost", "amqp://(not shown)"),
        ("amqp://u:p@", "amqp://***@"),
        ("a b://x", "(not shown)"),
        ("shop:pw@h", "(no scheme, not shown)"),
        ("", ""),
        ("(no scheme, not shown)", "(no scheme, not shown)"),
        ("amqp://***@mq/x", "amqp://***@mq/x"),
    ],
)
def test_what_is_no_secret_is_shown(url: str, text: str) -> None:
    assert hidden(url) == text
    assert hidden(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no address", "no address"),
        ("a://b", "a://b"),
        ("amqp://***@a;amqp://***@b/x", "amqp://***@a;amqp://***@b/x"),
        ("amqp://***@a;amqp://u:s3cret@b/x", "amqp://***@b/x"),
        ("https://ci:s3cret@h/x", "https://ci:***@h/x"),
        ("https://ghp_0123456789abcdefghij0123@github.com/x", "https://***@github.com/x"),
        ("https://ghp_0123456789abcdefghij0123:x-oauth-basic@github.com/x", "https://***@github.com/x"),
        ("shop @ git+https://ci:s3;c/r@h/x", "shop @ git+https://***@h/x"),
        ("amqp://shop:pass word@h", "amqp://***@h"),
        ("http://h:8080/x", "http://h:8080/x"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("amqp://shop:s3cret", "amqp://(not shown)"),
        ("one\nhttps://ci:s3cret@h/x\nthree", "one\nhttps://ci:***@h/x\nthree"),
        ("http://{{ host }}:{{ port }}/", "http://{{ host }}:{{ port }}/"),
    ],
)
def test_any_text_loses_the_accounts_of_its_addresses(text: str, expected: str) -> None:
    assert without_accounts(text) == expected


def test_a_value_is_looked_through_to_its_ends() -> None:
    value = {"a": ["amqp://shop:pass word;x@h"], "redis://:s3cret pw@h": 1}
    assert "pass" not in shown(value)
    assert "s3cret" not in shown(value)
