# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every listening TCP socket of a host, with its process and its unit."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: TCP_LISTEN (include/net/tcp_states.h, Linux), as the tables say it.
_LISTEN = "0A"


@dataclass
class Socket:
    """A socket that listens.

    Arguments:
        address: that it listens on; ``0.0.0.0`` and ``::`` are all.
        port: its number.
        uid: of the account that made it.
        inode: by which its process has it.
    """

    address: str
    port: int
    uid: int
    inode: int


@dataclass
class Process:
    """A process, as far as root may look at it.

    Arguments:
        pid: its number.
        name: of its program.
        unit: the systemd unit that it belongs to; empty when it belongs to none.
        uid: of its account.
        sockets: inodes of its sockets; None when they cannot be seen (root without CAP_SYS_PTRACE, in many containers).
    """

    pid: int
    name: str
    unit: str
    uid: int
    sockets: frozenset[int] | None = field(default_factory=frozenset)


def sockets(table: str) -> list[Socket]:
    """Return the sockets that listen from the text of /proc/net/tcp or tcp6 (proc_net_tcp.rst, Linux).

    Addresses are hexadecimal words of four bytes, each in the machine's own order; the machines that Debian's servers
    run on are little-endian.
    """
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != _LISTEN:
            continue
        words, _colon, port = fields[1].partition(":")
        raw = b"".join(bytes.fromhex(words[at : at + 8])[::-1] for at in range(0, len(words), 8))
        found.append(Socket(str(ipaddress.ip_address(raw)), int(port, 16), int(fields[7]), int(fields[9])))
    return found


def unit_of(groups: str) -> str:
    """Return the unit of a process from the text of /proc/PID/cgroup: the last part of a path that names one."""
    names = re.findall(r"[^/\n]+\.(?:service|scope|socket)(?=/|$)", groups, re.MULTILINE)
    return names[-1] if names and names[-1] != "init.scope" else ""


def holders(
    listening: Iterable[Socket], processes: Sequence[Process], activated: Mapping[tuple[str, int], str]
) -> list[dict[str, Any]]:
    """Return each socket with who has it.

    Arguments:
        listening: the sockets.
        processes: of the host.
        activated: (address, port) -> the socket unit for which systemd itself listens there.

    Returns:
        dicts with ``address``, ``port``, ``pid`` (0 when it cannot be seen), ``process``, ``unit``, and ``perhaps``:
        where the process cannot be seen, the units of those of the same account that may be it.
    """
    found = []
    for socket in listening:
        owner = next((one for one in processes if one.sockets and socket.inode in one.sockets), None)
        hidden = [one for one in processes if one.sockets is None and one.uid == socket.uid] if owner is None else []
        if owner is None and len(hidden) == 1:
            owner = hidden[0]
        unit = owner.unit if owner else ""
        if owner is None or owner.pid == 1:
            unit = activated.get((socket.address, socket.port), unit)
        found.append(
            {
                "address": socket.address,
                "port": socket.port,
                "pid": owner.pid if owner else 0,
                "process": owner.name if owner else "",
                "unit": unit,
                "perhaps": sorted({one.unit for one in hidden} - {""}) if owner is None and not unit else [],
            }
        )
    return found


def activated_by(output: str) -> dict[tuple[str, int], str]:
    """Return (address, port) -> socket unit from ``systemctl show *.socket --property=Id,Listen`` (systemctl(1))."""
    found: dict[tuple[str, int], str] = {}
    for block in output.split("\n\n"):
        name = re.search(r"^Id=(.+)$", block, re.MULTILINE)
        for address, port in re.findall(r"^Listen=(?:\[?([0-9a-fA-F:.]*)\]?:)?(\d+) \(Stream\)$", block, re.MULTILINE):
            if name:
                # A number alone is all addresses, those of IPv6 with those of IPv4 (systemd.socket(5)).
                found[address or "::", int(port)] = name[1]
    return found


def look(proc: str = "/proc") -> list[dict[str, Any]]:
    """Return every socket of the host that listens, as ``holders`` does; nothing where there is no such table."""
    listening: list[Socket] = []
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"{proc}/net/{table}", encoding="ascii") as stream:
            listening += sockets(stream.read())
    # A server with several threads may have several sockets of one address.
    unique = {(one.address, one.port): one for one in listening}
    processes = _processes(proc, {one.inode for one in unique.values()})
    found = holders(unique.values(), processes, {})
    if any(one["pid"] == 1 or (not one["pid"] and not one["perhaps"]) for one in found):
        with contextlib.suppress(OSError):
            # pylint: disable-next=ansible-bad-function
            shown = subprocess.run(
                ["systemctl", "show", "*.socket", "--property=Id,Listen"], capture_output=True, text=True, check=False
            )
            found = holders(unique.values(), processes, activated_by(shown.stdout))
    return found


def _processes(proc: str, wanted: set[int]) -> list[Process]:
    found = []
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        # It may end while it is looked at.
        with contextlib.suppress(OSError):
            with open(f"{proc}/{name}/comm", encoding="utf-8", errors="replace") as stream:
                program = stream.read().strip()
            with open(f"{proc}/{name}/cgroup", encoding="utf-8", errors="replace") as stream:
                unit = unit_of(stream.read())
            uid = os.stat(f"{proc}/{name}").st_uid
            seen = _sockets_of(f"{proc}/{name}/fd", wanted)
            if seen is None or seen:
                found.append(Process(int(name), program, unit, uid, seen))
    return found


def _sockets_of(folder: str, wanted: set[int]) -> frozenset[int] | None:
    """Return which of the wanted inodes a process has; None when root may not look."""
    found = set()
    try:
        for number in os.listdir(folder):
            target = os.readlink(f"{folder}/{number}")
            if target.startswith("socket:[") and int(target[8:-1]) in wanted:
                found.add(int(target[8:-1]))
    except PermissionError:
        return None
    except FileNotFoundError:
        # It was closed meanwhile, and was no socket that waits.
        pass
    return frozenset(found)
