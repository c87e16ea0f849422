"""Runs the real check playbook many times without paying for Ansible's start each time.

Reads a word and a folder per line from standard input, forks, checks the ``hosts.yml`` in the folder inside the
fork, and answers with the exit code; what the run said is in ``said.txt`` there. After ``playbook`` it is
``ansible-playbook`` that checks. After ``task`` only the playbook's one task is run, on the same inventory and with the
same variables, which costs less: no command line, no strategy, no callbacks, no process of a worker.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from ansible import context
from ansible.cli.playbook import PlaybookCLI
from ansible.executor.task_executor import TaskExecutor
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.playbook import Playbook
from ansible.playbook.play_context import PlayContext
from ansible.plugins.loader import (
    become_loader,
    cache_loader,
    callback_loader,
    connection_loader,
    get_plugin_loader_namespace,
    init_plugin_loader,
    inventory_loader,
    shell_loader,
    strategy_loader,
    vars_loader,
)
from ansible.utils.context_objects import CLIArgs
from ansible.utils.vars import load_options_vars
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from checker import laid_over_the_shop
from compiled import compile_once

# What every run needs is imported once, here.
for _name in ("ansible.executor.task_queue_manager", "ansible.plugins.strategy.linear"):
    importlib.import_module(_name)

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOK = str(ROOT / "playbooks" / "check.yml")
ROLES = tuple(sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir()))


def warm() -> None:
    """Load what the first run in a process would load."""
    init_plugin_loader([str(ROOT / "collections")])
    loaders = (inventory_loader, callback_loader, vars_loader, cache_loader, strategy_loader)
    for loader in (*loaders, connection_loader, shell_loader, become_loader):
        list(loader.all(class_only=True))
    importlib.import_module("ansible_collections.celeryops.stack.plugins.action.plan")
    spec = importlib.import_module("ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.argument_spec")
    for role in ROLES:
        importlib.import_module(f"ansible_collections.celeryops.stack.plugins.plugin_utils.plans.{role}")
        spec.role_options(role)


def check_once() -> None:
    """Compile the templates of the defaults before any fork."""
    compile_once()
    # Importable only since warm().
    checked = importlib.import_module("check_in_process").checked
    with tempfile.TemporaryDirectory() as folder:
        checked(Path(folder), {})
        checked(Path(folder), {"redis_port": "x"})


class Task:
    """The playbook's task, read once, to be run in forks."""

    def __init__(self) -> None:
        """Read the playbook."""
        line = PlaybookCLI(["ansible-playbook", PLAYBOOK])
        line.init_parser()
        # Not by parse(), whose arguments are once and for all: a fork for a playbook has some of its own.
        context.CLIARGS = CLIArgs.from_options(line.post_process_args(line.parser.parse_args(line.args[1:])))
        self._loader = DataLoader()
        book = Playbook.load(PLAYBOOK, variable_manager=None, loader=self._loader)
        self._loader.set_basedir(book._basedir)
        (self._play,) = book.get_plays()
        (self._task,) = (
            task for block in self._play.compile() for task in block.block if task.action == "celeryops.stack.plan"
        )

    def run(self, folder: str) -> dict[str, Any]:
        """Run the task as a play's strategy and its worker would, and return the result."""
        sources = (f"{folder}/hosts.yml",)
        context.CLIARGS = CLIArgs({**context.CLIARGS, "inventory": sources})
        inventory = InventoryManager(loader=self._loader, sources=list(sources))
        manager = VariableManager(loader=self._loader, inventory=inventory, version_info=PlaybookCLI.version_info())
        # It tells the manager of itself.
        HostVars(inventory=inventory, variable_manager=manager, loader=self._loader)
        hosts = inventory.get_hosts(self._play.hosts, order=self._play.order)
        names = [host.name for host in hosts]
        variables = manager.get_vars(play=self._play, host=hosts[0], task=self._task, _hosts=names, _hosts_all=names)
        plugins = get_plugin_loader_namespace()
        executor = TaskExecutor(
            hosts[0], self._task, variables, PlayContext(self._play), self._loader, plugins, None, manager
        )
        result: dict[str, Any] = executor.run()
        return result


def run(kind: str, folder: str, task: Task) -> int:
    """Run the check in ``folder``, and return what ``ansible-playbook`` would exit with."""
    os.chdir(folder)
    # This process is the run: what it has seen itself bears its name.
    this_run = importlib.import_module(
        "ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.this_run"
    ).this_run
    for path in Path("facts").glob("*"):
        path.write_text(path.read_text().replace("THIS_RUN", this_run(os.getpid())))
    said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(said, 1)
    os.dup2(said, 2)
    code = 0
    if kind == "task":
        result = task.run(folder)
        code = 2 if result.get("failed") else 0
        for warning in result.get("warnings", ()):
            # Text until ansible-core 2.18.
            print(f"[WARNING]: {warning.event.msg if hasattr(warning, 'event') else warning}")
        # As the playbook's callback writes it.
        kept = {name: value for name, value in result.items() if name in ("msg", "mistakes", "exception")}
        shown = json.dumps(kept, default=str)
        print(f"fatal: [task]: FAILED! => {shown}" if code else "ok: [task]")
    else:
        # What a user has around the playbook, and says on the command line.
        playbook = "wrap.yml" if Path("wrap.yml").exists() else PLAYBOOK
        more = ["-e", "@more.yml"] if Path("more.yml").exists() else []
        try:
            PlaybookCLI.cli_executor(["ansible-playbook", "-i", "hosts.yml", *more, playbook])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def serve() -> None:
    """Answer until nothing more is asked."""
    answers = os.dup(1)
    warm()
    check_once()
    task = Task()
    # What Ansible prints here is no answer.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with tempfile.TemporaryDirectory() as folder:
        # The files of the playbook and of the roles are read here, and not in each fork.
        Path(folder, "hosts.yml").write_text(json.dumps(laid_over_the_shop({"vars": {"redis_port": "x"}})))
        task.run(folder)
    # Ansible works out once what the command line says, such as the inventory: each fork has its own.
    load_options_vars.options_vars = None
    # What is shared with the forks stays shared: a collection would write to it.
    gc.collect()
    gc.freeze()
    for line in iter(sys.stdin.readline, ""):
        kind, folder = line.rstrip("\n").split(" ", 1)
        child = os.fork()
        if not child:
            try:
                os._exit(run(kind, folder, task))
            except BaseException:
                traceback.print_exc()
            finally:
                # Whatever comes of it, a fork must not go on as the server.
                sys.stderr.flush()
                os._exit(250)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(answers, f"{code}\n".encode())


if __name__ == "__main__":
    serve()
