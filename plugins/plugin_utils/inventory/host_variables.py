# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of all hosts of an inventory, evaluated once for all similar hosts.

Fifty workers mostly differ only in name and address. To template and plan each of them again would make a check take
fifty times as long as necessary, and nobody runs a slow check.
"""

from __future__ import annotations

import json
import re
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from types import MappingProxyType
from typing import Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.this_run import without_stale
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import OURS

#: The facts that plans look at. Hosts that differ in others are alike.
FACTS = (
    "celeryops_disks",
    "celeryops_rabbitmq",
    "celeryops_redis",
    "distribution",
    "distribution_major_version",
    "distribution_release",
    "hostname",
    "memtotal_mb",
    "nodename",
    "os_family",
    "processor_vcpus",
    "service_mgr",
)
#: What the roles read: their own variables, and what joins them.
_SHARED = ("celeryops_", "__celeryops_")
_OURS = (*OURS, "__celeryops_")
#: A template that says one of these may mean something else on each host, or reads what its text does not name.
_ASKS_FOR_THE_HOST = re.compile(
    r"\b(inventory_hostname\w*|group_names|groups|hostvars|play_hosts|vars|varnames|template|include|import|ansible_\w+)\b"
)
_TEMPLATE = re.compile(r"\{[{%].*?[%}]\}", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_]\w*")

Template = Callable[[Mapping[str, Any], Any], Any]


class HostVariables:
    """What each host's variables say.

    Arguments:
        raw: returns the untemplated variables of a host.
        template: works out a value, given the variables that it may use.
        joins: names of variables that join the roles, the same on every host; who asks what alike hosts are knows what
            they come to.
    """

    def __init__(
        self, raw: Callable[[str], Mapping[str, Any]], template: Template, joins: Set[str] = frozenset()
    ) -> None:
        self._raw = raw
        self._joins = joins
        self._template = template
        self._hosts: dict[str, Mapping[str, Any]] = {}
        self._kinds: dict[tuple[str, str], str] = {}
        self._said: dict[int, tuple[Any, str, frozenset[str], bool]] = {}
        self._values: dict[tuple[str, str], Any] = {}

    def raw(self, host: str) -> Mapping[str, Any]:
        """Return the untemplated variables of ``host``."""
        if host not in self._hosts:
            self._hosts[host] = self._raw(host)
        return self._hosts[host]

    def facts(self, host: str) -> dict[str, Any]:
        """Return what is known of the machine, as far as a plan may ask; empty before facts were gathered.

        What a host holds is told only when this run has looked: a cache may say what was mended since.
        """
        known = without_stale(self.raw(host).get("ansible_facts"))
        return {name: known[name] for name in FACTS if name in known}

    def kind(self, host: str, role: str = "", defaults: Mapping[str, Any] = MappingProxyType({})) -> str:
        """Return a text that is equal for hosts whose variables mean the same to the roles, facts left out.

        Only the roles' own variables count, and what their templates name, however far that leads: that each host has
        a number for some other tool makes none of them different here.

        Arguments:
            host: of the inventory.
            role: the one that is planned; all of them without it.
            defaults: of this role. What they mean is the same for all hosts, what they name may not be.
        """
        if (host, role) not in self._kinds:
            raw = self.raw(host)
            # By default Ansible makes a variable of each fact; facts are compared by themselves.
            others = {*(raw.get("ansible_facts") or {}), *self._joins}
            prefixes = (f"{role}_", *_SHARED) if role else _OURS
            ahead = [name for name in raw if str(name).startswith(prefixes) and name not in others]
            for default in defaults.values():
                ahead += self._meaning(default)[1]
            self._kinds[host, role] = self._told(host, raw, ahead, self._joins)
        return self._kinds[host, role]

    def meaning(self, host: str, name: str, defaults: Mapping[str, Any]) -> str:
        """Return a text that is equal for hosts on which a variable means the same, facts left out.

        Arguments:
            host: of the inventory.
            name: the variable.
            defaults: of the role that reads it, which count where the host has no value.
        """
        return self._told(host, ChainMap(self.raw(host), defaults), [name], self._joins)  # type: ignore[arg-type]

    def _told(self, host: str, known: Mapping[str, Any], names: Iterable[str], joins: Set[str]) -> str:
        """Return what variables say and what their templates name say, with the host where one of them asks for it.

        Arguments:
            host: whose they are.
            known: untemplated variables.
            names: of the variables.
            joins: names that mean the same on each host that is compared; only what they name may differ.
        """
        ahead = list(names)
        found: dict[str, str] = {}
        asks = False
        while ahead:
            name = ahead.pop()
            # What a host is and who the others are is no value to read: a template that asks for it says so.
            if name in found or name not in known or _ASKS_FOR_THE_HOST.fullmatch(name):
                continue
            text, mentioned, asking = self._meaning(known[name])
            found[name] = "" if name in joins else text
            asks = asks or (asking and name not in joins)
            ahead += mentioned
        text = "\n".join(f"{name}: {found[name]}" for name in sorted(found) if name not in joins)
        return f"{host}: {text}" if asks else text

    def _meaning(self, value: Any) -> tuple[str, frozenset[str], bool]:
        """Return a value as text, the words in its templates, and whether one of them asks for the host."""
        # What many hosts share, a fleet's classes for instance, is read once. The value is kept: so is its identity.
        if id(value) not in self._said:
            templates = [template for text in texts(value) for template in _TEMPLATE.findall(text)]
            words = frozenset(word for template in templates for word in _WORD.findall(template))
            asks = any(_ASKS_FOR_THE_HOST.search(template) for template in templates)
            self._said[id(value)] = (value, _written(value), words, asks)
        return self._said[id(value)][1:]

    def get(self, host: str, name: str, default: Any = None) -> Any:
        """Return one variable of ``host``, templated; ``default`` when it is not set."""
        raw = self.raw(host)
        if name not in raw:
            return default
        if not name.startswith(_OURS):
            # Hosts of one kind may differ in it.
            return self._template(raw, raw[name])
        key = (name, self._told(host, raw, [name], frozenset()))
        if key not in self._values:
            self._values[key] = self._template(raw, raw[name])
        return self._values[key]


def texts(value: Any) -> Iterator[str]:
    """Yield the texts in a value, those of keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from texts(key)
            yield from texts(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from texts(entry)


def _written(value: Any) -> str:
    """Return a value as text, the same for the same content. YAML's keys may be of any kind, and of several at once."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(sorted(f"{_written(key)}: {_written(entry)}" for key, entry in value.items())) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_written, value)) + "]"
    return json.dumps(value, default=_opaque)


def _opaque(value: object) -> str:
    """Stand in for what JSON does not know, such as a vaulted text: alike when it is the same object."""
    return f"{type(value).__name__} {id(value)}"
