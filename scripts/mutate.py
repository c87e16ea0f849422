#!/usr/bin/env python3
"""Break the check's code in every way that a mutation tester knows, and list what no test noticed.

Each module has its own fast tests. What survives has to stand, with its reason, in tests/survivors.yml; anything else
fails the run.

    scripts/mutate.py                     everything (an hour or two)
    scripts/mutate.py rules requirements  the modules whose path contains one of these words
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutation"
EXPLAINED = ROOT / "tests" / "survivors.yml"
TOOL = "cosmic-ray==8.7.0"
PLUGINS = "plugins/plugin_utils"
TESTS = "tests/unit/plugins"
#: Module -> the tests that have to notice when it breaks.
MODULES = {
    **{
        f"{PLUGINS}/rules/{name}.py": (f"{TESTS}/test_rules.py",)
        for name in (
            "__init__",
            "agreement",
            "delivery",
            "inventory",
            "objects",
            "packages",
            "results",
            "routing",
            "workers",
        )
    },
    **{
        f"{PLUGINS}/{name}.py": (f"{TESTS}/test_{name}.py",)
        for name in (
            "beat_schedule",
            "patterns",
            "serializers",
            "setting_values",
            "tls_options",
            "transport_options",
            "yaml_slips",
        )
    },
    f"{PLUGINS}/policies.py": (f"{TESTS}/test_rules.py",),
    f"{PLUGINS}/requirements.py": (f"{TESTS}/test_rules.py",),
    f"{PLUGINS}/quantities.py": (f"{TESTS}/test_quantities.py", f"{TESTS}/test_rules.py", f"{TESTS}/test_drawing.py"),
    f"{PLUGINS}/stack.py": (f"{TESTS}/test_stack.py",),
    f"{PLUGINS}/inventory.py": (f"{TESTS}/test_inventory.py",),
    # It is made of whole inventories, so they are what tells.
    f"{PLUGINS}/assemble.py": ("tests/unit/test_check.py",),
    f"{PLUGINS}/worker_classes.py": (f"{TESTS}/test_celery_worker_plan.py",),
    f"{PLUGINS}/plans/celery_worker.py": (f"{TESTS}/test_celery_worker_plan.py",),
    f"{PLUGINS}/plans/celery_app.py": (f"{TESTS}/test_celery_app_plan.py",),
    f"{PLUGINS}/plans/celery_beat.py": (f"{TESTS}/test_celery_beat_plan.py",),
    f"{PLUGINS}/plans/flower.py": (f"{TESTS}/test_flower_plan.py",),
    f"{PLUGINS}/plans/rabbitmq.py": (f"{TESTS}/test_rabbitmq_plan.py",),
    f"{PLUGINS}/plans/redis.py": (f"{TESTS}/test_redis_plan.py",),
}
#: Mutants that mean the same: comparisons by identity of what is compared by value, "|" inside of type annotations,
#: and orders of texts that are only ever equal or not.
POINTLESS = (
    "core/ReplaceComparisonOperator_(Eq|NotEq|Lt|LtE|Gt|GtE)_(Is|IsNot)",
    "core/ReplaceComparisonOperator_(Eq|NotEq)_(Lt|LtE|Gt|GtE)",
    "core/ReplaceBinaryOperator_BitOr_.*",
    "core/RemoveDecorator",
)


@dataclass(frozen=True)
class Survivor:
    """A change that no test noticed: the line as it was and as it became."""

    module: str
    was: str
    became: str


def survivors(module: str) -> tuple[int, list[Survivor]]:
    """Return how many mutants of a module were tried, and which survived."""
    tree = WORK / module.replace("/", "-").removesuffix(".py")
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    for name in filter(None, listed.split("\0")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name, follow_symlinks=False)
    # A test may not wait for the tools' own caches, nor leave any.
    command = f"{sys.executable} -m pytest -x -q -p no:cacheprovider {' '.join(MODULES[module])}"
    config, session = tree / "mutation.toml", tree / "mutation.sqlite"
    config.write_text(
        f"[cosmic-ray]\nmodule-path = [{json.dumps(module)}]\ntimeout = 60.0\nexcluded-modules = []\n"
        f"test-command = {json.dumps(command)}\n[cosmic-ray.distributor]\nname = 'local'\n"
        f"[cosmic-ray.filters.operators-filter]\nexclude-operators = {json.dumps(list(POINTLESS))}\n"
    )
    for step in (
        ["cosmic-ray", "init", config.name, session.name],
        ["cr-filter-operators", session.name, config.name],
        ["cosmic-ray", "baseline", config.name],
        ["cosmic-ray", "exec", config.name, session.name],
    ):
        subprocess.run(
            ["uv", "tool", "run", "--quiet", "--from", TOOL, *step],
            check=True,
            cwd=tree,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
    dump = subprocess.run(
        ["uv", "tool", "run", "--quiet", "--from", TOOL, "cosmic-ray", "dump", session.name],
        check=True,
        capture_output=True,
        text=True,
        cwd=tree,
    ).stdout
    tried, left = 0, []
    for _item, result in map(json.loads, dump.splitlines()):
        if result is None or result["worker_outcome"] == "skipped":
            continue
        tried += 1
        if result["test_outcome"] == "survived":
            left.append(_changed(module, result["diff"]))
    shutil.rmtree(tree)
    return tried, left


def _changed(module: str, diff: str) -> Survivor:
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    was = " ".join(line[1:].strip() for line in lines if line.startswith("-"))
    became = " ".join(line[1:].strip() for line in lines if line.startswith("+"))
    return Survivor(module, was, became)


def explained() -> Iterator[tuple[str, str]]:
    """Yield (module, the line as it became, as a pattern) of what may survive."""
    for entry in yaml.safe_load(EXPLAINED.read_text()) or []:
        yield str(entry["module"]), str(entry["became"])


def main(words: Sequence[str]) -> int:
    modules = [module for module in MODULES if not words or any(word in module for word in words)]
    known = list(explained())
    unknown = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for module, (tried, left) in zip(modules, pool.map(survivors, modules), strict=True):
            new = [
                one
                for one in left
                if not any(name == module and re.fullmatch(became, one.became) for name, became in known)
            ]
            unknown += len(new)
            sys.stdout.write(f"{module}: {tried} tried, {len(left)} survived, {len(new)} of these without a reason\n")
            for one in new:
                sys.stdout.write(f"  - {one.was}\n  + {one.became}\n")
            sys.stdout.flush()
    return 1 if unknown else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("words", nargs="*", help="only the modules whose path contains one of these")
    sys.exit(main(parser.parse_args().words))
