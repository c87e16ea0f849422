# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A name for the current run of Ansible, so that facts of an earlier run do not count as current.

Facts may be cached between runs (``fact_caching``). Most of them stay true for long; who listens on a port does not.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What is true of one moment only: what a host holds, and in which form.
_OF_THE_MOMENT = ("celeryops_machine", "celeryops_packages", "celeryops_rabbitmq", "celeryops_redis")


def this_run(pid: int | None = None) -> str:
    """Return the name: the process that forks the workers, in which action plugins run, and when it began.

    Arguments:
        pid: of that process; the parent of this one unless given (ansible/executor/process/worker.py, 2.18 to 2.21).
    """
    pid = os.getppid() if pid is None else pid
    began = ""
    # Field 22 (proc_pid_stat(5)); other systems know the number alone.
    with contextlib.suppress(OSError, IndexError):
        began = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    return f"{pid}-{began}"


def seen_now(facts: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return what this run has seen of a host (``celeryops_machine``); nothing of what an earlier one saw.

    Arguments:
        facts: the host's facts.
    """
    machine = (facts or {}).get("celeryops_machine") or {}
    return machine if machine.get("run") == this_run() else {}


def without_stale(facts: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a host's facts without what was true at the moment of an earlier run, which a cache kept."""
    known = dict(facts or {})
    return known if seen_now(known) else {name: fact for name, fact in known.items() if name not in _OF_THE_MOMENT}
