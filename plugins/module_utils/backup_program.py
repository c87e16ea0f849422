# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a backup of RabbitMQ's definitions, or of the data of Redis or Valkey, and deletes the oldest ones.

The roles place this file on the host, where a unit runs it as the server's own account. So it needs nothing of this
collection. It says on its output, which is the unit's journal, what it does. Anything that goes wrong ends it with 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: What a word of the command stands for: the path of the new file, and its name alone.
FILE, NAME = "{file}", "{name}"
#: A file that is being written begins with a dot and ends so.
PART = ".part"
#: Where the tools of Redis and Valkey take a password from; the unit has it from a file of root's.
LOGIN = "REDISCLI_AUTH"


class BackupError(Exception):
    """A backup that cannot be had, or cannot be used."""


class Kind(NamedTuple):
    """What is backed up.

    Arguments:
        unit: of the server.
        ending: of the files.
    """

    unit: str
    ending: str


KINDS = {
    "rabbitmq": Kind("rabbitmq-server.service", "json"),
    "redis": Kind("redis-server.service", "rdb"),
    "valkey": Kind("valkey-server.service", "rdb"),
}


def name_of(kind: str, host: str, seconds: float) -> str:
    """Return the name of a backup.

    Arguments:
        kind: of ``KINDS``.
        host: it names whose backup it is, in a store for all hosts too.
        seconds: since the epoch; of two names the later one is the greater text.
    """
    return f"{kind}-{host}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(seconds))}.{KINDS[kind].ending}"


def ours(names: Iterable[str], kind: str, host: str) -> list[str]:
    """Return the backups of this kind and host among the names of a directory, the oldest first."""
    pattern = re.compile(rf"{kind}-{re.escape(host)}-[0-9]{{8}}T[0-9]{{6}}Z\.{KINDS[kind].ending}")
    return sorted(name for name in names if pattern.fullmatch(name))


def unfinished(names: Iterable[str], kind: str, host: str) -> list[str]:
    """Return what earlier runs of this kind and host left that were ended in the middle."""
    return [
        name for name in names if ours([name[1 : -len(PART)]], kind, host) and name == f".{name[1 : -len(PART)]}{PART}"
    ]


def surplus(backups: Sequence[str], keep: int) -> list[str]:
    """Return which backups are too many: the oldest; the newest one never is."""
    return list(backups[: -max(keep, 1)])


def dump_command(kind: str, target: str, user: str, socket_path: str) -> list[str]:
    """Return the command that writes a backup to ``target``; no password is in it.

    RabbitMQ's tool has the cookie that the server's account owns. Redis sends what it would send to a replica. BGSAVE
    is not used: where the disk is full it fails, and a server whose last BGSAVE failed refuses every write
    (stop-writes-on-bgsave-error).

    Arguments:
        kind: of ``KINDS``.
        target: a path.
        user: an account of Redis that may do everything.
        socket_path: where Redis listens.
    """
    if kind == "rabbitmq":
        return ["/usr/sbin/rabbitmqctl", "--quiet", "export_definitions", target, "--format", "json"]
    return [f"/usr/bin/{kind}-cli", "-s", socket_path, "--user", user, "--rdb", target]


def flaw_of_definitions(text: str) -> str:
    """Return what is wrong with a document of RabbitMQ's definitions, if anything is."""
    try:
        document = json.loads(text)
    except ValueError as error:
        return f"is not JSON ({error})"
    missing = [
        kind for kind in ("users", "vhosts", "permissions") if not (isinstance(document, dict) and document.get(kind))
    ]
    return f"has no {' and no '.join(missing)}" if missing else ""


def upload_command(words: Sequence[str], path: str) -> list[str]:
    """Return the user's command for a file, whose path comes last if no word stands for it."""
    named = any(FILE in word for word in words)
    filled = [word.replace(FILE, path).replace(NAME, os.path.basename(path)) for word in words]
    return filled if named else [*filled, path]


