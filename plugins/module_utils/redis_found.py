# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Redis and Valkey on a host before the role changes anything: the data, and how the existing server stores them.

Of a server that somebody else set up the settings are read that it was started with: the command line of its unit, the
file named there, what that includes. A server that runs is asked itself as well (CONFIG GET), since its settings may
have been changed since. Nothing here changes anything.

Facts used here (the comments of redis.conf, Redis 7.0 to 8.0 and Valkey 8.1): a setting that is given later wins, and
arguments after the file win over it; ``save`` lines add up and ``save ""`` clears them; without any there are three
save points; the log of writes was the single file ``appendfilename`` in ``dir`` until Redis 6, and has been in
``appenddirname`` since 7.0, which takes a single file over by itself when it starts with ``appendonly yes``.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import (
    ENGINES,
    Client,
    ServerError,
    engine_names,
)
from ansible_collections.celeryops.stack.plugins.module_utils.text_files import text_of

#: Runs a command and returns what it prints; an empty text when it fails.
Run = Callable[[Sequence[str]], str]

DEFAULTS = {
    "dir": ".",
    "dbfilename": "dump.rdb",
    "appendonly": "no",
    "appendfilename": "appendonly.aof",
    "appenddirname": "appendonlydir",
    "port": "6379",
    "unixsocket": "",
    "requirepass": "",
    "bind": "127.0.0.1",
    "replicaof": "",
}
#: Names of before Redis 5.
_ALIASES = {"slaveof": "replicaof"}
_SAVES = "3600 1 300 100 60 10000"
_KEYSPACE = re.compile(r"^db(\d+):keys=(\d+),expires=(\d+),avg_ttl=(\d+)", re.MULTILINE)
#: What a server's own state says of its primary; none of one that is the primary itself (Redis 7.0 to 8.0, Valkey 9.1).
_REPLICA_OF = re.compile(r"^(?:replicaof|slaveof)[ \t]+(\S+[ \t]+\d+)", re.MULTILINE)
#: How deep files may include others.
_DEPTH = 8


def found(run: Run) -> dict[str, Any]:
    """Return what the host holds, per engine: ``holdings``, ``server`` and the drop-ins that undo the role's."""
    return {engine: {**holdings(engine), "server": server(engine, run)} for engine in ENGINES}


def holdings(engine: str) -> dict[str, Any]:
    """Return what the host holds of ``engine`` where the role has it (see ``redis_engine.refusal``)."""
    names = engine_names(engine)
    data = names["data_dir"]
    wants = glob.glob(f"/etc/systemd/system/*.wants/{names['unit']}")
    files = [f"{data}/dump.rdb", *sorted(glob.glob(f"{data}/appendonlydir/*.aof.*.base.*")), f"{data}/appendonly.aof"]
    return {
        "enabled": bool(wants),
        "managed": os.path.exists(names["drop_in"]),
        "established": os.path.exists(names["state"]),
        "replicated": os.path.exists(names["replication"]),
        "replica_of": " ".join(_REPLICA_OF.findall(text_of(names["state"]))[-1:]),
        "files": {path: _header(path) for path in files if os.path.isfile(path) and os.path.getsize(path) > 0},
        "overrides": _overrides(names["drop_in_dir"], os.path.basename(names["drop_in"])),
    }


def server(engine: str, run: Run) -> dict[str, Any]:
    """Return how a server that this role has not set up keeps its data; empty when there is none.

    Keys: ``running``; ``source``, the file its settings come from; ``appendonly``, whether the log of writes counts;
    ``saves``, whether it writes a snapshot when it stops; ``snapshot``, where; ``saved``, whether there is one;
    ``log``, where its log of writes is, empty without one; ``stale_snapshot``, whether the log is newer than the
    snapshot; ``keys``, how many it has now, -1 when it does not say; ``databases``, up to which number it has any;
    ``modules``, the files of those that it loads; ``replica_of``, whose replica it is.
    """
    names = engine_names(engine)
    if os.path.exists(names["state"]) or not os.path.exists(names["server"]):
        return {}
    shown = run(["systemctl", "show", "--property=ExecStart,ActiveState", "--", names["unit"]])
    running = "ActiveState=active" in shown
    argv = _argv(engine, shown)
    settings = effective(argv)
    keys, databases = -1, 0
    if running:
        told, keys, databases = ask(settings)
        settings = {**settings, **told}
    folder = os.path.join("/", settings["dir"])
    snapshot = os.path.join(folder, settings["dbfilename"])
    log = _log(folder, settings)
    return {
        "running": running,
        "source": next((word for word in argv[1:2] if word.startswith("/")), names["unit"]),
        "appendonly": settings["appendonly"] == "yes",
        "saves": bool(settings["save"].strip()),
        "snapshot": _place(snapshot, names["data_dir"]),
        "saved": bool(_size(snapshot)),
        "log": _place(log, names["data_dir"]) if log else "",
        "stale_snapshot": bool(log) and _newest(log) > _newest(snapshot),
        "keys": keys,
        "databases": databases,
        "modules": settings["loadmodule"].splitlines(),
        "replica_of": " ".join(settings["replicaof"].split()).removeprefix("no one"),
    }


