# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Redis and Valkey: what each is called on Debian, and which of them can read whose data.

Debian's two packages differ in names only: units, paths, users and directives follow one pattern. This is the only
place that knows the pattern. Pure functions and one small client; used on the control machine and on the host.
"""

from __future__ import annotations

import hashlib
import re
import socket
from typing import TYPE_CHECKING, Any, TypedDict

from ansible_collections.celeryops.stack.plugins.module_utils.paths import CONFIG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENGINES = ("redis", "valkey")
#: How a module is told which one it is, and who asks (doc_fragments/redis_engine.py).
OPTIONS: dict[str, dict[str, Any]] = {
    "engine": {"type": "str", "choices": list(ENGINES), "required": True},
    "username": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
}
#: Where others find a server or a Sentinel.
PLACE: dict[str, dict[str, Any]] = {
    "host": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
}
TITLES = {"redis": "Redis", "valkey": "Valkey"}

#: The newest RDB version of Redis that Valkey reads. Redis 7.4 went to 12 with its new licence, Valkey 8 stayed at 11,
#: and Valkey 9 writes files of its own that begin with VALKEY (valkey.io, topics/migration; rdb.h of both).
_NEWEST_SHARED_RDB = 11

_RDB_HEADER = re.compile(r"(REDIS|VALKEY)(\d+)")


class Engine(TypedDict, total=False):
    """What on a host is named after the engine."""

    engine: str
    title: str
    packages: list[str]
    unit: str
    server: str
    user: str
    group: str
    config_dir: str
    config: str
    acl: str
    acl_stamp: str
    data_script: str
    drop_in_dir: str
    drop_in: str
    data_dir: str
    log_dir: str
    run_dir: str
    state: str
    socket: str
    replication: str


def engine_names(engine: str) -> Engine:
    """Return everything on a host that is named after the engine.

    Arguments:
        engine: ``redis`` or ``valkey``.
    """
    unit = f"{engine}-server.service"
    # Not /etc/<engine>: Debian 14's package gives that and all below it to the server at every boot (the line "Z"
    # of its tmpfiles.d file, valkey 9.0).
    config, data, run = f"{CONFIG}/{engine}", f"/var/lib/{engine}", f"/run/{engine}"
    return {
        "engine": engine,
        "title": TITLES[engine],
        # procps has sysctl.
        "packages": [f"{engine}-server", f"{engine}-tools", "procps"],
        "unit": unit,
        "server": f"/usr/bin/{engine}-server",
        "user": engine,
        "group": engine,
        "config_dir": config,
        # The package's own file stays as it came: a package upgrade then has no question to ask.
        "config": f"{config}/{engine}.conf",
        "acl": f"{config}/users.acl",
        "acl_stamp": f"{config}/users.acl.loaded",
        "data_script": f"{config}/data.sh",
        "drop_in_dir": f"/etc/systemd/system/{unit}.d",
        "drop_in": f"/etc/systemd/system/{unit}.d/celeryops.conf",
        "data_dir": data,
        "log_dir": f"/var/log/{engine}",
        "run_dir": run,
        "state": f"{data}/state.conf",
        "socket": f"{run}/celeryops.sock",
        # Of a server with replicas or a primary: as whom it logs in to its primary.
        "replication": f"{config}/replication.conf",
    }


class Sentinel(TypedDict, total=False):
    """What on a host is named after the engine whose Sentinel it has."""

    engine: str
    title: str
    packages: list[str]
    unit: str
    server: str
    user: str
    group: str
    config_dir: str
    config: str
    acl: str
    peers: str
    drop_in_dir: str
    drop_in: str
    state_dir: str
    state: str


def sentinel_names(engine: str) -> Sentinel:
    """Return what on a host is named after the engine whose Sentinel it has; one form for both.

    Arguments:
        engine: ``redis`` or ``valkey``.
    """
    unit = f"{engine}-sentinel.service"
    config, state = f"{CONFIG}/sentinel", f"/var/lib/{engine}/celeryops-sentinel"
    return {
        "engine": engine,
        "title": f"{TITLES[engine]} Sentinel",
        "packages": [f"{engine}-sentinel", f"{engine}-tools"],
        "unit": unit,
        "server": f"/usr/bin/{engine}-sentinel",
        "user": engine,
        "group": engine,
        "config_dir": config,
        "config": f"{config}/sentinel.conf",
        "acl": f"{config}/users.acl",
        # As whom it logs in to the other Sentinels.
        "peers": f"{config}/peers.conf",
        "drop_in_dir": f"/etc/systemd/system/{unit}.d",
        "drop_in": f"/etc/systemd/system/{unit}.d/celeryops.conf",
        # The Sentinel writes its new state beside the old one, so the directory is its own.
        "state_dir": state,
        "state": f"{state}/state.conf",
    }


def other_engine(engine: str) -> str:
    """Return the engine that ``engine`` is not."""
    return next(name for name in ENGINES if name != engine)


def readable(engine: str, header: str) -> bool:
    """Whether ``engine`` can load a data file that begins with ``header`` (its first nine characters)."""
    match = _RDB_HEADER.match(header)
    if not match:
        return False
    if match.group(1) == "VALKEY":
        return engine == "valkey"
    return engine == "redis" or int(match.group(2)) <= _NEWEST_SHARED_RDB


def refusal(engine: str, held: Mapping[str, Mapping[str, Any]], *, start_empty: bool) -> tuple[str, str] | None:
    """Return why ``engine`` must not be set up over what the host holds and what to write, or None when it may.

    Arguments:
        engine: the engine that the variables ask for.
        held: per engine a dict with ``enabled`` (its unit starts at boot), ``managed`` (it has this role's drop-in),
            ``established`` (this role's state file is there), ``files`` (data file -> first nine characters).
        start_empty: whether the user agreed to leave the other engine's data behind.
    """
    own, other_name = held[engine], other_engine(engine)
    other = held[other_name]
    title, other_title = TITLES[engine], TITLES[other_name]
    for path, header in sorted(own["files"].items()):
        if header and not readable(engine, header):
            return (
                f"would not start: {path} is data in the format {header!r}, which {title} cannot load",
                f"{other_name}, or move that file away if nothing in it is needed",
            )
    if not leaves_behind(engine, held) or start_empty:
        return None
    files = sorted(other["files"].items())
    readers = [readable(engine, header) for _path, header in files if header]
    if not files:
        what = f"{other_title} is set up here"
    else:
        what = f"{other_title} is set up here with data ({', '.join(path for path, _header in files)})"
    if readers and all(readers):
        can = (
            f"{title} can read these files: stop {other_title}, copy them into {engine_names(engine)['data_dir']} "
            f"with {engine} as their owner, and then write redis_engine_change: start_empty for one run"
        )
    else:
        can = (
            f"{title} cannot read it: let the workers empty the queues, accept that the results of finished tasks "
            "are gone, and then write redis_engine_change: start_empty for one run"
        )
    return (
        f"is not what this host holds: {what}",
        f"{other_name} to keep everything; to change the engine: {can}",
    )


def leaves_behind(engine: str, held: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether setting up ``engine`` would leave the other engine's data behind (arguments as for ``refusal``)."""
    own, other = held[engine], held[other_engine(engine)]
    if other["managed"] and other["enabled"]:
        return True
    return not own["established"] and (other["enabled"] or bool(other["files"]))


def kernel_pending(wanted: Sequence[Mapping[str, Any]], current: Mapping[str, int]) -> list[str]:
    """Return ``key=value`` for each kernel setting that falls short.

    Arguments:
        wanted: dicts with ``key``, ``value`` and ``minimum`` (a larger value is as good).
        current: the values of those settings that this host lets us write; a container's are missing here.
    """
    pending = []
    for setting in wanted:
        now, value = current.get(setting["key"]), setting["value"]
        if now is not None and (now < value if setting["minimum"] else now != value):
            pending.append(f"{setting['key']}={value}")
    return pending


def acl_users(acl_file: bytes) -> dict[str, str]:
    """Return user -> rules of an ACL file as this role writes it (``user NAME RULES...``, one line each)."""
    lines = acl_file.decode("utf-8").splitlines()
    return {words[1]: words[2] for words in (line.split(" ", 2) for line in lines) if words[0] == "user"}


def acl_stamp(acl_file: bytes, acl_list: Sequence[str]) -> str:
    """Return what tells whether a server runs with the users of a file.

    A server rewrites the rules that it loads into a form that depends on its version, so the file cannot be compared
    with ``ACL LIST``. Both are remembered right after a load instead: while neither changes, nothing has to be done,
    and a user that somebody removed or widened by hand shows.

    Arguments:
        acl_file: the content of the ACL file.
        acl_list: the answer to ``ACL LIST`` after that file was loaded.
    """
    users = sorted(acl_users(acl_file).items())
    return "".join([f"{_listed(acl_list)}\n", *(f"{name} {_sha256(rules)}\n" for name, rules in users)])


def acl_changes(stamp: str, acl_file: bytes, acl_list: Sequence[str]) -> list[list[str]] | None:
    """Return the commands that bring a server from the users it was given last to those of its ACL file.

    ``ACL LOAD`` on Redis 7.0 closes the connections of all users, also of those that stay as they are: every worker of
    every app would lose its broker for a moment because another app came.

    Arguments:
        stamp: what ``acl_stamp`` returned after the last load; "" when there was none.
        acl_file: the content of the ACL file.
        acl_list: the answer to ``ACL LIST`` now.

    Returns:
        The commands, or None when the server does not have what it was given, so that all has to be loaded.
    """
    head, *lines = stamp.splitlines() or [""]
    if head != _listed(acl_list):
        return None
    before = dict(line.split() for line in lines)
    users = acl_users(acl_file)
    gone = [["ACL", "DELUSER", name] for name in before if name not in users]
    return gone + [
        ["ACL", "SETUSER", name, "reset", *rules.split()]
        for name, rules in users.items()
        if before.get(name) != _sha256(rules)
    ]


def _listed(acl_list: Sequence[str]) -> str:
    """Return a hash of an answer to ``ACL LIST``, whose commands Redis 7.0 puts in another order after each start."""
    return _sha256("\n".join(" ".join(sorted(line.split())) for line in acl_list))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def replication(text: str) -> dict[str, Any]:
    """Return what ``INFO replication`` says; of a server that says nothing, ``role`` is empty.

    Keys: ``role`` (``primary``, ``replica`` or empty); of a replica ``primary`` (``host`` and ``port``) and ``link``,
    whether it has the data of that and is connected to it; of a primary ``offset``, how far it has written,
    ``followers``, how many replicas are connected, and ``offsets`` of those of them that have the data.
    """
    said = dict(line.strip().split(":", 1) for line in text.splitlines() if ":" in line)
    role = {"master": "primary", "slave": "replica"}.get(said.get("role", ""), "")
    followers = [value for name, value in said.items() if re.fullmatch(r"slave\d+", name)]
    details = [dict(part.split("=", 1) for part in value.split(",") if "=" in part) for value in followers]
    primary = {"host": said.get("master_host", ""), "port": int(said.get("master_port") or 0)}
    return {
        "role": role,
        "primary": primary if role == "replica" else {},
        "link": said.get("master_link_status") == "up" and said.get("master_sync_in_progress", "0") == "0",
        "offset": int(said.get("master_repl_offset") or 0),
        "followers": int(said.get("connected_slaves") or 0),
        "offsets": [int(one.get("offset") or 0) for one in details if one.get("state") == "online"],
    }


def pairs(words: Sequence[str]) -> dict[str, str]:
    """Return an answer of Sentinel's, whose words are names and values in turn."""
    return dict(zip(words[::2], words[1::2]))  # noqa: B905 - a host with Python 3.9 has no "strict"


class ServerError(Exception):
    """The server answered with an error."""


class Client:
    """As much of the Redis protocol (RESP2) as administration needs, over a Unix socket or TCP without TLS.

    redis-cli would need the password in its environment, and Ansible puts a task's environment into the command line
    that starts the module: visible in ``/proc`` and with ``-vvv``.
    """

    def __init__(self, address: str | tuple[str, int], timeout: float = 10.0) -> None:
        """Connect to a path, or to a host and a port; raises OSError when nothing listens."""
        if isinstance(address, str):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(timeout)
            try:
                self._socket.connect(address)
            except OSError:
                self._socket.close()
                raise
        else:
            self._socket = socket.create_connection(address, timeout)
        self._stream = self._socket.makefile("rb")

    def __enter__(self) -> Client:
        """Return the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._stream.close()
        self._socket.close()

    def call(self, *words: str) -> Any:
        """Send a command and return its answer; an error becomes ``ServerError``."""
        encoded = [word.encode("utf-8", "surrogateescape") for word in words]
        self._socket.sendall(
            b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
        )
        return self._answer()

    def _answer(self) -> Any:
        line = self._stream.readline()
        if not line.endswith(b"\r\n"):
            raise OSError("the server closed the connection")
        kind, rest = line[:1], line[1:-2].decode("utf-8", "surrogateescape")
        if kind == b"-":
            raise ServerError(rest)
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if rest == "-1":
                return None
            return self._stream.read(int(rest) + 2)[:-2].decode("utf-8", "surrogateescape")
        if kind == b"*":
            return [self._answer() for _each in range(int(rest))]
        raise OSError(f"not an answer of the Redis protocol: {line!r}")
