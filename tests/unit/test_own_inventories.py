"""The inventories of this repository pass the check: the demo's, Molecule's, the README's, the examples'."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def ansible(command: str, *arguments: str) -> str:
    """Run a command of Ansible as a person would, and return what it said."""
    run = subprocess.run(
        [str(Path(sys.executable).with_name(command)), *arguments],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
    )
    assert run.returncode == 0, run.stdout
    return run.stdout


def check(*inventories: Path, **variables: object) -> str:
    """Run the check on an inventory, and return what it said."""
    given = " ".join(f"{name}={value}" for name, value in {"test_run": "unit", **variables}.items())
    playbook = ROOT / "playbooks" / "check.yml"
    sources = [f"--inventory={inventory}" for inventory in inventories]
    return ansible("ansible-playbook", *sources, "--extra-vars", given, str(playbook))


@pytest.mark.parametrize(
    "paths",
    [
        "inventories/demo",
        "inventories/local",
        "molecule/default/inventory",
        "molecule/redis/inventory",
        "molecule/fleet/inventory",
        "molecule/cluster/inventory",
        "tests/chaos/inventory tests/chaos/single",
        "tests/chaos/inventory tests/chaos/cluster",
        "tests/chaos/inventory tests/chaos/first_node",
        "examples/django-ca/inventory",
        "examples/superset/inventory",
        "examples/weblate/inventory",
    ],
)
def test_an_inventory_of_this_repository_passes(tmp_path: Path, paths: str) -> None:
    folders = {"celeryops_secrets_dir": tmp_path / "secrets", "celeryops_plan_dir": tmp_path / "plan"}
    assert "[WARNING]" not in check(*(ROOT / path for path in paths.split()), **folders)
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
    assert "[WARNING]" not in check(tmp_path / "inventory")


@pytest.mark.parametrize(("example", "secrets"), [("django-ca", 2), ("superset", 3), ("weblate", 2)])
def test_an_example_is_short_and_holds_no_secret(tmp_path: Path, example: str, secrets: int) -> None:
    """People copy it: whatever is a secret is made when it is first used, on their machine."""
    inventory = ROOT / "examples" / example / "inventory"
    text = (inventory / "group_vars" / "all.yml").read_text()
    assert len(text.splitlines()) < 80
    told = ansible(
        "ansible-inventory",
        "--inventory",
        str(inventory),
        "--list",
        "--extra-vars",
        f"celeryops_secrets_dir={tmp_path}",
    )
    ((_host, values),) = json.loads(told)["_meta"]["hostvars"].items()
    secret = {name: value for name, value in values.items() if re.search("password|secret_key", name)}
    assert len(secret) == secrets
    assert [
        name
        for name, value in secret.items()
        if "lookup('ansible.builtin.password', celeryops_secrets_dir" not in value
    ] == []
    given = {**values["celery_app_environment"], **values["redis_users"][0]}
    named = {name for name in given if re.search("(?i)password|secret_key|cache_url|database_uri", name)}
    assert [name for name in named if not re.search(r"\{\{ (\w+) \}\}", given[name])] == []


def test_what_the_check_leaves_beside_an_inventory_is_no_part_of_it(tmp_path: Path) -> None:
    """Ansible reads a directory whole: a file with a password would become a host whose name every run prints."""
    inventory = tmp_path / "inventories" / "demo"
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    shutil.copytree(ROOT / "inventories" / "demo", inventory, ignore=shutil.ignore_patterns(".celeryops", "secrets"))
    before = json.loads(ansible("ansible-inventory", "--inventory", str(inventory), "--list"))
    check(inventory)
    passwords = [path.read_text().strip() for path in (inventory / ".celeryops" / "secrets").iterdir()]
    assert len(passwords) > 3
    assert (inventory / ".celeryops" / "plan" / "plan.svg").exists()
    assert (inventory / ".celeryops" / ".gitignore").read_text() == "*\n"
    again = check(inventory)
    assert "[WARNING]" not in again
    assert [password for password in passwords if password in again] == []
    assert json.loads(ansible("ansible-inventory", "--inventory", str(inventory), "--list")) == before
