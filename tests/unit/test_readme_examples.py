"""The plays that the roles' READMEs show are complete: the real plan takes them as they are written."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
SECRET = "Zq8wLm2xVt5r/Kd4n"


def example(role: str) -> dict[str, Any]:
    """Return the variables of the first play in a role's README that applies this role alone."""
    blocks = re.findall(r"```yaml\n(- hosts: .*?)```", (ROOT / "roles" / role / "README.md").read_text(), re.DOTALL)
    plays = [play for block in blocks for play in yaml.safe_load(block)]
    (applied,) = plays[0]["roles"]
    assert applied["role"] == f"celeryops.stack.{role}"
    variables: dict[str, Any] = applied["vars"]
    return variables


def play(role: str) -> dict[str, Any]:
    variables = example(role)
    vaulted = dict.fromkeys(re.findall(r"\bvault_\w+", json.dumps(variables)), SECRET)
    task = {"name": f"Plan {role}", "celeryops.stack.plan": {"role": role}, "ignore_errors": True}
    return {
        "name": role,
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {**vaulted, **variables},
        "tasks": [task],
    }


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What Ansible prints of all of them; nothing on this machine is looked at or changed."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "hosts.yml").write_text("all: {hosts: {localhost: {ansible_connection: local}}}\n")
    (folder / "plays.yml").write_text(yaml.safe_dump([play(role) for role in ROLES], sort_keys=False))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(folder / "hosts.yml")]
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    finished = subprocess.run(
        [*command, str(folder / "plays.yml")], check=False, text=True, cwd=ROOT, env=environment, capture_output=True
    )
    return finished.stdout + finished.stderr


@pytest.mark.parametrize("role", ROLES)
def test_the_play_of_a_readme_is_taken_as_it_is_written(said: str, role: str) -> None:
    _before, _head, task = said.partition(f"TASK [Plan {role}]")
    assert task.split("\n", 2)[1].startswith("ok: "), task.partition("TASK [")[0]


@pytest.mark.parametrize("role", ROLES)
def test_no_example_installs_what_a_stranger_may_have_published(role: str) -> None:
    """The public index takes no local version (PEP 440), and nobody has a host below example.org."""
    texts = [path.read_text() for path in (ROOT / "README.md", ROOT / "roles" / role / "README.md")]
    named = [name for text in texts for name in re.findall(r'type: pip, packages: \["([^"]+)"', text)]
    assert [name for name in named if not re.fullmatch(r"[a-z-]+==[0-9.]+\+[a-z]+", name)] == []


def test_the_ansible_cfg_to_start_from_is_one() -> None:
    (text,) = re.findall(r"```ini\n(\[defaults\].*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    # Ansible takes a "#" behind a value for a part of it.
    parsers = [configparser.ConfigParser(inline_comment_prefixes=(";",)) for _each in range(2)]
    parsers[0].read_string(text)
    parsers[1].read(ROOT / "ansible.cfg")
    shown, own = parsers
    assert shown.sections() == ["defaults", "connection", "ssh_connection"]
    for section in shown.sections():
        assert {**shown[section]}.items() <= {**own[section]}.items()
