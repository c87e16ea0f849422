"""Runs the real check playbook many times without paying for Ansible's start each time.

Reads a folder per line from standard input, forks, runs ``ansible-playbook`` on the ``hosts.yml`` in it inside the
fork, and answers with the exit code; what the run said is in ``said.txt`` there.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import ansible.executor.task_queue_manager
import ansible.plugins.strategy.linear  # noqa: F401 - what every run needs is imported once, here
from ansible.cli.playbook import PlaybookCLI
from ansible.plugins.loader import (
    become_loader,
    cache_loader,
    callback_loader,
    connection_loader,
    init_plugin_loader,
    inventory_loader,
    shell_loader,
    strategy_loader,
    vars_loader,
)
from jinja2 import Environment

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("rabbitmq", "redis", "celery_app", "celery_worker", "celery_beat", "flower")


def warm() -> None:
    """Load what the first run in a process would load."""
    init_plugin_loader([str(ROOT / "collections")])
    loaders = (inventory_loader, callback_loader, vars_loader, cache_loader, strategy_loader)
    for loader in (*loaders, connection_loader, shell_loader, become_loader):
        list(loader.all(class_only=True))
    plan = importlib.import_module("ansible_collections.celeryops.stack.plugins.action.plan")
    for role in ROLES:
        importlib.import_module(f"ansible_collections.celeryops.stack.plugins.plugin_utils.plans.{role}")
        plan.role_options(role)


def compile_once() -> None:
    """Let a template that was compiled before a fork not be compiled in each: most are those of the defaults."""
    compiled: dict[tuple[Any, ...], Any] = {}
    compile_it = Environment.compile

    def kept(self: Environment, source: Any, *how: Any, **more: Any) -> Any:
        if not isinstance(source, str):
            return compile_it(self, source, *how, **more)
        key = (type(self), self.variable_start_string, self.block_start_string, source, how, *sorted(more.items()))
        if key not in compiled:
            compiled[key] = compile_it(self, source, *how, **more)
        return compiled[key]

    Environment.compile = kept  # type: ignore[method-assign]
    # Importable only since warm().
    checked = importlib.import_module("check_in_process").checked
    with tempfile.TemporaryDirectory() as folder:
        checked(Path(folder), {})
        checked(Path(folder), {"redis_port": "x"})


def run(folder: str) -> int:
    """Run the check in ``folder``, and return what ``ansible-playbook`` would exit with."""
    os.chdir(folder)
    # This process is the run: what it has seen itself bears its name.
    this_run = importlib.import_module("ansible_collections.celeryops.stack.plugins.plugin_utils.this_run").this_run
    for path in Path("facts").glob("*"):
        path.write_text(path.read_text().replace("THIS_RUN", this_run(os.getpid())))
    said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(said, 1)
    os.dup2(said, 2)
    code = 0
    try:
        PlaybookCLI.cli_executor(["ansible-playbook", "-i", "hosts.yml", str(ROOT / "playbooks" / "check.yml")])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def serve() -> None:
    """Answer until nothing more is asked."""
    answers = os.dup(1)
    warm()
    compile_once()
    # What is shared with the forks stays shared: a collection would write to it.
    gc.collect()
    gc.freeze()
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if not child:
            os._exit(run(line.rstrip()))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(answers, f"{code}\n".encode())


if __name__ == "__main__":
    serve()
