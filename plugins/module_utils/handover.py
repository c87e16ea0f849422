# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in of a worker during its replacement: names, and the texts of transient units. Pure functions, no I/O.

A unit in /run/systemd/system works like one in /etc and disappears at a reboot (systemd.unit(5), "Unit File Load
Path"). A worker class has no underscore in its name, so that these names belong to no class.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils import paths

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Several, since a class may be replaced again while a stand-in of it still ends its tasks.
SLOTS = ("_standin", "_standin2", "_standin3", "_standin4")
HANDOVER = "_handover"
#: By this file in its runtime directory a worker learns how long this one stop may take (celeryops_runtime.drain).
DRAIN_FILE = "drain"
_MARKER = "# Managed by celeryops.stack (module roll): stands in while a worker is replaced, and is gone afterwards."


def transient(app: str, worker_class: str, suffix: str) -> str:
    """Return the name of a transient unit of a class; ``suffix`` is one of ``SLOTS`` or ``HANDOVER``."""
    return f"celery-{app}-{worker_class}{suffix}.service"


def class_of(app: str, unit: str) -> tuple[str, str] | None:
    """Return the class and the suffix of a transient unit's name, or None for the name of anything else."""
    match = re.fullmatch(rf"celery-{re.escape(app)}-([a-z][a-z0-9-]*)(_[a-z0-9]+)\.service", unit)
    return (match[1], match[2]) if match and match[2] in (*SLOTS, HANDOVER) else None


def stand_in(text: str, app: str, worker_class: str, suffix: str) -> str:
    """Return the unit of a stand-in, made from the text of the class's own unit.

    It is the same worker under another node name, with a runtime directory and a name in the log of its own. Nothing
    starts it at boot.

    Raises:
        ValueError: when the text is not the unit that the role celery_worker writes.
    """
    own, other = worker_class, f"{worker_class}{suffix}"
    text = re.sub(r"(?ms)^\[Install\]\n.*?(?=^\[|\Z)", "", text)
    for pattern, replacement in (
        (rf"(?m)^(ExecStart=.*--hostname={re.escape(own)})@", rf"\g<1>{suffix}@"),
        (rf"(?m)^RuntimeDirectory=celeryops/{app}/{re.escape(own)}$", f"RuntimeDirectory=celeryops/{app}/{other}"),
        (rf"(?m)^SyslogIdentifier=celery-{app}-{re.escape(own)}$", f"SyslogIdentifier=celery-{app}-{other}"),
    ):
        text, number = re.subn(pattern, replacement, text)
        if number != 1:
            raise ValueError(
                f"the unit of the class {own} is not as the role celery_worker writes it; run site.yml first"
            )
    return re.sub(r"\A(#[^\n]*\n)?", f"{_MARKER}\n", text)


def ending(app: str, worker_class: str, slot: str) -> str:
    """Return the name of the unit that ends a stand-in; systemd makes it, and forgets it when it is done."""
    return transient(app, worker_class, slot).replace(".service", "-end.service")


def end(app: str, worker_class: str, slot: str, seconds: int) -> str:
    """Return the shell command that has a stand-in end in its own time, and does not wait for it.

    The stand-in takes nothing more and its unit goes when its tasks have ended. They have ``seconds``, and not their
    class's ``stop_timeout``: that was over for a task which the old worker gave back, and nobody waits for this one.

    Where there is no such stand-in, or where it ends already, nothing happens.

    No step ends with a semicolon: systemd 252 writes one as ``\\;`` into the file of a transient unit, and does not
    read that again as it was (seen on Debian 12, when a daemon-reload came before the unit had begun).
    """
    unit = transient(app, worker_class, slot)
    path = f"{paths.TRANSIENT_UNITS}/{unit}"
    steps = " || true && ".join([
        # The directory is the app's. install(1) puts a new file in the place of whatever is there, a link too.
        f"echo {seconds} | install -T -m 0644 /dev/stdin {paths.AppPaths(app).run}/{worker_class}{slot}/{DRAIN_FILE}",
        f"systemctl stop {unit}",
        f"rm -rf {path} {path}.d",
        "systemctl daemon-reload",
        # Only one that failed is still known, and one that did not is no error.
        f"systemctl reset-failed {unit} 2>/dev/null || true",
    ])  # fmt: skip
    return (
        f"[ ! -e {path} ] || systemd-run --quiet --collect --no-block --unit={ending(app, worker_class, slot)}"
        f" --description='End the stand-in of class {worker_class} of {app}' /bin/sh -c '{steps}'"
    )


def handover(app: str, worker_class: str, seconds: int) -> str:
    """Return the unit that ends a replacement in its own time: the old worker drains, the new one starts.

    It runs on the host, so it goes on when the connection to the control machine is lost. When the new worker does not
    start, the stand-in goes on working and this unit counts as failed; the next run puts both right.
    """
    return "\n".join([
        _MARKER,
        "[Unit]",
        f"Description=Hand over the work of class {worker_class} of {app}",
        "",
        "[Service]",
        "Type=oneshot",
        "TimeoutStartSec=infinity",
        f"ExecStart=/usr/bin/systemctl restart celery-{app}-{worker_class}.service",
        # One by one: systemd 262 stops none of several units of which one is not there.
        *(f'ExecStart=-/bin/sh -c "{end(app, worker_class, slot, seconds)}"' for slot in SLOTS),
        f"ExecStart=/usr/bin/rm -f {paths.TRANSIENT_UNITS}/{transient(app, worker_class, HANDOVER)}",
        "ExecStart=/usr/bin/systemctl daemon-reload",
        "",
    ])  # fmt: skip


def must_roll(running: str | None, wanted: str, *, active: bool, only_moved: bool) -> bool:
    """Whether a unit is to be replaced.

    Arguments:
        running: the directory that its main process runs from; None when that cannot be told.
        wanted: the directory that it is to run from.
        active: whether it runs.
        only_moved: whether one that runs from there already stays.
    """
    return not only_moved or not active or running != wanted


def not_as_wanted(wanted: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Return what a worker that was just started does otherwise than its class, or an empty string."""
    found, queues = report.get("queues"), sorted(wanted["queues"])
    if found != queues:
        shown = ", ".join(map(str, found)) if isinstance(found, list) and found else "nothing"
        return f"it consumes {shown}, and not {', '.join(queues)}"
    return ""
