"""What the tests of several hosts share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fleet import ROOT, Fleet

Source = dict[str, str]


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Source]:
    """Return the source of another release of the app, with one line more: release("1", "raise RuntimeError")."""

    def make(name: str, line: str = "") -> Source:
        folder = tmp_path_factory.mktemp("releases") / "app"
        app = ROOT / "molecule" / "fleet" / "app"
        shutil.copytree(app, folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
        with (folder / "src" / "fleet_app" / "__init__.py").open("a") as stream:
            stream.write(f"\n# {name}\n{line}\n")
        return {"type": "path", "path": str(folder)}

    return make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """A failure brings the last lines of the journals with it."""
    report = yield
    fleet = getattr(item, "funcargs", {}).get("fleet")
    if report.when == "call" and report.failed and fleet is not None:
        for name, host in fleet.hosts.items():
            journal = host.run("timeout 20 journalctl --no-pager --lines=40 --output=short --unit='celery-*'")
            report.sections.append((f"journal of {name}", journal.stdout))
    return report
