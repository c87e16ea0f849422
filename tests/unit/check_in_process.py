"""The check's own action plugin without a playbook around it: for what is tried with hundreds of inventories."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any
from unittest.mock import patch

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from checker import GROUPS, HOST, ROOT, SHOP

from ansible_collections.celeryops.stack.plugins.action import plan


def checked(
    folder: Path, own: dict[str, Any], workers: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> dict[str, Any]:
    """Run the action plugin itself on an inventory, and return what it says.

    Arguments:
        folder: of the inventory.
        own: variables of all hosts, of which one does everything.
        workers: further hosts, only with workers -> what each has of its own.
    """
    loader = DataLoader()
    sources = {"ansible_inventory_sources": [str(folder)]}
    groups = {name: [HOST, *(workers if name in ("all", "celery_workers") else ())] for name in (*GROUPS, "all")}
    # One server has nobody to watch it.
    groups["sentinel"] = []
    own = {**SHOP, **own, **sources, "celeryops_secrets_dir": str(folder / "secrets")}
    # ansible-core 2.19 asks to say so.
    trusting = "trusted_as_template" in inspect.signature(loader.load_from_file).parameters
    trusted = {"trusted_as_template": True} if trusting else {}
    joined = loader.load_from_file(str(ROOT / "playbooks" / "vars" / "stack.yml"), **trusted)
    variables = {**own, **joined, "inventory_hostname": HOST, "groups": groups, "hostvars": {HOST: own}}
    of = {host: {**variables, **more, "inventory_hostname": host} for host, more in {HOST: {}, **workers}.items()}
    task = SimpleNamespace(args={}, async_val=0, check_mode=False, diff=False)
    plugin = plan.ActionModule(task, None, None, loader, Templar(loader=loader), None)
    # No play around it, whose variables there would be.
    alone = patch.object(plan, "in_play_of", lambda _task, _hostvars: of.__getitem__)
    with patch.object(ActionBase, "run", return_value={}), alone:
        outcome: dict[str, Any] = plugin.run(None, variables)
    return outcome
