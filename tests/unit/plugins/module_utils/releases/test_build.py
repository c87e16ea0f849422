"""What a release does with the packages beside the app's own, and which versions it is taken into use with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from release_request import procedure

from ansible_collections.celeryops.stack.plugins.module_utils import paths
from ansible_collections.celeryops.stack.plugins.module_utils.releases.build import Build
from ansible_collections.celeryops.stack.plugins.module_utils.releases.identity import release_id
from ansible_collections.celeryops.stack.plugins.module_utils.releases.programs import ReleaseError

CONTRADICTION = "error: No solution found when resolving dependencies:\n  Because ..."


def install(path: Path, **versions: str) -> None:
    for name, version in versions.items():
        (path / "lib" / "python3.13" / "site-packages" / f"{name}-{version}.dist-info").mkdir(parents=True)


def build(tmp_path: Path, **options: Any) -> Build:
    one = procedure(work=str(tmp_path), **{"extra_packages": ["celery[redis]>=5.7", "gunicorn"], **options})
    return Build(one.request, one.store, one.source, one.programs, one.verification)


def installer(
    found: Build, path: Path, monkeypatch: pytest.MonkeyPatch, *outputs: str, **brings: str
) -> list[tuple[str, str]]:
    """Let an installer say ``outputs`` one after the other, and then install ``brings``; return what it was asked."""
    asked: list[tuple[str, str]] = []

    def command(words: list[str], _environment: dict[str, str], failed: str, **_more: bool) -> str:
        asked.append((Path(words[-3]).read_text(), Path(words[-1]).read_text()))
        if len(asked) <= len(outputs):
            error = ReleaseError(failed)
            error.output = outputs[len(asked) - 1]
            raise error
        install(path, **brings)
        return ""

    monkeypatch.setattr(found.programs, "run", command)
    monkeypatch.setattr(found.installer, "uv", lambda: "uv")
    monkeypatch.setattr(paths, "CACHE", str(path.parent / "cache"))
    return asked


def test_what_fits_is_added_to_what_the_app_got(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "env"
    install(path, celery="5.7.0", shop="1.4")
    found = build(tmp_path)
    asked = installer(found, path, monkeypatch, redis="8.1.0")
    found.add_extra(str(path), ["--requirement", "app.txt"])
    assert asked == [("celery[redis]>=5.7\ngunicorn\n", "celery==5.7.0\nshop==1.4\ncelery>=5.4\n")]
    assert found.warnings == []


def test_what_the_app_pins_wins_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "env"
    install(path, celery="5.6.3")
    found = build(tmp_path)
    asked = installer(found, path, monkeypatch, CONTRADICTION, redis="6.4.0")
    found.add_extra(str(path), [])
    assert [lines for lines, _held in asked] == ["celery[redis]>=5.7\ngunicorn\n", "celery[redis]\ngunicorn\n"]
    (told,) = found.warnings
    assert "does not fit what the app itself asks for, which wins: the release has celery 5.6.3, redis 6.4.0" in told


def test_an_extra_that_an_override_took_away_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "env"
    install(path, celery="5.7.0")
    found = build(tmp_path, extra_packages=["celery[redis]"])
    asked = installer(found, path, monkeypatch)
    found.add_extra(str(path), [])
    assert [lines for lines, _held in asked[:2]] == ["celery[redis]\n", "celery\nredis\n"]


def test_another_failure_is_no_reason_to_try_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = build(tmp_path)
    asked = installer(found, tmp_path / "env", monkeypatch, "gcc: not found")
    with pytest.raises(ReleaseError, match="celery_app_system_packages"):
        found.add_extra(str(tmp_path / "env"), [])
    assert len(asked) == 1


def test_where_nothing_fits_the_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = build(tmp_path)
    asked = installer(found, tmp_path / "env", monkeypatch, *[CONTRADICTION] * 9)
    with pytest.raises(ReleaseError, match=r"could not be installed\nWrite into celery_app_extra_packages what"):
        found.add_extra(str(tmp_path / "env"), [])
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("versions", "changes", "told"),
    [
        ({"celery": "5.4.0", "kombu": "5.7.0"}, {}, ""),
        ({"celery": "5.3.6", "kombu": "5.7.0"}, {}, r"write celery\[redis\]>=5\.4 into celery_app_source\.overrides"),
        ({"celery": "5.3.6", "kombu": "5.7.0"}, {"role": "flower"}, r"write celery>=5\.4 into flower_packages"),
        ({"kombu": "5.7.0"}, {}, "celery is not installed"),
        ({"celery": "5.4.0", "kombu": "5.7.0", "redis": "5.3.1"}, {"broker": "redis"}, "start no worker with Redis"),
        ({"celery": "5.4.0", "kombu": "5.7.0", "redis": "5.3.1"}, {}, ""),
        ({"celery": "5.5.3", "kombu": "5.7.0"}, {}, r"write kombu>=5\.5\.2,<5\.6 into celery_app_source\.constraints"),
    ],
)
def test_versions_that_are_not_taken_into_use(
    tmp_path: Path, versions: dict[str, str], changes: dict[str, Any], told: str
) -> None:
    install(tmp_path / "env", **versions)
    found = procedure(**changes).verification
    if not told:
        found.fits(str(tmp_path / "env"), "the release x")
        return
    with pytest.raises(ReleaseError, match=f"the release x was not taken into use: .*{told}"):
        found.fits(str(tmp_path / "env"), "the release x")


def test_what_the_configuration_counts_on_ends_a_release_but_no_way_back(tmp_path: Path) -> None:
    need = {"package": "celery", "since": "5.7", "says": "a setting from celery 5.7 on", "instead": "nothing there"}
    install(tmp_path / "env", celery="5.6.3", kombu="5.6.2")
    with pytest.raises(ReleaseError, match=r"and this release has celery 5\.6\.3; write nothing there"):
        procedure(needs=[need]).verification.fits(str(tmp_path / "env"), "the release x")
    back = procedure(needs=[need], select="previous").verification
    back.fits(str(tmp_path / "env"), "the release x")
    assert back.warnings == ["a setting from celery 5.7 on, and this release has celery 5.6.3; write nothing there"]


def test_a_release_that_is_there_already_is_compared_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "PROGRAMS", str(tmp_path))
    need = {"package": "celery", "since": "5.7", "says": "x", "instead": "nothing there"}
    found = procedure(needs=[need], verify=False)
    monkeypatch.setattr(found.source, "facts", dict)
    name = release_id(found.request["source"], {})
    install(tmp_path / "shop" / "releases" / name, celery="5.6.3", kombu="5.6.2")
    (tmp_path / "shop" / "releases" / name / "release.json").write_text("{}")
    with pytest.raises(ReleaseError, match=f"the release {name} was not taken into use: x, and this release has"):
        found.run()
    assert not (tmp_path / "shop" / "current").is_symlink()
