# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""One name for the run of Ansible that is going on: what was seen of a host in an earlier one is not taken for now.

Facts may be cached between runs (``fact_caching``). Most of them stay true for long; who listens on a port does not.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


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
