"""A Python that has imported Celery already, and forks for each program: an interpreter that imports it takes a third
of a second of a processor, and the tests start a hundred.

Reads one line of JSON for each program from standard input (its words, variables and directory, and the files for what
it prints), and answers with its exit status. Nothing of this package or of an app is imported before the fork.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import sys
import traceback
import types
from typing import Any

for _name in (
    "celery.app.amqp",
    "celery.app.base",
    "celery.app.builtins",
    "celery.app.control",
    "celery.app.events",
    "celery.app.log",
    "celery.app.task",
    "celery.backends.redis",
    "celery.beat",
    "celery.bin.celery",
    "celery.worker.consumer",
    "celery.worker.strategy",
    "celery.worker.worker",
    "kombu.transport.memory",
    "kombu.transport.pyamqp",
    "kombu.transport.redis",
):
    importlib.import_module(_name)


def program(asked: dict[str, Any]) -> int:
    """Run a program as a new interpreter would, and return its exit status."""
    for number, path in ((1, asked["out"]), (2, asked["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    first, *rest = asked["words"]
    paths = [path for path in asked["environment"].get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:1] = [os.path.dirname(first) if not first.startswith("-") else "", *paths]  # noqa: PTH120
    sys.dont_write_bytecode = True
    try:
        if first == "-c":
            sys.argv = ["-c", *rest[1:]]
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(rest[0], "<string>", "exec"), vars(main))  # noqa: S102
        elif first == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = [first, *rest]
            runpy.run_path(first, run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def serve() -> int:
    """Answer until nothing more is asked; return the exit status, in a fork that of its program."""
    gc.collect()
    gc.freeze()
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if not child:
            return program(json.loads(line))
        _pid, status = os.waitpid(child, 0)
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    # By the way out that every program takes: what is to be done at the exit is done.
    sys.exit(serve())
