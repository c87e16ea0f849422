"""The check sees each host's variables as the plays do, whatever says them."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from checker import HOST, Checker, laid_over_the_shop

#: The play that tells what Ansible itself makes of the variable.
SAID = [{"hosts": HOST, "gather_facts": False, "tasks": [{"debug": {"msg": "Ansible has {{ redis_port }}."}}]}]
#: Where a variable can be said, as Ansible orders them.
PLACES = ("group_vars of all", "group_vars", "host_vars", "import_playbook", "-e")


@pytest.fixture(scope="module")
def checker() -> Any:
    """One process for all inventories."""
    with Checker() as running:
        yield running


def said_in(*places: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return an inventory and the files around it in which each place says something else of a variable."""
    values = {place: f"x{place}" for place in places}
    own = {place: {"redis_port": value} for place, value in values.items()}
    inventory = laid_over_the_shop(
        {
            "vars": own.get("group_vars of all"),
            "group_vars": {"redis": own.get("group_vars", {})},
            "host_vars": {HOST: own.get("host_vars")},
        }
    )
    imported = {"vars": own.get("import_playbook", {})}
    wrap = [{"import_playbook": "said.yml", **imported}, {"import_playbook": "celeryops.stack.check", **imported}]
    files = {"wrap.yml": yaml.safe_dump(wrap), "said.yml": yaml.safe_dump(SAID)}
    if "-e" in own:
        files["more.yml"] = yaml.safe_dump(own["-e"])
    return inventory, files


@pytest.mark.parametrize("places", [*pairwise(PLACES), (PLACES[0], PLACES[-2]), PLACES[:-1], PLACES], ids=str)
def test_the_check_sees_what_ansible_sees(tmp_path: Path, checker: Checker, places: tuple[str, ...]) -> None:
    answer = checker.ask(tmp_path, *said_in(*places))
    seen = re.search(r"Ansible has (.*?)\.", answer.said)
    assert seen, answer.said
    assert seen[1] == f"x{places[-1]}"
    told = f"  - redis_port: '{seen[1]}' is not a whole number; write a whole number"
    assert answer.mistakes == [told]


def test_what_stands_at_the_import_alone_is_not_missing(tmp_path: Path, checker: Checker) -> None:
    inventory: Any = laid_over_the_shop({})
    shop = inventory["all"].pop("vars")
    wrap = [{"import_playbook": "celeryops.stack.check", "vars": {**shop, "team": "shop"}}]
    inventory["all"]["vars"] = {"celery_app_description": "{{ team }}"}
    answer = checker.ask(tmp_path, inventory, {"wrap.yml": yaml.safe_dump(wrap)})
    assert (answer.code, answer.mistakes) == (0, []), answer.said
    assert (tmp_path / ".celeryops" / "secrets" / "shop_redis_password").exists()
