"""What is in the virtual environment of a release."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.releases import virtualenv


def test_versions_are_read_from_the_environment(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.13" / "site-packages"
    for name in ("celery-5.7.0.dist-info", "celery_redbeat-2.4.2.dist-info"):
        (packages / name).mkdir(parents=True)
    assert virtualenv.versions(str(tmp_path)) == {"celery": "5.7.0", "kombu": None}


def test_what_came_from_an_index_is_read_from_the_environment(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.13" / "site-packages"
    names = ("celery-5.7.0", "Django_Celery.Beat-2.9.0", "shop-1.0", "numpy-2.0.0+cpu")
    for name in names:
        (packages / f"{name}.dist-info").mkdir(parents=True)
    (packages / "shop-1.0.dist-info" / "direct_url.json").write_text("{}")
    assert virtualenv.installed(str(tmp_path)) == {
        "celery": "5.7.0",
        "django-celery-beat": "2.9.0",
        "numpy": "2.0.0+cpu",
    }


def test_nobody_but_root_may_write_a_release(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "lock").chmod(0o666)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin").chmod(0o775)
    (tmp_path / "link").symlink_to("lock")
    virtualenv.close(str(tmp_path))
    assert [oct(path.stat().st_mode & 0o777) for path in (tmp_path / "lock", tmp_path / "bin")] == ["0o644", "0o755"]


def test_what_nobody_else_may_write_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, mode in (("a", 0o755), ("b", 0o644), ("c", 0o664), ("d", 0o606)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    tmp_path.chmod(0o755)
    changed: list[tuple[str, int]] = []
    monkeypatch.setattr(os, "chmod", lambda path, mode: changed.append((Path(path).name, mode)))
    virtualenv.close(str(tmp_path))
    assert sorted(changed) == [("c", 0o644), ("d", 0o604)]
