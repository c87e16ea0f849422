#!/usr/bin/env python
"""Break the check's code in every way that a mutation tester knows, and list what no test noticed.

Each module has its own fast tests. What survives has to stand, with its reason, in tests/survivors.yml; anything else
fails the run.

    scripts/mutate.py                     everything (an hour on two processors)
    scripts/mutate.py rules requirements  the modules whose path contains one of these words

A mutant costs what its tests cost: this program imports everything but the project's own modules once, and forks.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import gc
import importlib
import itertools
import json
import multiprocessing
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutation"
EXPLAINED = ROOT / "tests" / "survivors.yml"
TOOL = "cosmic-ray==8.7.0"
TESTS = "tests/unit/plugins"
#: Modules -> tests that have to notice when they break, beside those that bear their name in the folder of their name.
BESIDE = {
    "module_utils/celery_versions": "module_utils/releases/resolve plugin_utils/celery/newer_features",
    "module_utils/endpoints": "plugin_utils/celery/flower_api plugin_utils/values/addresses",
    "module_utils/file_changes": "module_utils/file_placer module_utils/placed",
    "module_utils/file_owners": "module_utils/placed module_utils/foreign",
    "module_utils/handover": "modules/roll",
    "module_utils/unit_state": "module_utils/systemd",
    "module_utils/masking": "plugin_utils/celery/app_servers*",
    "module_utils/paths": "plugin_utils/topology/layout module_utils/releases/store",
    "module_utils/rabbitmq_contents": "module_utils/rabbitmq_reconciler",
    "module_utils/rabbitmq_password": "module_utils/rabbitmq_differences",
    "module_utils/redis_engine": "plugin_utils/plans/redis_templates",
    "module_utils/releases/candidate": "module_utils/releases/procedure",
    "module_utils/releases/configuration": "plugin_utils/celery/overridden_settings module_utils/releases/procedure",
    "module_utils/releases/requirements": "module_utils/releases/resolve",
    "module_utils/releases/store": "module_utils/releases/procedure modules/roll",
    "module_utils/releases/virtualenv": "module_utils/releases/procedure",
    "module_utils/removal_guards": "modules/remove",
    "module_utils/systemd": "module_utils/unit_state",
    "module_utils/text_files": "module_utils/wording",
    "plugin_utils/app/files": "module_utils/placed",
    "plugin_utils/app/release_commands": "modules/commands",
    "plugin_utils/celery/app_servers": "plugin_utils/plans/celery_app* plugin_utils/plans/flower",
    "plugin_utils/celery/setting_kinds": "plugin_utils/plans/celery_app_settings",
    "plugin_utils/celery/worker_arguments": "plugin_utils/topology/worker_classes",
    "plugin_utils/inventory/made_up": "plugin_utils/inventory/password_rehearsal",
    "plugin_utils/inventory/unknown_variables": "plugin_utils/messages/problem",
    "plugin_utils/model/build": "plugin_utils/celery/results",
    "plugin_utils/model/deployment": "plugin_utils/rules/* plugin_utils/output/diagram plugin_utils/celery/results",
    "plugin_utils/plans/celery_app_environment": "plugin_utils/plans/celery_app",
    "plugin_utils/plans/celery_app_queues": "plugin_utils/plans/celery_app",
    "plugin_utils/plans/celery_app_settings": "plugin_utils/celery/setting_kinds plugin_utils/rules/delivery",
    "plugin_utils/plans/celery_app_source": "plugin_utils/plans/celery_app",
    "plugin_utils/plans/celery_worker": "plugin_utils/topology/worker_classes",
    "plugin_utils/plans/rabbitmq_variables": "plugin_utils/plans/rabbitmq*",
    "plugin_utils/plans/redis_configuration": "plugin_utils/plans/redis*",
    "plugin_utils/plans/redis_users": "plugin_utils/plans/redis module_utils/removal_guards",
    "plugin_utils/plans/shapes": "plugin_utils/topology/worker_classes plugin_utils/plans/celery_worker",
    "plugin_utils/rollout/route_check": "module_utils/workers",
    "plugin_utils/rules/catalogue": "plugin_utils/rules/rules",
    "plugin_utils/topology/rabbitmq_policies": "plugin_utils/plans/rabbitmq* plugin_utils/topology/survey",
    "plugin_utils/rules/results": "plugin_utils/celery/results",
    "plugin_utils/systemd/sandbox": "plugin_utils/plans/celery_worker",
    "plugin_utils/systemd/units": (
        "plugin_utils/topology/worker_classes plugin_utils/plans/celery_worker plugin_utils/plans/celery_beat "
        "plugin_utils/plans/flower"
    ),
    "plugin_utils/takeover/rabbitmq": "module_utils/rabbitmq_found",
    "plugin_utils/takeover/redis": "module_utils/redis_found",
    "plugin_utils/topology/class_keys": "plugin_utils/topology/worker_classes plugin_utils/plans/celery_worker",
    "plugin_utils/topology/class_layers": "plugin_utils/properties",
    "plugin_utils/topology/derived": "plugin_utils/topology/survey plugin_utils/rules/versions",
    "plugin_utils/topology/machines": "plugin_utils/topology/survey",
    "plugin_utils/topology/members": "plugin_utils/topology/survey plugin_utils/rules/versions",
    "plugin_utils/topology/roles": (
        "plugin_utils/rules/inventory plugin_utils/rules/agreement plugin_utils/topology/survey "
        "plugin_utils/topology/layout plugin_utils/takeover/leaving"
    ),
    "plugin_utils/topology/server_objects": "plugin_utils/topology/survey",
    "plugin_utils/topology/worker_classes": "plugin_utils/plans/celery_worker",
    "plugin_utils/values/quantities": "plugin_utils/output/diagram",
    "plugin_utils/values/queue_names": "plugin_utils/plans/celery_app_queues",
    "plugin_utils/values/requirements": "plugin_utils/rules/packages plugin_utils/plans/celery_app_source",
}
#: Modules that mean something on a host only, where molecule tests what they ask and run; and those that hold Ansible's
#: templates, which whole inventories test (tests/unit/test_check.py).
NOT_PURE = {
    "plugins/module_utils/account.py",
    "plugins/module_utils/file_placer.py",
    "plugins/module_utils/rabbitmq_api.py",
    "plugins/module_utils/rabbitmq_reconciler.py",
    "plugins/module_utils/releases/build.py",
    "plugins/module_utils/releases/procedure.py",
    "plugins/module_utils/releases/installer.py",
    "plugins/module_utils/releases/programs.py",
    "plugins/module_utils/releases/request.py",
    "plugins/module_utils/releases/source.py",
    "plugins/module_utils/releases/verify.py",
    "plugins/module_utils/runtime.py",
    "plugins/module_utils/stand_ins.py",
    "plugins/module_utils/trial.py",
    "plugins/plugin_utils/inventory/ansible_variables.py",
    "plugins/plugin_utils/inventory/controller.py",
    "plugins/plugin_utils/inventory/check.py",
    "plugins/plugin_utils/inventory/role_planner.py",
}


def _tests_of(module: str) -> tuple[str, ...]:
    """Return the files of tests that have to notice when a module breaks, the likeliest first.

    Arguments:
        module: seen from ``plugins/``, without its ending.
    """
    folder, _slash, name = module.rpartition("/")
    own = f"{folder}/{folder.rpartition('/')[2] if name == '__init__' else name}"
    found: dict[str, None] = {}
    for word in (own, f"{own}_*", *BESIDE.get(module, "").split()):
        path, _slash, name = word.rpartition("/")
        named = sorted((ROOT / TESTS / path).glob(f"test_{name}.py"))
        found.update(dict.fromkeys(str(one.relative_to(ROOT)) for one in named))
    return tuple(found)


#: Module -> the files of tests that have to notice when it breaks, the likeliest first.
MODULES = {
    name: _tests_of(name.removeprefix("plugins/").removesuffix(".py"))
    for folder in ("plugin_utils", "module_utils")
    for path in sorted((ROOT / "plugins" / folder).rglob("*.py"))
    if (name := str(path.relative_to(ROOT))) not in NOT_PURE and path.stat().st_size
}
#: What a mutant may take: one that counts for ever, or in powers, ends as a failure too.
MEMORY = 4 * 2**30


@dataclass(frozen=True, order=True)
class Survivor:
    """A change that no test noticed: the line, as it was and as it became."""

    module: str
    line: int
    was: str
    became: str


@dataclass(frozen=True)
class Report:
    """What became of the mutants of a module."""

    module: str
    tried: int
    seconds: float
    left: list[Survivor]


@dataclass
class Judge:
    """A plugin of pytest for one mutant: the tests that noticed the last ones run first; tells which notices now."""

    killers: list[str]
    noticed: list[str] = field(default_factory=list)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put the likeliest first; the others keep their order."""
        rank = {name: number for number, name in enumerate(reversed(self.killers), 1)}
        items.sort(key=lambda item: -rank.get(item.nodeid, 0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure."""
        if report.failed:
            self.noticed.append(report.nodeid)


def warm() -> None:
    """Import what the tests import and is not of this project, and what collecting them needs."""
    listed = WORK / "imported.json"

    def collect() -> int:
        pytest.main(["-qq", "--collect-only", TESTS])
        here = str(ROOT)
        own = ("ansible_collections", "__main__")
        foreign = [
            name
            for name, module in sys.modules.items()
            if not name.startswith(own)
            and (".venv" in (origin := str(getattr(module, "__file__", ""))) or not origin.startswith(here))
        ]
        listed.write_text(json.dumps(foreign))
        return 0

    pid = os.fork()
    if not pid:
        _silent()
        os._exit(collect())
    os.waitpid(pid, 0)
    for name in json.loads(listed.read_text()):
        # Some of them only exist once another one was called.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    # What the forks share stays shared: a collection would write to it.
    gc.collect()
    gc.freeze()


def judged(tests: Sequence[str], killers: list[str], timeout: float, scratch: str) -> bool:
    """Return whether tests fail, in a fork.

    Arguments:
        tests: their files, seen from this directory.
        killers: the tests that noticed something, the last one first; what notices now comes to its head.
        timeout: seconds after which they count as failed.
        scratch: a path for the tests' own files, short enough for the name of a socket.
    """
    told, tell = os.pipe()
    pid = os.fork()
    if not pid:
        os.setsid()
        _silent()
        judge = Judge(killers)
        code = 1
        # Whatever is wrong is a failure.
        with contextlib.suppress(BaseException):
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            code = pytest.main(["-xqq", "--tb=no", "--assert=plain", f"--basetemp={scratch}", *tests], [judge])
        os.write(tell, json.dumps(judge.noticed).encode())
        os._exit(int(code != 0))
    os.close(tell)
    handle = os.pidfd_open(pid)
    in_time, _first, _second = select.select([handle], [], [], timeout)
    os.close(handle)
    # What the tests started ends with them.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    _pid, status = os.waitpid(pid, 0)
    with os.fdopen(told) as pipe:
        noticed = json.loads(pipe.read() or "[]") if in_time else []
    for name in noticed:
        with contextlib.suppress(ValueError):
            killers.remove(name)
        killers.insert(0, name)
    return status != 0


def _silent() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)


def mutants(path: Path) -> Iterator[str]:
    """Yield the text of the module at ``path`` broken in each way."""
    command = [
        "uv",
        "tool",
        "run",
        "--quiet",
        "--from",
        TOOL,
        "python",
        str(ROOT / "scripts" / "tools" / "mutation" / "mutants.py"),
        str(path),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        yield from map(json.loads, running.stdout)
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, command)


def survivors(module: str) -> Report:
    """Try all mutants of a module in a copy of the repository."""
    tree = WORK / module.replace("/", "-").removesuffix(".py")
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    for name in filter(None, listed.split("\0")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name, follow_symlinks=False)
    os.chdir(tree)
    temporary = tempfile.TemporaryDirectory(prefix="mutate-")
    scratch = f"{temporary.name}/tests"
    killers: list[str] = []
    started = time.monotonic()
    # It leaves the tests compiled; what follows leaves nothing, so that no mutant's code is taken for the next one's.
    if judged(MODULES[module], killers, 600, scratch):
        raise RuntimeError(f"{module}: its tests fail as it is: {' '.join(killers)}")
    timeout = 5 + 5 * (time.monotonic() - started)
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    path = tree / module
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()
    was = path.read_text()
    tried, left = 0, []
    started = time.monotonic()
    for became in mutants(ROOT / module):
        path.write_text(became)
        tried += 1
        if not judged(MODULES[module], killers, timeout, scratch):
            left.append(_changed(module, was, became))
    os.chdir(ROOT)
    shutil.rmtree(tree)
    temporary.cleanup()
    return Report(module, tried, time.monotonic() - started, left)


def _changed(module: str, was: str, became: str) -> Survivor:
    lines = list(difflib.unified_diff(was.splitlines(), became.splitlines(), n=0))[2:]
    number = int(re.findall(r"\d+", lines[0])[0])
    old, new = (" ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
    return Survivor(module, number, old, new)


def explained() -> list[tuple[str, str]]:
    """Return (module, the line as it became, as a pattern) of what may survive."""
    return [(str(entry["module"]), str(entry["became"])) for entry in yaml.safe_load(EXPLAINED.read_text()) or []]


def main(words: Sequence[str], jobs: int) -> int:
    """Try the modules whose path contains one of ``words``, ``jobs`` of them at once; return 1 if any lacks a test."""
    modules = [module for module in MODULES if not words or any(word in module for word in words)]
    known = explained()
    faults = 0
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(ROOT)
    WORK.mkdir(parents=True, exist_ok=True)
    warm()
    # Each module in a process of its own: it leaves nothing behind.
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=1) as pool:
        for report in pool.imap(survivors, modules, chunksize=1):
            patterns = [became for module, became in known if module == report.module]
            new = [one for one in report.left if not any(re.fullmatch(pattern, one.became) for pattern in patterns)]
            idle = [
                pattern for pattern in patterns if not any(re.fullmatch(pattern, one.became) for one in report.left)
            ]
            faults += len(new) + len(idle)
            sys.stdout.write(
                f"{report.module}: {report.tried} tried in {report.seconds:.0f} s, {len(report.left)} survived, "
                f"{len(new)} of these without a reason\n"
            )
            for (line, was), alike in itertools.groupby(sorted(new), key=lambda one: (one.line, one.was)):
                sys.stdout.write("".join([f"  {line}: {was}\n", *(f"    {one.became}\n" for one in alike)]))
            sys.stdout.write("".join(f"  explained, but no survivor is like it: {pattern}\n" for pattern in idle))
            sys.stdout.flush()
    return 1 if faults else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many modules at once")
    parser.add_argument("words", nargs="*", help="only the modules whose path contains one of these")
    arguments = parser.parse_args()
    sys.exit(main(arguments.words, arguments.jobs))
