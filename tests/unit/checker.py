"""Inventories for the real check: how a table's entry becomes files, and what the check says of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("rabbitmq", "redis", "sentinel", "celery_workers", "celery_producers", "celery_beat", "flower")
HOST = "one.invalid"
#: A sound inventory, on which the tables lay what they are about: one host that does everything, and does not exist.
SHOP: Mapping[str, Any] = {
    "celery_app_name": "shop",
    "celery_app_import": "shop.celery:app",
    "celery_app_source": {"type": "pip", "packages": ["shop==1.4.2"]},
    "celery_worker_classes": {"high": {"queues": ["payments"]}, "default": {}},
    "celery_app_routes": [{"task": "shop.payments.*", "queue": "payments"}],
}


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes what stands twice twice: an anchor is no part of what is tested."""

    def ignore_aliases(self, _data: object) -> bool:
        """Return that nothing gets an anchor."""
        return True


@dataclass(frozen=True)
class Answer:
    """What the playbook said: its exit code, all of its output, the lines of the one message, and the warnings."""

    code: int
    said: str

    @property
    def mistakes(self) -> list[str]:
        """The mistakes in the message, as a person reads them."""
        return self._message().splitlines()[1:]

    @property
    def told(self) -> list[tuple[str, str]]:
        """The mistakes by the id of the message and by the variable, sorted."""
        return sorted((entry["id"], entry["variable"]) for entry in self._result().get("mistakes", ()))

    @property
    def head(self) -> str:
        """The message's first line."""
        return self._message().partition("\n")[0]

    def _message(self) -> str:
        return str(self._result().get("msg", ""))

    def _result(self) -> dict[str, Any]:
        found = re.search(r"^fatal: \[[^]]*\]: FAILED! => (\{.*\})$", self.said, re.MULTILINE)
        return dict(json.loads(found[1])) if found else {}

    @property
    def warnings(self) -> str:
        """The warnings of the check, without the line breaks that fit them into a terminal."""
        text = " ".join(self.said.split())
        return " ".join(
            re.findall(r"\[WARNING\]: (.*?)(?= (?:\[(?:WARNING|ERROR)\]|ok: |fatal: |PLAY |TASK )|$)", text)
        )


class Checker:
    """A process that runs the check (check_server.py)."""

    def __init__(self) -> None:
        """Start it."""
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("check_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **{name: value for name, value in os.environ.items() if name != "ANSIBLE_CONFIG"},
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
                "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
                "ANSIBLE_CACHE_PLUGIN_CONNECTION": "./facts",
            },
        )

    def __enter__(self) -> Checker:
        """Return it."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """End it."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(30)
        self._server.stdout.close()

    def ask(
        self,
        folder: Path,
        inventory: Mapping[str, Any] | str,
        files: Mapping[str, str] | None = None,
        facts: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        kind: str = "playbook",
    ) -> Answer:
        """Run the check on an inventory in ``folder``, with ``files`` beside it, and ``facts`` of hosts as known.

        Its ``kind`` is the whole playbook, or its task alone (check_server.py). Of the ``files``, ``wrap.yml`` is a
        playbook that is run in place of the check's own, and ``more.yml`` is what ``-e`` hands over.
        """
        # YAML, whose keys may be other than text. An inventory that is text is written as it is.
        text = inventory if isinstance(inventory, str) else yaml.dump(inventory, Dumper=_Dumper, sort_keys=False)
        (folder / "hosts.yml").write_text(text)
        cached: dict[str, str] = {}
        for host, own in (facts or {}).items():
            content = json.dumps({f"ansible_{key}": value for key, value in own.items()})
            # As ansible-core 2.18 keeps them, and as later ones do.
            cached |= {f"facts/{host}": content, f"facts/s1_{host}": json.dumps({"__payload__": content})}
        for name, text in {**cached, **(files or {})}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(f"{kind} {folder}\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        return Answer(code, (folder / "said.txt").read_text())


def laid_over_the_shop(entry: Mapping[str, Any]) -> dict[str, Any] | str:
    """Return the inventory of a table's entry.

    Arguments:
        entry: ``vars`` over those of the shop and ``without`` some of them; ``groups`` with the hosts that differ;
            ``group_vars`` and ``host_vars``; or ``inventory``, all of its text.
    """
    if "inventory" in entry:
        return str(entry["inventory"])
    variables = {**SHOP, **(entry.get("vars") or {})}
    for name in entry.get("without") or ():
        del variables[name]
    # One server has nobody to watch it.
    members = {**dict.fromkeys(GROUPS, (HOST,)), "sentinel": (), **(entry.get("groups") or {})}
    inventory: dict[str, Any] = {"all": {"vars": variables, "hosts": entry.get("host_vars") or {}}}
    for group, hosts in members.items():
        own = (entry.get("group_vars") or {}).get(group) or {}
        inventory[group] = {"hosts": dict.fromkeys(hosts), "vars": own}
    return inventory
