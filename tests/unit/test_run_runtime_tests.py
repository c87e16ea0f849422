"""Which versions the runtime's tests run with, and what counts as passed."""

from __future__ import annotations

import pytest

from run_runtime_tests import ROOT, VERSIONS, passed, read, tools


def pinned(packages: tuple[str, ...]) -> dict[str, str]:
    return dict(package.split("==") for package in packages)


def test_every_celery_has_a_set_and_those_that_are_older_are_always_run() -> None:
    sets = read(VERSIONS.read_text(encoding="utf-8"))
    found = [(pinned(one.packages)["celery"], one.always) for one in sets]
    assert {version for version, _always in found} == {"5.4.0", "5.5.3", "5.6.3", "5.7.0"}
    # The development's own Celery is run by `check-tests`.
    assert "celery==5.7.0" in (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").split()
    assert sorted(version for version, always in found if always) == ["5.4.0", "5.5.3", "5.6.3"]
    assert all({"celery", "kombu", "redis", "amqp"} <= set(pinned(one.packages)) for one in sets)
    assert len({one.name for one in sets}) == len(sets)


def test_where_kombu_matters_there_are_two() -> None:
    kombus: dict[str, set[str]] = {}
    for one in read(VERSIONS.read_text(encoding="utf-8")):
        pins = pinned(one.packages)
        kombus.setdefault(pins["celery"], set()).add(pins["kombu"])
    assert kombus["5.4.0"] == {"5.4.2", "5.7.0"}
    assert kombus["5.6.3"] == {"5.6.2", "5.7.0"}


@pytest.mark.parametrize("line", ["5.4", "5.4 celery", "*5.4 celery==5.4.0 kombu>=5"])
def test_a_set_is_a_name_and_exact_versions(line: str) -> None:
    with pytest.raises(ValueError, match="exact versions"):
        read(line)


def test_comments_and_stars() -> None:
    first, second = read("# a line\n\n*a x==1 y==2\n b x==2\n")
    assert (first.name, first.packages, first.always) == ("a", ("x==1", "y==2"), True)
    assert (second.name, second.always) == ("b", False)


def test_the_tools_are_those_of_the_development() -> None:
    text = "# made\npytest==9.2.0\npytest-testinfra==1\npytest-xdist==3\ncelery==5.7.0\nhypothesis==6\n"
    assert tools(text) == ["pytest==9.2.0", "pytest-xdist==3", "hypothesis==6"]


@pytest.mark.parametrize(
    ("last", "number"),
    [
        ("357 passed in 40.11s", "357"),
        ("300 passed, 57 deselected, 2 warnings in 40.11s", "300"),
        ("356 passed, 1 skipped in 40.11s", ""),
        ("356 passed, 1 xfailed in 40.11s", ""),
        ("no tests ran in 0.1s", ""),
    ],
)
def test_a_skipped_test_is_no_test_that_passed(last: str, number: str) -> None:
    assert passed(f"......\n{last}\n") == number
