"""The environment of an app's processes."""

from __future__ import annotations

from typing import Any

import pytest
from app_plans import SECRET, planned, refused
from problems import told


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
