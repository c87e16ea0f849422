"""What is shown of an error: every cause, and no secret."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shlex
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from markupsafe import escape

from ansible_collections.celeryops.stack.plugins.module_utils import masking
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages import problem

PEM = (
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nq83vEjRWeJASNFZ4kBI0VniQ\nAQ==\n"
    "-----END PRIVATE KEY-----\n"
)


def shown(text: str, variables: dict[str, object], *addresses: str, public: tuple[str, ...] = ()) -> str:
    return masking.masked(text, masking.secrets_of(variables, addresses), public)


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("DJANGO_SETTINGS_MODULE", "acmedj.setings", "ModuleNotFoundError: No module named 'acmedj.setings'"),
        (
            "SUPERSET_CONFIG_PATH",
            "/etc/superset/superset_config.py",
            "No such file: '/etc/superset/superset_config.py'",
        ),
        ("SECRET_KEY_FILE", "/etc/shop/key", "No such file or directory: '/etc/shop/key'"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/shop/gcp.json", "File /etc/shop/gcp.json was not found."),
        ("PASSWORD_HASHER", "shop.hashers.Argon", "No module named 'shop.hashers.Argon'"),
        ("TOKEN_LIFETIME", "3600", "line 3600, in refresh"),
        ("DEBUG_TOKEN", "true", "expected true"),
        ("DATABASE_HOST", "db1.example.org", "could not translate host name db1.example.org"),
        ("CELERY_BROKER_URL", "amqp://mq1.example.org/shop", "amqp://mq1.example.org/shop: connection refused"),
        ("API_URL", "http://host:8080/pool@2", "GET http://host:8080/pool@2: 404"),
        ("MONKEY", "banana", "no banana"),
        ("KEYBOARD", "qwertz", "unknown layout qwertz"),
    ],
)
def test_a_harmless_value_is_shown(variable: str, value: str, text: str) -> None:
    assert shown(text, {variable: value}) == text


@pytest.mark.parametrize(
    "url",
    ["http://172.18.0.1:9/simple", "https://pypi.example.org/simple/", "git+https://git.example.org/shop.git@v1.0"],
)
def test_an_address_without_a_password_is_shown(url: str) -> None:
    assert shown(f"Failed to fetch: `{url}celery/`", {}, url) == f"Failed to fetch: `{url}celery/`"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SECRET_KEY", "d9f0a71c"), ("DB_PASSWORD", "hunter2"), ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG"),
        ("SENTRY_TOKEN", "abcd"), ("DB_PASS", "korrekt"), ("smtp_passphrase", "mit zwei worten"),
        ("FERNET_KEY", "x+/=="), ("STRIPE_API_KEY", "sk-123456"), ("PG_PW", "blau-weiss"),
    ],
)  # fmt: skip
def test_what_is_named_like_a_secret_is_none_of_anybodys_business(variable: str, value: str) -> None:
    assert value not in shown(f"refused: {value} (as {value!r})", {variable: value})
    assert shown(f"refused: {value}", {variable: value}) == "refused: ***"


@pytest.mark.parametrize(
    "password", ["pw", "hunter2", "p@ss:w/rd?&#%", "päss wörd", "Tr0ub4dor;Staple99", "a'b\"c\\d", "100%", "x" * 80]
)
def test_the_password_of_an_address_is_hidden_in_every_form(password: str) -> None:
    encoded = quote(password, safe="")
    basic = base64.b64encode(f"shop:{password}".encode()).decode()
    url = f"amqp://shop:{encoded}@mq.example.org:5672/shop"
    text = f"{url}: access refused; PASSWORD={password!r} {json.dumps(password)}; Basic {basic}; :{password}@"
    found = shown(text, {"BROKER": url})
    assert password not in found
    assert encoded not in found
    assert basic not in found
    assert "mq.example.org:5672/shop" in found
    assert found.endswith("@")


#: As programs print what they were given.
_WRITTEN: dict[str, Callable[[str], str]] = {
    "Python": repr,
    "bytes": lambda secret: repr(secret.encode()),
    "JSON": json.dumps,
    "JSON in JSON": lambda secret: json.dumps(json.dumps(secret)),
    "Python in JSON": lambda secret: json.dumps(repr(secret)),
    "a shell": shlex.quote,
    "a shell's double quotes": lambda secret: re.sub(r'([\\\\"$`])', r"\\\1", secret),
    "an address": lambda secret: quote(secret, safe=""),
    "an address in small letters": lambda secret: re.sub("%..", lambda sign: sign[0].lower(), quote(secret, safe="")),
    "a form": quote_plus,
    "HTML": html.escape,
    "Jinja's HTML": lambda secret: str(escape(secret)),
    "hexadecimal": lambda secret: secret.encode().hex(),
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "base64url": lambda secret: base64.urlsafe_b64encode(secret.encode()).decode().rstrip("="),
}


@pytest.mark.parametrize("written", _WRITTEN.values(), ids=_WRITTEN)
@pytest.mark.parametrize(
    "secret",
    ['it\'s a $ecret/key+with=signs&"q" ä', "p@ss:w/rd", "back\\slash `tick` 100%", "Korrekt Pferd 😀", "short1"],
)
def test_a_secret_is_hidden_however_it_is_written(secret: str, written: Callable[[str], str]) -> None:
    assert re.fullmatch(r"got b?\W*\*\*\*\W* there", shown(f"got {written(secret)} there", {"SECRET_KEY": secret}))


def test_a_password_with_a_blank_is_hidden_in_its_address() -> None:
    url = "postgres://shop:zwei worte@db.example.org:5432/shop"
    assert (
        shown(f"{url}: refused; zwei worte", {"DATABASE_URL": url})
        == "postgres://***@db.example.org:5432/shop: refused; ***"
    )


@pytest.mark.parametrize(
    "value",
    ['{"password": "zwei worte, drei"}', "{'api_key': 'zwei worte, drei'}", '{"password": "zwei \\"worte, drei"}'],
)
def test_a_secret_in_quotes_is_hidden_up_to_the_end_of_them(value: str) -> None:
    found = shown(f"cannot read {value}", {"SHOP_OPTIONS": value})
    for part in ("zwei", "worte", "drei"):
        assert part not in found


def test_a_password_that_was_not_encoded_is_hidden_whole() -> None:
    for url in (
        "amqp://shop:Tr0ub4dor;Staple99@mq.example.org:5672/shop", "redis://:sl/ash@cache:6379/0",
        "postgres://u:at@sign@db/x", "https://u:ques?tion@index/simple", "redis://x:ha#sh@cache/0",
    ):  # fmt: skip
        found = shown(f"cannot connect to {url}: refused", {"ANYTHING": url})
        for part in ("Tr0ub4dor", "Staple99", "sl/ash", "at@sign", "sign@db", "ques", "tion@", "ha#sh"):
            assert part not in found, (url, found)
        assert found.endswith(": refused")


def test_several_addresses_in_one_value_are_read_one_by_one() -> None:
    url = "amqp://shop:one-1234@a:5672/x;amqp://shop:two-5678@b:5672/x"
    found = shown(f"tried {url}; then one-1234 and two-5678", {"CELERY_BROKER_URL": url})
    assert "1234" not in found
    assert "5678" not in found


def test_a_token_in_the_users_place_is_hidden_and_an_account_of_ssh_is_not() -> None:
    assert shown("x ghtoken99 y", {}, "https://ghtoken99@github.com/shop.git") == "x *** y"
    assert shown("x ghtoken99 y", {}, "https://ghtoken99:@github.com/shop.git") == "x *** y"
    assert shown("deploy@host: denied", {}, "ssh://deploy@host/shop.git") == "deploy@host: denied"


def test_an_unknown_password_in_a_text_is_hidden_too() -> None:
    assert masking.masked("see redis://:unseen@cache:6379/0") == "see redis://***@cache:6379/0"
    assert masking.masked("https://me:a@b@index/x, or http://h:80/x@y") == "https://***@index/x, or http://h:80/x@y"


def test_the_name_of_the_app_stays_although_it_is_a_password() -> None:
    variables: dict[str, object] = {"CELERY_BROKER_URL": "amqp://shop:shop@mq/shop"}
    text = "No module named 'shop.setings' (amqp://shop:shop@mq/shop)"
    assert shown(text, variables, public=("shop",)) == "No module named 'shop.setings' (amqp://***@mq/shop)"


def test_a_short_secret_does_not_garble_other_words() -> None:
    variables: dict[str, object] = {"DB_PASSWORD": "app", "OTHER_TOKEN": "sets"}
    text = "mapped settings of the application 'app': password=app; the app sets assets"
    assert shown(text, variables) == "mapped settings of the application '***': password=***; the app *** assets"


def test_a_private_key_is_hidden_line_by_line() -> None:
    text = f"cannot load {PEM!r}\n{PEM}\nline: q83vEjRWeJASNFZ4kBI0VniQ"
    found = shown(text, {"TLS": PEM})
    assert "MIIEvQ" not in found
    assert "q83vEj" not in found
    assert found.startswith("cannot load ")


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("host=db user=shop password=unseen123 port=5432", "unseen123"),
        ('{"password": "unseen456", "host": "db"}', "unseen456"),
        ("Server=db;Pwd=x;api_key=unseen789;", "unseen789"),
        ("https://hooks.example.org/?token=unseen012&x=1", "unseen012"),
    ],
)
def test_a_secret_inside_of_a_value_is_hidden_and_the_rest_is_not(value: str, secret: str) -> None:
    found = shown(f"cannot parse {value}, {secret}", {"SHOP_OPTIONS": value})
    assert secret not in found
    assert "cannot parse" in found
    assert "db" in found or "hooks.example.org" in found


@pytest.mark.parametrize(
    "token",
    ["ghp_" + "a1B2" * 9, "glpat-" + "x" * 20, "AKIA" + "Q7" * 8, "xoxb-123456789-abcdef", "sk_live_" + "9" * 16],
)
def test_a_token_that_can_be_told_by_its_form_is_hidden_wherever_it_stands(token: str) -> None:
    assert shown(f"401 for {token}", {"SHOP_X": token}) == "401 for ***"
    assert masking.masked(f"401 for {token}") == "401 for ***"


def test_nothing_is_hidden_for_an_empty_value() -> None:
    assert shown("a  b", {"DB_PASSWORD": "", "X_TOKEN": "  "}) == "a  b"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://u:p@h/x", ("u", "p")), ("https://u@h/x", ("u", None)), ("https://u:@h/x", ("u", "")),
        ("https://h/x@y", ("", None)), ("https://h:80/x@y:z@w", ("", None)), ("redis://:p@h", ("", "p")),
        ("h/x", ("", None)), ("https://u:a@b@h:1/", ("u", "a@b")),
    ],
)  # fmt: skip
def test_the_user_part_of_an_address(address: str, expected: tuple[str, str | None]) -> None:
    assert masking.user_part(address) == expected


_DIGESTS = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(3200))


_BIG = {
    "letter": "a" * 100_000,
    "word": "token" * 20_000,
    "hex": _DIGESTS.hex()[:100_000],
    "base64url": base64.urlsafe_b64encode(_DIGESTS).decode()[:100_000],
    "addresses line by line": "cannot connect to amqp://shop:unseen@mq.example.org:5672/shop\n" * 1600,
    "addresses on one line": "amqp://shop:unseen@mq.example.org/shop;" * 2500,
    "addresses without anybody": "http://host/x," * 7000,
    "perhaps a password": "u://a:b," * 12_500,
    "perhaps a password, up to the end": "u://a:b," * 12_500 + "@",
    "perhaps a user": "u://a" * 20_000,
    "many hosts": "u://a:" + "@h" * 50_000,
    "perhaps a web token": "eyJaaaaaaaaaa-" * 7000,
    "private keys that begin": "-----BEGIN PRIVATE KEY" * 4500,
}


@pytest.mark.parametrize("value", _BIG.values(), ids=_BIG)
def test_a_big_value_takes_no_time(value: str) -> None:
    began = time.process_time()
    masking.secrets_of({"SHOP_DATA": value})
    masking.masked(value)
    problem.without_secrets(value)
    assert time.process_time() - began < 1


def test_an_address_is_hidden_behind_any_sign() -> None:
    for text in ("0https://u:unseen@h/x", "--https://u:unseen@h", "x" * 30 + "://u:unseen@h"):
        assert "unseen" not in masking.masked(text)
        assert "unseen" not in problem.without_secrets(text)
        assert "unseen" in masking.secrets_of({"X": text})


def test_a_web_token_is_hidden_behind_whatever_stands_before_it() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r"
    for before in ("", "Bearer ", "x-", "token=", "eyJ-"):
        assert masking.masked(f"{before}{token} refused") == ("" if before == "eyJ-" else before) + "*** refused"
        assert token in "".join(masking.secrets_of({"X": before + token}))
    assert masking.masked("aeyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3.dBjftJeZ4CVP") == (
        "aeyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3.dBjftJeZ4CVP"
    )


def test_output_is_cut_and_cleaned() -> None:
    output = "\n".join(f"line {number}" for number in range(50)) + "\nGET https://u:pw@h/x hunter2 a b\n"
    shown = masking.tail(output, ["hunter2", "a"], lines=3)
    assert shown == "line 48\nline 49\nGET https://***@h/x *** a b"


def test_the_end_of_an_output_is_25_lines_long() -> None:
    output = "\n".join(map(str, range(30)))
    assert masking.tail(output).splitlines() == [str(number) for number in range(5, 30)]


def test_the_longest_secret_is_hidden_first_and_short_ones_stay() -> None:
    assert masking.tail("abcdef abcd abc", ["abcd", "abcdef", "abc"]) == "*** *** abc"
