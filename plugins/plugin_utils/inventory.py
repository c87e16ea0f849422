# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""The variables of all hosts of an inventory, worked out once for all hosts that are alike.

Fifty workers mostly differ by their name and address. To template and plan each of them again would make a check take
fifty times as long as it has to, and a check that is slow is not run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

#: The facts that plans look at. Hosts that differ in others are alike.
FACTS = (
    "celeryops_disks",
    "distribution",
    "distribution_major_version",
    "distribution_release",
    "hostname",
    "memtotal_mb",
    "os_family",
    "processor_vcpus",
    "service_mgr",
)
#: What Ansible itself says of a host. It makes a difference only where a variable's text asks for it.
_MAGIC = frozenset({"group_names", "groups", "hostvars", "inventory_hostname", "inventory_hostname_short", "omit"})
_ASKS_FOR_THE_HOST = re.compile(r"\b(inventory_hostname|group_names|groups|hostvars|play_hosts|vars|ansible_\w+)\b")

Template = Callable[[Mapping[str, Any], Any], Any]


class HostVariables:
    """What each host's variables say.

    Arguments:
        raw: returns the untemplated variables of a host.
        template: works out a value, given the variables that it may use.
    """

    def __init__(self, raw: Callable[[str], Mapping[str, Any]], template: Template) -> None:
        self._raw = raw
        self._template = template
        self._hosts: dict[str, Mapping[str, Any]] = {}
        self._kinds: dict[str, str] = {}
        self._values: dict[tuple[str, str], Any] = {}

    def raw(self, host: str) -> Mapping[str, Any]:
        """Return the untemplated variables of ``host``."""
        if host not in self._hosts:
            self._hosts[host] = self._raw(host)
        return self._hosts[host]

    def facts(self, host: str) -> dict[str, Any]:
        """Return what is known of the machine, as far as a plan may ask; empty before facts were gathered."""
        known = self.raw(host).get("ansible_facts") or {}
        return {name: known[name] for name in FACTS if name in known}

    def kind(self, host: str) -> str:
        """Return a text that is equal for hosts whose variables mean the same, facts left out."""
        if host not in self._kinds:
            own = {
                str(name): value
                for name, value in self.raw(host).items()
                if name not in _MAGIC and not str(name).startswith("ansible_")
            }
            text = json.dumps(own, default=_opaque, sort_keys=True)
            templates = " ".join(re.findall(r"\{[{%].*?[%}]\}", text))
            self._kinds[host] = f"{host}: {text}" if _ASKS_FOR_THE_HOST.search(templates) else text
        return self._kinds[host]

    def get(self, host: str, name: str, default: Any = None) -> Any:
        """Return one variable of ``host``, templated; ``default`` when it is not set."""
        raw = self.raw(host)
        if name not in raw:
            return default
        if name.startswith("ansible_"):
            return self._template(raw, raw[name])
        key = (self.kind(host), name)
        if key not in self._values:
            self._values[key] = self._template(raw, raw[name])
        return self._values[key]

    def view(self, host: str, names: Iterable[str]) -> dict[str, Any]:
        """Return the variables ``names`` of ``host``, templated, without those that are not set."""
        raw = self.raw(host)
        return {name: self.get(host, name) for name in names if name in raw}


def _opaque(value: object) -> str:
    """Stand in for what JSON does not know, such as a vaulted text: alike when it is the same object."""
    return f"{type(value).__name__} {id(value)}"
