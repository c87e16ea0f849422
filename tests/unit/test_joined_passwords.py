"""A password that the inventory sets for one role counts for the others that log in with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.controller import Controller


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("sentinel_client_password", "celeryops_sentinel_client_password"),
        ("sentinel_server_password", "redis_sentinel_password"),
        ("sentinel_admin_password", "redis_sentinel_admin_password"),
    ],
)
def test_a_password_of_the_sentinels_is_that_of_who_logs_in_there(written: str, read: str, tmp_path: Path) -> None:
    loader = DataLoader()
    controller = Controller(Templar(loader=loader), loader, [str(tmp_path)])
    variables = {
        **controller.variables_in("roles", "redis", "defaults", "main.yml"),
        **controller.variables_in("playbooks", "vars", "stack.yml"),
        "ansible_inventory_sources": [str(tmp_path)],
        "celeryops_secrets_dir": str(tmp_path / "secrets"),
        "celeryops_stack": {"redis_nodes": [{}, {}]},
        "redis_nodes": [{}, {}],
    }
    generated = controller.templates_with(variables)(variables[read])
    given = controller.templates_with({**variables, written: "given"})(variables[read])
    assert (len(generated), given) == (40, "given")
