"""The inventories of this repository pass the check that they are run with: the demo's, Molecule's, and the README's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def check(inventory: Path, folder: Path) -> str:
    """Run the check on an inventory as a person would, with what it writes in ``folder``; return what it said."""
    run = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("ansible-playbook")), "--inventory", str(inventory)),
            *("--extra-vars", f"celeryops_secrets_dir={folder}/secrets celeryops_plan_dir={folder}/plan test_run=unit"),
            str(ROOT / "playbooks" / "check.yml"),
        ],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
    )
    assert run.returncode == 0, run.stdout
    return run.stdout


@pytest.mark.parametrize(
    "path", ["inventories/demo", "inventories/local", "molecule/default/inventory", "molecule/redis/inventory"]
)
def test_an_inventory_of_this_repository_passes(tmp_path: Path, path: str) -> None:
    assert "[WARNING]" not in check(ROOT / path, tmp_path)
    assert (tmp_path / "plan" / "plan.svg").exists()


def test_the_inventory_in_the_readme_passes_and_is_short(tmp_path: Path) -> None:
    """A newcomer copies it; the promise is fewer than 40 lines."""
    blocks = re.findall(r"```yaml\n# inventory/(\S+?\.yml).*?\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert [name for name, _text in blocks] == ["hosts.yml", "group_vars/all.yml"]
    assert sum(len(text.splitlines()) for _name, text in blocks) < 40
    for name, text in blocks:
        file = tmp_path / "inventory" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert "[WARNING]" not in check(tmp_path / "inventory", tmp_path)
