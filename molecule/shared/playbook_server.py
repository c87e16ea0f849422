"""Runs playbooks as `ansible-playbook` does, without its start in each: a third of what an unchanged run costs.

Reads a line of JSON from standard input for each run and forks; the fork is the run, from reading the command line on.
What every run would do anew is there already: Ansible's imports and plugins, the collection's own, and the modules that
were packed for an earlier run (they are kept in this process's temporary folder, which all forks have as theirs).
Ansible reads its configuration when it is imported, so this process has the environment that its runs are to have.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from ansible.cli.playbook import PlaybookCLI
from ansible.plugins.loader import (
    become_loader,
    callback_loader,
    connection_loader,
    init_plugin_loader,
    inventory_loader,
    shell_loader,
    strategy_loader,
)

# What every run needs is imported once, here.
for _name in ("ansible.executor.task_queue_manager", "ansible.plugins.strategy.linear"):
    importlib.import_module(_name)

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = "ansible_collections.celeryops.stack.plugins"


def warm() -> None:
    """Load what the first run would load."""
    # The command line says where collections are once more, and Ansible warns of it.
    warnings.filterwarnings("ignore", "AnsibleCollectionFinder has already been configured")
    init_plugin_loader([str(ROOT / "collections")])
    for loader in (inventory_loader, callback_loader, strategy_loader, connection_loader, shell_loader, become_loader):
        list(loader.all(class_only=True))
    for path in sorted((ROOT / "plugins" / "action").glob("*.py")):
        importlib.import_module(f"{COLLECTION}.action.{path.stem}")
    gc.collect()
    gc.freeze()


def run(words: Sequence[str], folder: Path) -> int:
    """Be one run, and return what ``ansible-playbook`` would exit with.

    Args:
        words: its command line.
        folder: where what it prints is kept, in ``stdout`` and ``stderr``.
    """
    for number, name in enumerate((os.devnull, "stdout", "stderr")):
        os.dup2(os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600), number)
    sys.argv = [*words]
    try:
        PlaybookCLI.cli_executor(list(words))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    else:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def attend(words: Sequence[str], folder: Path) -> None:
    """Let one run happen, and tell the folder's pipe ``ended`` its exit code: below 0, the signal that ended it."""
    number = os.fork()
    if not number:
        os._exit(run(words, folder))
    code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    (folder / "ended").write_text(f"{code}\n")


def serve() -> None:
    """Begin a run for each line, until there are no more."""
    warm()
    # Those that attend to a run are nobody's concern: the kernel buries them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in iter(sys.stdin.readline, ""):
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            wanted = json.loads(line)
            attend(wanted["words"], Path(wanted["folder"]))
            os._exit(0)


if __name__ == "__main__":
    serve()
