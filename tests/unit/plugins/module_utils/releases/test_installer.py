"""uv is installed once on a machine, though its apps are built at the same time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import paths
from ansible_collections.celeryops.stack.plugins.module_utils.releases import installer
from ansible_collections.celeryops.stack.plugins.module_utils.releases.installer import Installer


class Programs:
    """Runs nothing; pip installs uv."""

    def __init__(self, uv: Path) -> None:
        self.uv, self.ran = uv, 0

    def run(self, words: Sequence[str], _environment: dict[str, str], _failed: str) -> None:
        self.ran += 1
        if "install" in words:
            provide(self.uv)


def provide(uv: Path) -> None:
    uv.parent.mkdir(parents=True, exist_ok=True)
    uv.write_text("#!/bin/sh\n")
    uv.chmod(0o755)


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "UV", str(tmp_path / "uv"))
    return tmp_path / "uv" / "bin" / "uv"


def installing(uv: Path, monkeypatch: pytest.MonkeyPatch, *, meanwhile: Callable[[], None]) -> Programs:
    """Ask for uv; something happens while the lock is waited for."""

    @contextlib.contextmanager
    def locked(_name: str) -> Iterator[None]:
        meanwhile()
        yield

    monkeypatch.setattr(installer, "locked", locked)
    programs, request = Programs(uv), {"installer": "uv", "uv_package": "uv"}
    nobody: Any = None
    assert Installer(request, programs, nobody).uv() == str(uv)  # type: ignore[arg-type]
    return programs


def test_uv_is_installed_where_there_is_none(uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert installing(uv, monkeypatch, meanwhile=lambda: None).ran == 2


def test_what_another_app_has_installed_meanwhile_is_taken(uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert installing(uv, monkeypatch, meanwhile=lambda: provide(uv)).ran == 0


def test_uv_that_is_there_is_waited_for_by_nobody(uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provide(uv)
    assert installing(uv, monkeypatch, meanwhile=lambda: pytest.fail("waited")).ran == 0
