"""One rule says which names secrets stand under."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import secret_names
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import named_like_a_secret

RUNTIME = Path(__file__).parents[4] / "roles" / "celery_app" / "files" / "celeryops_runtime"


@pytest.mark.parametrize(
    "name",
    [
        "password", "PGPASSWORD", "smtp_passwd", "passphrase", "db_pass", "DB_PW", "SECRET_KEY", "client_secret",
        "auth-token", "--token", "aws_access_key", "secret_access_key", "private_key", "api_key", "apikey", "X-Api-Key",
        "auth_key", "license_key", "KEY", "SENTRY_DSN", "dsn", "erlang_cookie", "cookie", "GOOGLE_CREDENTIALS",
        "ssl_options.password", "auth_ldap.dn_lookup_bind.password", "default_pass",
    ],
)  # fmt: skip
def test_it_holds_a_secret(name: str) -> None:
    assert named_like_a_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "routing_key", "x-dead-letter-routing-key", "key", "keys", "MONKEY", "key_prefix", "global_keyprefix",
        "token_url", "--token-file", "PASSWORD_HASHERS", "SESSION_COOKIE_AGE", "SESSION_COOKIE_SECURE", "tls_key",
        "ssl_options.keyfile", "compass", "broker_url", "access_key_id_type",
    ],
)  # fmt: skip
def test_it_holds_none(name: str) -> None:
    assert not named_like_a_secret(name)


def test_the_runtime_has_the_same_rule() -> None:
    text = (RUNTIME / "effective.py").read_text()
    for name, pattern in (("_SECRET", secret_names.SECRET_NAME), ("_ABOUT", secret_names.ABOUT)):
        written = re.search(rf"^{name} = re\.compile\(\n((?:    r\".*\"\n?)+),\n    re\.IGNORECASE", text, re.MULTILINE)
        assert written, name
        assert "".join(re.findall(r'r"(.*)"', written[1])) == pattern.pattern
