# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RabbitMQ on a host before the role changes anything: data, their node name, plugins.

A node's data belong to its name: they are in a directory of that name below a base, and a node of another name starts
empty beside them. Nothing here changes anything.

Facts used here: variables of the server's environment win over those of rabbitmq-env.conf, a piece of shell that the
server runs as its own user, and whose names may do without ``RABBITMQ_`` (rabbit_env.erl, 3.10 to 4.3); a name without
a host gets the host's own, up to its first dot unless USE_LONGNAME is true; ``cluster_nodes.config`` in a node's
directory names the nodes of its cluster while Mnesia has the tables. Quorum queues are below ``quorum``, in a directory
of the node's name, and streams are in ``stream``, unless the configuration says otherwise (``ra_env:data_dir/0``).
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_series import installed_version, written_by
from ansible_collections.celeryops.stack.plugins.module_utils.text_files import entries_of, text_of

#: Runs a command and returns what it prints; an empty text when it fails.
Run = Callable[[Sequence[str]], str]

UNIT = "rabbitmq-server.service"
SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
VERSIONS = "/usr/lib/rabbitmq/lib"
CONFIG_DIR = "/etc/rabbitmq"
BASE = "/var/lib/rabbitmq/mnesia"
#: What stands in the first line of what this role wrote.
MARKER = "Managed by celeryops.stack"

#: What matters here of the environment.
_VARIABLES = (
    "NODENAME", "USE_LONGNAME", "MNESIA_BASE", "MNESIA_DIR", "QUORUM_DIR", "STREAM_DIR", "CONFIG_FILE",
    "ENABLED_PLUGINS_FILE",
)  # fmt: skip
#: Runs the file $1 as the server does, $2 being the default of MNESIA_BASE, and prints what further variables are then.
#: (In a command's words Ansible puts in its own environment: nothing there is called __name.)
_SHELL = r"""
MNESIA_BASE=$2
. "$1" >/dev/null 2>&1
shift 2
for __name; do eval "printf '%s\n' \"$__name=\${RABBITMQ_$__name-\$$__name}\""; done
"""
#: Variables that say where data are, by the names that they have here.
PLACES = {"base": "MNESIA_BASE", "directory": "MNESIA_DIR", "quorum": "QUORUM_DIR", "stream": "STREAM_DIR"}
#: Setting of rabbitmq.conf -> the variable that says the same.
_STORES = {"raft.data_dir": "QUORUM_DIR", "stream.data_dir": "STREAM_DIR"}
#: Variables of a unit that lead the server to other files than this role's -> which of the role's.
_LEADING = {
    "CONF_ENV_FILE": "rabbitmq-env.conf",
    "CONFIG_FILE": "rabbitmq.conf",
    "ENABLED_PLUGINS_FILE": "enabled_plugins",
}
_DIRECTORY = re.compile(r"[^@/]+@[^@/]+")
#: What the server itself puts beside a node's directory (rabbit_upgrade.erl, rabbit_plugins.erl). Any other copy of one
#: may be a node's whose host is called so.
_NOT_A_NODE = ("-plugins-expand", "-upgrade-backup")
_QUOTED = re.compile(r"'?([A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+)'?")


