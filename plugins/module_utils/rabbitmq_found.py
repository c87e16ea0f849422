# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""What a host holds of RabbitMQ before the role changes anything: whose data, under which node's name, which plugins.

A node's data belong to its name: they are in a directory of that name below a base, and a node of another name starts
empty beside them. Nothing here changes anything.

Facts used here: variables of the server's environment win over those of rabbitmq-env.conf, a piece of shell whose names
may do without ``RABBITMQ_`` (rabbit_env.erl, 3.10 to 4.3); a name without a host gets the host's own, up to its first
dot unless USE_LONGNAME is true; ``cluster_nodes.config`` in a node's directory names the nodes of its cluster.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

#: Runs a command and returns what it prints; an empty text when it fails.
Run = Callable[[Sequence[str]], str]

UNIT = "rabbitmq-server.service"
SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
CONFIG_DIR = "/etc/rabbitmq"
BASE = "/var/lib/rabbitmq/mnesia"
#: What stands in the first line of what this role wrote.
MARKER = "Managed by celeryops.stack"

_NAME = re.compile(r"(?:RABBITMQ_)?([A-Z][A-Z_]*)")
_DIRECTORY = re.compile(r"[^@/]+@[^@/]+")
#: What the server itself puts beside a node's directory (rabbit_upgrade.erl, rabbit_plugins.erl). Any other copy of one
#: may be a node's whose host is called so.
_NOT_A_NODE = ("-plugins-expand", "-upgrade-backup")
_QUOTED = re.compile(r"'?([A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+)'?")


def found(hostname: str, fqdn: str, run: Run) -> dict[str, Any]:
    """Return what the host holds; empty without any trace of RabbitMQ.

    Keys: ``nodes``, the names whose data are there; ``node``, the name that is configured, empty where the default is;
    ``forced``, the name that the unit's environment says, which wins over any file; ``base`` and ``directory``, where
    rabbitmq-env.conf has the data, empty for the default; ``data``, where they are; ``elsewhere``, the names whose data
    are in the default place while the settings lead to one without any; ``plugins``, what is enabled;
    ``managed``, whether rabbitmq-env.conf is this role's.

    Arguments:
        hostname: the host's name up to the first dot.
        fqdn: the host's whole name.
        run: asks systemd.
    """
    text = _read(f"{CONFIG_DIR}/rabbitmq-env.conf")
    installed = os.path.exists(SERVER)
    shown = run(["systemctl", "show", "--property=Environment,EnvironmentFiles", "--", UNIT]) if installed else ""
    outer = environment(shown, _read)
    inner = shell_variables(_read(outer.get("CONF_ENV_FILE") or "") or text)
    both = {**inner, **outer}
    base = both.get("MNESIA_BASE") or BASE
    directory = both.get("MNESIA_DIR") or ""
    names = [directory_node(directory, _read)] if directory else nodes(base)
    if not installed and not any(names) and not nodes(BASE):
        return {}
    long = both.get("USE_LONGNAME") == "true"
    return {
        "nodes": [name for name in names if name],
        "node": _whole(both.get("NODENAME", ""), fqdn if long else hostname),
        "forced": _whole(outer.get("NODENAME", ""), fqdn if long else hostname),
        "base": "" if "MNESIA_BASE" in outer else inner.get("MNESIA_BASE", ""),
        "directory": "" if "MNESIA_DIR" in outer else inner.get("MNESIA_DIR", ""),
        "data": directory or base,
        "elsewhere": [] if any(names) or (directory or base) == BASE else nodes(BASE),
        "plugins": plugins(_read(both.get("ENABLED_PLUGINS_FILE") or f"{CONFIG_DIR}/enabled_plugins")),
        "managed": MARKER in text,
    }


def shell_variables(text: str) -> dict[str, str]:
    """Return the variables that a piece of shell sets, without ``RABBITMQ_``; what has to be worked out is left out."""
    variables = {}
    for line in text.splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue
        for word in words[1:] if words[:1] == ["export"] else words[:1]:
            name, sign, value = word.partition("=")
            match = _NAME.fullmatch(name)
            if match and sign and not re.search(r"[$`]", value):
                variables[match[1]] = value
    return variables


def environment(shown: str, read: Callable[[str], str]) -> dict[str, str]:
    """Return RabbitMQ's variables in the environment of a unit, without ``RABBITMQ_``.

    Arguments:
        shown: ``Environment`` and ``EnvironmentFiles`` as systemctl show prints them.
        read: returns the text of a file; an empty one for a file that cannot be read.
    """
    variables: dict[str, str] = {}
    for line in shown.splitlines():
        if line.startswith("Environment="):
            try:
                words = shlex.split(line.partition("=")[2])
            except ValueError:
                words = []
            pairs = (word.partition("=") for word in words)
            variables.update({name[9:]: value for name, _, value in pairs if name.startswith("RABBITMQ_")})
    for line in shown.splitlines():
        if line.startswith("EnvironmentFiles="):
            path = line.partition("=")[2].partition(" (ignore_errors=")[0]
            for entry in map(str.strip, read(path).splitlines()):
                name, sign, value = entry.partition("=")
                if sign and name.startswith("RABBITMQ_"):
                    variables[name[9:]] = value.strip("\"' ")
    return variables


def nodes(base: str) -> list[str]:
    """Return the names of the nodes that have data below ``base``."""
    try:
        entries = sorted(os.listdir(base))
    except OSError:
        return []
    return [
        name
        for name in entries
        if _DIRECTORY.fullmatch(name) and not name.endswith(_NOT_A_NODE) and _filled(os.path.join(base, name))
    ]


def directory_node(directory: str, read: Callable[[str], str]) -> str:
    """Return whose data a directory of any name has, empty when it has none or does not say."""
    match = _QUOTED.search(read(os.path.join(directory, "cluster_nodes.config")))
    return match[1] if match else ""


def plugins(text: str) -> list[str]:
    """Return what a file of enabled plugins, an Erlang term, names."""
    inside = re.sub(r"%.*", "", text).partition("[")[2].partition("]")[0]
    return [name for name in (part.strip().strip("'") for part in inside.split(",")) if name]


def _whole(name: str, host: str) -> str:
    return f"{name}@{host}" if name and "@" not in name else name


def _filled(path: str) -> bool:
    try:
        return bool(os.listdir(path))
    except OSError:
        return False


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""
