"""What the environment of a run changes in the inventories of its hosts."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def value(scenario: str, name: str, **environment: str) -> Any:
    """Return a variable of the host of a scenario, as the roles get it."""
    inventory = ROOT / "molecule" / scenario / "inventory"
    given = {key: text for key, text in os.environ.items() if not key.startswith("CELERYOPS_")}
    told = subprocess.run(
        ["ansible", f"--inventory={inventory}", "stack", "-m", "ansible.builtin.debug", "-a", f"var={name}"],
        check=True,
        capture_output=True,
        text=True,
        env=given
        | {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        }
        | environment,
    ).stdout
    return json.loads(told[told.index("{") :])[name]


@pytest.mark.parametrize("scenario", ["default", "redis"])
def test_each_run_of_a_stack_keeps_secrets_of_its_own(scenario: str) -> None:
    usual = "trixie" if scenario == "default" else "trixie-redis"
    assert value(scenario, "test_run") == usual
    folder = value(scenario, "celeryops_secrets_dir", CELERYOPS_RUN="trixie-apart")
    assert folder.endswith("/molecule/trixie-apart/secrets")


def test_a_run_holds_the_app_to_a_version_of_celery() -> None:
    source = value("default", "celery_app_source")
    assert sorted(source) == ["path", "type"]
    held = value("default", "celery_app_source", CELERYOPS_CELERY="5.6")
    assert held == {**source, "constraints": "celery==5.6.*"}