def found(hostname: str, fqdn: str, run: Run) -> dict[str, Any]:
    """Return what the host holds; empty without any trace of RabbitMQ.

    Keys: ``nodes``, the names whose data are there; ``node``, the name that is configured, empty where the default is;
    ``forced``, the name that the unit's environment says, which wins over any file; ``base``, ``directory``,
    ``quorum`` and ``stream``, where rabbitmq-env.conf has the data, empty for the default; ``data``, where they are;
    ``real``, all places of data without links; ``elsewhere``, the names whose data are in the default place while the
    settings lead to one without any; ``stores``, setting -> where queues of a kind are ``now``, and where the
    environment says (``kept``), both empty for the default, of those that are there; ``peers``, node -> the others of
    its cluster; ``configured``, the nodes that the configuration names where no file tells of members, as with Khepri
    (RabbitMQ 4.3); ``leading``, variable of the unit -> the file to which it leads (``now``) and the role's (``own``);
    ``plugins``, what is enabled; ``managed``, whether rabbitmq-env.conf is this role's; ``version``, what is installed;
    ``written``, node -> the series whose feature flags it has, without those that do not tell.

    Arguments:
        hostname: the host's name up to the first dot.
        fqdn: the host's whole name.
        run: runs a command.
    """
    text = text_of(f"{CONFIG_DIR}/rabbitmq-env.conf")
    installed = os.path.exists(SERVER)
    shown = run(["systemctl", "show", "--property=Environment,EnvironmentFiles", "--", UNIT]) if installed else ""
    outer = environment(shown, text_of)
    inner = shell_variables(outer.get("CONF_ENV_FILE") or f"{CONFIG_DIR}/rabbitmq-env.conf", run)
    both = {**inner, **outer}
    host = fqdn if both.get("USE_LONGNAME") == "true" else hostname
    base = both.get("MNESIA_BASE") or BASE
    directory = both.get("MNESIA_DIR") or ""
    node = _whole(both.get("NODENAME", ""), host)
    folders = {name: os.path.join(base, name) for name in nodes(base)}
    if directory:
        names = members(directory, text_of)
        # One that does not say whose it is, and one of a cluster, is of the node that is configured.
        own = node or f"rabbit@{host}"
        folders = {own if own in names or not names else names[0]: directory} if entries_of(directory) else {}
    if not installed and not folders and not nodes(BASE):
        return {}
    config = both.get("CONFIG_FILE") or f"{CONFIG_DIR}/rabbitmq.conf"
    stores = [both.get(variable, "") for variable in _STORES.values()]
    settings = _settings(text_of(config if config.endswith(".conf") else f"{config}.conf"))
    return {
        "nodes": list(folders),
        "node": node,
        "forced": _whole(outer.get("NODENAME", ""), host),
        **{key: "" if name in outer else inner.get(name, "") for key, name in PLACES.items()},
        "data": directory or base,
        "real": sorted({os.path.realpath(path) for path in (directory or base, *folders.values(), *stores) if path}),
        "elsewhere": [] if folders or (directory or base) == BASE else nodes(BASE),
        "stores": _stores(folders, settings, both),
        "peers": {
            name: peers
            for name, path in folders.items()
            if (peers := [member for member in members(path, text_of) if member != name])
        },
        "configured": [] if any(members(path, text_of) for path in folders.values()) else _discovered(settings),
        "leading": {
            f"RABBITMQ_{name}": {"now": outer[name], "own": f"{CONFIG_DIR}/{file}"}
            for name, file in _LEADING.items()
            if name in outer and outer[name].removesuffix(".conf") != f"{CONFIG_DIR}/{file}".removesuffix(".conf")
        },
        "version": installed_version(entries_of(VERSIONS)),
        # Beside a node's directory, whatever that is called (rabbit_env.erl).
        "written": {
            name: series for name, path in folders.items() if (series := written_by(text_of(f"{path}-feature_flags")))
        },
        "plugins": plugins(text_of(both.get("ENABLED_PLUGINS_FILE") or f"{CONFIG_DIR}/enabled_plugins")),
        "managed": MARKER in text,
    }


def shell_variables(path: str, run: Run) -> dict[str, str]:
    """Return the variables that a piece of shell sets, of those that matter here, without ``RABBITMQ_``.

    It is run, as everything of RabbitMQ does that reads it, and as the server's own user.
    """
    if not os.path.exists(path):
        return {}
    try:
        user = pwd.getpwnam("rabbitmq")
    except KeyError:
        user = pwd.getpwnam("nobody")
    who = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
    told = run([*who, "sh", "-c", _SHELL, "sh", path, BASE, *_VARIABLES])
    pairs = (line.partition("=") for line in told.splitlines())
    return {name: value for name, _sign, value in pairs if value and not (name == "MNESIA_BASE" and value == BASE)}


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
            variables.update({name[9:]: value for name, _sign, value in pairs if name.startswith("RABBITMQ_")})
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
    return [
        name
        for name in entries_of(base)
        if _DIRECTORY.fullmatch(name) and not name.endswith(_NOT_A_NODE) and entries_of(os.path.join(base, name))
    ]


def members(directory: str, read: Callable[[str], str]) -> list[str]:
    """Return the nodes of the cluster of which the directory's is one; none when it has no data or does not say."""
    return list(dict.fromkeys(_QUOTED.findall(read(os.path.join(directory, "cluster_nodes.config")))))


def plugins(text: str) -> list[str]:
    """Return what a file of enabled plugins, an Erlang term, names."""
    inside = re.sub(r"%.*", "", text).partition("[")[2].partition("]")[0]
    return [name for name in (part.strip().strip("'") for part in inside.split(",")) if name]


def _settings(text: str) -> dict[str, str]:
    """Return the settings of a text in the form of rabbitmq.conf."""
    pairs = (line.partition("=") for line in text.splitlines() if not line.lstrip().startswith("#"))
    return {key.strip(): value.strip().strip("'") for key, sign, value in pairs if sign}


def _discovered(settings: Mapping[str, str]) -> list[str]:
    """Return the nodes of the cluster that a node was to join, from its settings."""
    return [value for key, value in settings.items() if key.startswith("cluster_formation.classic_config.nodes.")]


def _stores(
    folders: Mapping[str, str], settings: Mapping[str, str], variables: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Return what ``found`` says as ``stores``.

    Arguments:
        folders: node -> its directory.
        settings: what rabbitmq.conf says.
        variables: the environment.
    """
    held = {}
    for key, variable in _STORES.items():
        kept = variables.get(variable) or ""
        now = settings.get(key) or kept
        below = "quorum" if key == "raft.data_dir" else "stream"
        for name, path in folders.items():
            # Several nodes may have their quorum queues in one place.
            place = os.path.join(path, below) if not now else os.path.join(now, name if below == "quorum" else "")
            if entries_of(place):
                held[key] = {"now": now, "kept": kept}
    return held


def _whole(name: str, host: str) -> str:
    return f"{name}@{host}" if name and "@" not in name else name