def has_data(holds: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a host has data of an engine, as far as can be seen without a password.

    Arguments:
        holds: what ``holdings`` returned.
        other: what ``server`` returned; a running one that does not say what it has, may have something.
    """
    in_memory = bool(other) and other["running"] and other["keys"] != 0
    return bool(holds.get("files")) or bool(other and (other["saved"] or other["log"] or in_memory))


def started_with(shown: str) -> list[str]:
    """Return the last command line of ``ExecStart`` as systemctl show prints it (``argv[]=... ;``)."""
    lines = re.findall(r"argv\[\]=(.*?) ; ignore_errors=", shown)
    return str(lines[-1]).split() if lines else []


def effective(argv: Sequence[str], read: Callable[[str], str] | None = None) -> dict[str, str]:
    """Return the settings that matter here of a server with this command line.

    ``save`` is one text, and ``loadmodule`` a file on each line.

    Arguments:
        argv: the program, a file unless the next word is an option, and options, each with its values behind it.
        read: returns the text of a file; an empty one for a file that cannot be read.
    """
    read = read or text_of
    words = list(argv[1:])
    lines: list[list[str]] = []
    if words and not words[0].startswith("--"):
        lines += _lines(words.pop(0), read, _DEPTH)
    for word in words:
        if word.startswith("--"):
            lines.append([word[2:]])
        elif lines:
            lines[-1].append(word)
    settings = dict(DEFAULTS)
    saves: list[str] | None = None
    modules = []
    for name, *values in _expanded(lines, read, _DEPTH):
        key = _ALIASES.get(name.lower(), name.lower())
        if key == "loadmodule":
            modules += values[:1]
        elif key == "save":
            text = " ".join(values).strip("\"' ")
            saves = [] if not text else [*(saves or []), text]
        elif key in settings and values:
            settings[key] = " ".join(values)
    settings["save"] = _SAVES if saves is None else " ".join(saves)
    settings["loadmodule"] = "\n".join(modules)
    return settings


def _expanded(lines: Iterable[list[str]], read: Callable[[str], str], depth: int) -> Iterable[list[str]]:
    """Return lines with those of included files in their place."""
    for line in lines:
        if line[0].lower() == "include" and len(line) > 1:
            for path in sorted(glob.glob(line[1])) or [line[1]]:
                yield from _lines(path, read, depth - 1)
        else:
            yield line


def _lines(path: str, read: Callable[[str], str], depth: int) -> list[list[str]]:
    """Return the settings of a file, each as its words."""
    if depth <= 0:
        return []
    lines = []
    for text in read(path).splitlines():
        stripped = text.strip()
        if stripped and not stripped.startswith("#"):
            try:
                words = shlex.split(stripped)
            except ValueError:
                words = stripped.split()
            lines.append(words)
    return list(_expanded(lines, read, depth))


def databases(engine: str, run: Run) -> dict[str, dict[str, int]] | None:
    """Return what the databases of a running server hold that this role has not set up; None when it does not say."""
    shown = run(["systemctl", "show", "--property=ExecStart,ActiveState", "--", engine_names(engine)["unit"]])
    if "ActiveState=active" not in shown:
        return None
    settings = effective(_argv(engine, shown))
    try:
        with _connected(settings) as client:
            return keyspace(client.call("INFO", "keyspace"))
    except (OSError, ValueError, ServerError):
        return None


def hand_made(engine: str, run: Run) -> str:
    """Return the file by which a server was set up that this role has not; empty when it is as the package has it.

    dpkg knows the MD5 of a configuration file as it came (dpkg-query(1), ``Conffiles``).
    """
    path = str(server(engine, run).get("source", ""))
    try:
        with open(path, "rb") as stream:
            digest = hashlib.md5(stream.read(), usedforsecurity=False).hexdigest()
    except OSError:
        return ""
    told = run(["dpkg-query", "--show", "--showformat=${Conffiles}\n", f"{engine}-server"])
    return "" if [path, digest] in [line.split()[:2] for line in told.splitlines()] else path


def keyspace(text: str) -> dict[str, dict[str, int]]:
    """Return number of a database -> ``keys``, ``expires``, ``ttl`` (in milliseconds) from ``INFO keyspace``."""
    return {
        number: {"keys": int(keys), "expires": int(expires), "ttl": int(ttl)}
        for number, keys, expires, ttl in _KEYSPACE.findall(text)
    }


def _argv(engine: str, shown: str) -> list[str]:
    """Return the command line of the engine's server as it was before this role came."""
    names = engine_names(engine)
    packaged = [names["server"], f"/etc/{engine}/{engine}.conf"]
    argv = started_with(shown) or packaged
    # With this role's own it is an aborted first run: what the package has is what was there before.
    return packaged if names["state"] in argv else argv


def _connected(settings: Mapping[str, str]) -> Client:
    """Return a client of a server with these settings that is logged in."""
    client = Client(_address(settings), timeout=3)
    if settings["requirepass"]:
        client.call("AUTH", settings["requirepass"])
    return client


def ask(settings: Mapping[str, str]) -> tuple[dict[str, str], int, int]:
    """Return what a running server says: settings, how many keys, in how many databases; {}, -1, 0 if it does not.

    Arguments:
        settings: how it was started; its password is in there as well.
    """
    told: dict[str, str] = {}
    try:
        with _connected(settings) as client:
            held = keyspace(client.call("INFO", "keyspace"))
            for name in ("dir", "dbfilename", "appendonly", "appendfilename", "appenddirname", "save", "replicaof"):
                answer = client.call("CONFIG", "GET", name)
                if answer:
                    told[name] = answer[1]
    except ServerError:
        return told, -1, 0
    except (OSError, ValueError):
        return {}, -1, 0
    keys = sum(database["keys"] for database in held.values())
    return told, keys, max((int(number) for number in held), default=-1) + 1


def _address(settings: Mapping[str, str]) -> str | tuple[str, int]:
    """Return where a server listens: its socket, else the first address that it binds; loopback for all of them."""
    if settings["unixsocket"]:
        return settings["unixsocket"]
    first = next(iter(settings["bind"].split()), "").lstrip("-")
    everywhere = not first.strip("0.:*")
    return ("127.0.0.1" if everywhere else first, int(settings["port"]))


def _log(folder: str, settings: Mapping[str, str]) -> str:
    """Return where the log of writes is, if there is one with data in it.

    That is a directory, a file, or the pattern of the files in the directory: they begin with ``appendfilename``, and
    where that is not the usual name, a server with the usual one would not read them.
    """
    name = settings["appendfilename"]
    directory, single = os.path.join(folder, settings["appenddirname"]), os.path.join(folder, name)
    pattern = f"{directory}/{name}.*"
    if _size(pattern):
        return directory if name == DEFAULTS["appendfilename"] else pattern
    return single if _size(single) else ""


def _place(path: str, data: str) -> str:
    """Return a path without links on the way, but in the directory ``data`` by the name that this has here."""
    real, own = os.path.realpath(path), os.path.realpath(data)
    return data + real[len(own) :] if real.startswith(f"{own}/") else real


def _files(path: str) -> list[str]:
    """Return a file, or those with data of a directory, or of a pattern, with a log of writes."""
    entries = glob.glob(f"{glob.escape(path)}/*" if os.path.isdir(path) else path)
    return [entry for entry in entries if os.path.isfile(entry) and not entry.endswith(".manifest")]


def _size(path: str) -> int:
    return sum(os.path.getsize(entry) for entry in _files(path))


def _newest(path: str) -> float:
    return max((os.path.getmtime(entry) for entry in _files(path)), default=0.0)


def _overrides(folder: str, own: str) -> list[str]:
    """Return the drop-ins that are read after the role's own and say what to start."""
    starts = re.compile(r"^\s*ExecStart\s*=", re.MULTILINE)
    later = [path for path in sorted(glob.glob(f"{folder}/*.conf")) if os.path.basename(path) > own]
    return [path for path in later if starts.search(text_of(path))]


def _header(path: str) -> str:
    """Return the first nine characters of an RDB file or of an AOF with an RDB preamble; "" for a plain AOF."""
    with open(path, "rb") as stream:
        head = stream.read(9).decode("ascii", errors="replace")
    return head if head.startswith(("REDIS", "VALKEY")) or path.endswith(".rdb") else ""
