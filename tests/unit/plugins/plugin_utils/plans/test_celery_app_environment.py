"""The environment of an app's processes."""

from __future__ import annotations

from typing import Any

import pytest
from app_plans import ROLE, SECRET, planned, refused
from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import render


def test_the_environment_names_loader_configuration_and_path() -> None:
    assert planned(python_path=["/srv/shop"])["environment"] == {
        "CELERY_LOADER": "celeryops_runtime.loader:Loader",
        "CELERYOPS_CONFIG": "/etc/celeryops/shop/celery.json",
        "PYTHONPATH": "/opt/celeryops/shop/runtime:/srv/shop",
    }


@pytest.mark.parametrize(
    ("name", "value", "identity"),
    [
        ("C_FORCE_ROOT", "1", "reserved-environment"),
        ("CELERY_BROKER_URL", SECRET, "reserved-environment"),
        ("CELERYOPS_X", "1", "reserved-environment"),
        ("PYTHONPATH", "/x", "reserved-environment"),
        ("NOTIFY_SOCKET", "/x", "reserved-environment"),
        ("A-B", "1", "not-a-variables-name"),
        ("A", True, "yaml-boolean"),
        ("A", None, "not-text"),
        ("A", ["x"], "not-text"),
        *(("A", f"{SECRET}{sign}", "control-character") for sign in ("\x00", "\r", "\x1f", "\x7f")),
    ],
)
def test_environment_variables_that_are_refused(name: str, value: Any, identity: str) -> None:
    assert told(refused(environment={name: value})) == [(identity, f"celery_app_environment.{name}")]


@pytest.mark.parametrize("value", ["-----BEGIN\nx\n", 80, "a b", "!", "~", "\x80", "a\t\nb"])
def test_environment_variables_may_have_several_lines_and_be_numbers(value: Any) -> None:
    planned(environment={"A": value})


@pytest.mark.parametrize(("password", "line"), [("a$b", ['CELERYOPS_SENTINEL_PASSWORD="a\\$b"']), ("", [])])
def test_the_password_of_sentinels_stands_in_the_environment_file(password: str, line: list[str]) -> None:
    values = {"broker_url": "x", "result_backend": "", "once_url": "", "variables": {}, "sentinel_password": password}
    text = render(ROLE / "templates" / "celery.env.j2", values)
    assert text.splitlines()[1:] == ['CELERY_BROKER_URL="x"', *line]
