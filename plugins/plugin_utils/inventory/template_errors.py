# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The message about a variable whose template fails, or that cannot be decrypted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.host_variables import texts
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Sentence, without_secrets

_WORD = re.compile(r"[A-Za-z_]\w*")
#: How Ansible names what a template lacks: a variable, or a key of one (ansible-core 2.18 to 2.19).
_LACKS = re.compile(r"'(?P<variable>\w+)' is undefined|has no attribute '(?P<key>[\w.-]+)'")
#: How lookups tell that there is no such file (ansible-core 2.18 to 2.21: file, template, unvault).
_NO_FILE = re.compile(
    r"""\bfile '(?P<file>[^']+)'[.:] file not found|template file (?P<template>\S+) could not be found"""
    r"""|find file matching "(?P<matching>[^"]+)\"""",
    re.IGNORECASE,
)
#: All that Ansible tells of a host that is not in the inventory (ansible-core 2.19 to 2.21).
_NO_HOST = re.compile(r"hostvars\['(?P<host>[\w.-]+)'\]")
#: How Ansible begins to tell of what Jinja cannot read (ansible-core 2.19 to 2.21, and 2.18).
_NO_TEMPLATE = re.compile(r"(syntax error in template|template error while templating string)", re.IGNORECASE)
_WRITE_A_TEMPLATE = "write one, or !unsafe in front of a text with {{, {% or {# that is not meant as one"
#: Begin as injected facts do, and are what the inventory says of the way to a host.
_NO_FACTS = re.compile(r"ansible_(host|port|user|password|connection|ssh_\w+|become\w*|python_interpreter|facts)")
#: Not followed: these are the variables of all hosts, worked out when they are looked at, and Ansible's own.
_ALL = re.compile(r"hostvars|vars|groups|ansible_\w+")
_CACHE = "write the value, or gather facts into a cache before (fact_caching in ansible.cfg)"


def failing(
    value: object, where: str, error: Exception, template: Callable[[Any], Any]
) -> Iterator[tuple[str, Exception]]:
    """Yield the places inside of a value whose templates fail, each with what it raised; else the value's own.

    Arguments:
        value: as it was written.
        where: the path to it.
        error: what its template raised.
        template: works a value out.
    """
    entries: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        entries = [(f"{where}.{key}", entry) for key, entry in value.items()]
    elif isinstance(value, (list, tuple)):
        entries = [(f"{where}[{number}]", entry) for number, entry in enumerate(value)]
    inner: list[tuple[str, Exception]] = []
    for place, entry in entries:
        try:
            template(entry)
        except Exception as own:  # A filter may raise anything.
            inner += failing(entry, place, own, template)
    yield from inner or [(where, error)]


def not_worked_out(name: str, error: Exception, variables: Mapping[str, Any], *, hidden: bool) -> Sentence:
    """Return why a variable has no value and what can be done; of one that may hold a secret only what it lacks.

    Arguments:
        name: the variable, with the path inside of it.
        error: what its template raised.
        variables: the variables of the host, as they are written.
        hidden: whether it may hold a secret.
    """
    # Where a recursion ends is not the same in every Python.
    told = first_line(error).partition(": maximum recursion depth")[0]
    locked = _locked(str(error))
    if locked:
        instead = "run with --ask-vault-pass or --vault-password-file"
        return Sentence("cannot-be-decrypted", name, NOT_SHOWN, f"cannot be decrypted: {locked}", instead)
    lacks = _LACKS.search(told)
    if lacks and _is_fact(lacks, _written(re.split(r"[.\[]", name)[0], variables)):
        reason = "needs a fact, and the check contacts no host: it knows facts only where a fact cache holds them"
        return Sentence("needs-a-fact", name, NOT_SHOWN, f"{reason} ({lacks[0]})", _CACHE)
    if not lacks and _NO_TEMPLATE.match(told):
        told = "" if hidden else f" ({told.rstrip('.')})"
        reason = f"is not a template of Jinja, or a variable in it is none{told}"
        return Sentence("not-a-template", name, NOT_SHOWN, reason, _WRITE_A_TEMPLATE)
    absent = _NO_FILE.search(told)
    if absent:
        reason = f"could not be evaluated: a lookup finds no file {next(filter(None, absent.groups()))} on this machine"
        return Sentence("no-such-file", name, NOT_SHOWN, reason, "write the path of one that is there")
    nobody = _NO_HOST.fullmatch(told)
    if nobody:
        reason = f"could not be evaluated: {nobody['host']} is not a host of the inventory"
        return Sentence("no-such-host", name, NOT_SHOWN, reason, "write the name of one")
    if hidden:
        told = lacks[0] if lacks else "the template is not shown"
    reason = f"could not be evaluated; it may use an undefined variable: {told}"
    return Sentence("cannot-be-evaluated", name, NOT_SHOWN, reason, "")


def first_line(error: Exception) -> str:
    """Return what went wrong without the excerpt of the file that Ansible adds, and without secrets."""
    # ansible-core 2.18 puts what was templated, a password perhaps, in front of the cause and behind it.
    cause = str(error).rpartition("original message: ")[2].partition(". String: ")[0]
    cause = re.sub(r"Unexpected templating type error occurred on \(.*\): ", "", cause, flags=re.DOTALL)
    return without_secrets((cause.splitlines() or [type(error).__name__])[0])


def _locked(told: str) -> str:
    """Return why Ansible Vault does not open a value, in words of our own: what it says may be anything."""
    if re.search(r"no vault secrets found", told, re.IGNORECASE):
        return "it is encrypted with Ansible Vault, and no vault password was given"
    if re.search(r"could decrypt|decryption failed|undecryptable", told, re.IGNORECASE):
        return "it is encrypted with Ansible Vault, and no vault password that was given opens it"
    return ""


def _is_fact(lacks: re.Match[str], written: str) -> bool:
    """Whether what a template lacks would be a fact: with a name of its own, or a key of ``ansible_facts``."""
    name = lacks["variable"] or lacks["key"]
    if name.startswith("ansible_"):
        return not _NO_FACTS.fullmatch(name)
    return bool(lacks["key"] and re.search(rf"\bansible_facts\W+{name}\b", written))


def _written(name: str, variables: Mapping[str, Any]) -> str:
    """Return the texts of a variable, and of those that they name, however far that leads."""
    found: dict[str, str] = {}
    ahead = [name]
    while ahead:
        name = ahead.pop()
        if name in variables and name not in found and not _ALL.fullmatch(name):
            found[name] = "\n".join(texts(variables[name]))
            ahead += _WORD.findall(found[name])
    return "\n".join(found.values())