def call(words: Sequence[str], *, foreign: bool = False) -> None:
    """Run a command.

    Arguments:
        words: the command.
        foreign: whether it is the user's own, which is not for Redis's password.

    Raises:
        BackupError: when it fails; what it said is in the journal.
    """
    environment = {name: value for name, value in os.environ.items() if not (foreign and name == LOGIN)}
    try:
        result = subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
        raise BackupError(f"{words[0]}: {error.strerror}") from error
    if result.returncode != 0:
        raise BackupError(f"{os.path.basename(words[0])} failed with {result.returncode}")


def verify(kind: str, path: str) -> None:
    """Raise ``BackupError`` when a backup cannot be used."""
    if kind == "rabbitmq":
        with open(path, encoding="utf-8") as stream:
            flaw = flaw_of_definitions(stream.read())
        if flaw:
            raise BackupError(f"what RabbitMQ exported {flaw}")
        return
    command = [f"/usr/bin/{kind}-check-rdb", path]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if result.returncode != 0:
        raise BackupError(
            f"{kind}-check-rdb refuses what the server sent: {result.stdout.decode(errors='replace')[-400:]}"
        )


def settle(part: str, path: str) -> None:
    """Give a finished file its name, with all of it on the disk before anything older is deleted."""
    _sync(part)
    os.replace(part, path)
    _sync(os.path.dirname(path))


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def backup(options: argparse.Namespace, host: str, seconds: float) -> str:
    """Write a backup and return its path.

    Arguments:
        options: those of ``main``.
        host: name of the host.
        seconds: since the epoch.

    Raises:
        BackupError: when there is none; nothing was deleted then.
    """
    unit = KINDS[options.kind].unit
    # RabbitMQ's tool would start a port mapper for a server that does not run, and that one listens at every address.
    if subprocess.run(["/usr/bin/systemctl", "--quiet", "is-active", unit], check=False).returncode != 0:
        raise BackupError(f"{unit} does not run")
    for name in unfinished(os.listdir(options.directory), options.kind, host):
        os.unlink(os.path.join(options.directory, name))
    name = name_of(options.kind, host, seconds)
    path, part = os.path.join(options.directory, name), os.path.join(options.directory, f".{name}{PART}")
    try:
        call(dump_command(options.kind, part, options.user, options.socket))
        verify(options.kind, part)
        os.chmod(part, 0o600)
        settle(part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise
    return path


def say(text: str, stream: TextIO) -> None:
    """Write a line into the journal at once: what the user's command says comes behind it."""
    stream.write(f"{text}\n")
    stream.flush()


def main(arguments: Sequence[str]) -> int:
    """Write a backup, delete what is too much, and hand the new file to the user's command; return the exit code.

    The old ones go before the command runs: one that has failed for weeks must not fill the disk, on which the server
    may have its data.
    """
    parser = argparse.ArgumentParser(description="Back up a server into a directory.")
    parser.add_argument("--kind", choices=sorted(KINDS), required=True)
    parser.add_argument("--directory", required=True)
    parser.add_argument("--keep", type=int, required=True, help="how many backups stay")
    parser.add_argument("--user", default="", help="an account of Redis")
    parser.add_argument("--socket", default="", help="where Redis listens")
    parser.add_argument("command", nargs="*", help="gets the new file")
    options = parser.parse_args(arguments)
    host = socket.gethostname()
    os.umask(0o077)
    try:
        path = backup(options, host, time.time())
        say(f"wrote {path}, {os.path.getsize(path)} bytes", sys.stdout)
        for name in surplus(ours(os.listdir(options.directory), options.kind, host), options.keep):
            os.unlink(os.path.join(options.directory, name))
            say(f"deleted {name}, of which there are {options.keep} newer ones", sys.stdout)
        if options.command:
            call(upload_command(options.command, path), foreign=True)
    except (BackupError, OSError) as error:
        say(f"backup failed: {error}", sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
