"""How the packages beside the app's own are made to fit: what is tried in which order, and what is said of it."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.releases import resolve
from ansible_collections.celeryops.stack.plugins.module_utils.releases.resolve import Attempt

FLOOR = "celery>=5.4"


def test_what_the_app_got_stays_before_anything_moves() -> None:
    installed = {"shop": "1.4+local", "celery": "5.6.3", "kombu": "5.7.0", "redis": "6.4.0"}
    exact = ("celery==5.6.3", "kombu==5.7.0", "redis==6.4.0", "shop==1.4+local", FLOOR)
    assert list(resolve.attempts(["celery[redis]>=5.7", "gunicorn>=23"], installed, "rabbitmq")) == [
        Attempt(("celery[redis]>=5.7", "gunicorn>=23"), exact),
        Attempt(("celery[redis]", "gunicorn>=23"), exact, bent=True),
        Attempt(("celery", "redis", "gunicorn>=23"), exact, bent=True),
        Attempt(("celery[redis]>=5.7", "gunicorn>=23"), ("shop>=1.4", FLOOR), moved=True),
        Attempt(("celery[redis]", "gunicorn>=23"), ("shop>=1.4", FLOOR), bent=True, moved=True),
        Attempt(("celery", "redis", "gunicorn>=23"), ("shop>=1.4", FLOOR), bent=True, moved=True),
    ]


def test_nothing_is_tried_twice() -> None:
    assert list(resolve.attempts(["celery[redis]"], {}, "rabbitmq")) == [
        Attempt(("celery[redis]",), (FLOOR,)),
        Attempt(("celery", "redis"), (FLOOR,), bent=True),
    ]


def test_kombus_own_extra_says_what_its_transport_works_with() -> None:
    found = list(resolve.attempts(["celery[redis]"], {"celery": "5.4.0", "kombu": "5.7.0", "x": "1"}, "redis"))
    assert [(entry.lines, entry.moved) for entry in found] == [
        (("celery[redis]", "kombu[redis]"), False),
        (("celery[redis]", "kombu[redis]"), True),
        (("celery", "redis"), True),
    ]
    assert found[0].constraints == ("celery==5.4.0", "kombu==5.7.0", "x==1", FLOOR)
    assert found[1].constraints == ("x>=1", FLOOR)
    assert not found[0].bent


def test_a_pin_below_the_floor_is_told_later() -> None:
    assert next(resolve.attempts(["celery[redis]"], {"celery": "5.3.6"}, "rabbitmq")).constraints == ("celery==5.3.6",)


@pytest.mark.parametrize(
    ("line", "any_version", "bare"),
    [
        ("celery[redis]", "celery[redis]", ["celery", "redis"]),
        ("Celery [redis,msgpack]>=5.7,<6", "Celery[redis,msgpack]", ["Celery[msgpack]", "redis"]),
        ("kombu==5.6.2 ; python_version > '3'", "kombu; python_version > '3'", ["kombu; python_version > '3'"]),
        ("redis>=8", "redis", ["redis"]),
        ("celery @ https://h/celery.whl", "celery @ https://h/celery.whl", ["celery @ https://h/celery.whl"]),
        ("celery-redbeat>=2", "celery-redbeat>=2", ["celery-redbeat>=2"]),
        ("gunicorn[gevent]>=23", "gunicorn[gevent]>=23", ["gunicorn[gevent]>=23"]),
    ],
)
def test_only_celery_and_what_belongs_to_it_bends(line: str, any_version: str, bare: list[str]) -> None:
    assert resolve._without_version(line) == any_version
    assert resolve._without_extras(any_version) == bare


@pytest.mark.parametrize(
    ("line", "installed", "lacks"),
    [
        ("celery[redis]", {"celery": "5.7.0"}, True),
        ("celery[redis]", {"celery": "5.7.0", "redis": "8.1.0"}, False),
        ("kombu[redis]", {}, True),
        ("celery", {}, False),
        ("gunicorn[redis]", {}, False),
    ],
)
def test_an_override_may_take_an_extra_away(line: str, installed: dict[str, str], *, lacks: bool) -> None:
    assert resolve.lacks_redis(Attempt((line,), ()), installed) is lacks


UV = "  x No solution found when resolving dependencies:\n  ╰─▶ Because a depends on b==1 ..."
PIP = (
    "ERROR: Cannot install celery==5.6.3 and celery>=5.7 because these package versions have conflicting dependencies."
)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (UV, True),
        (PIP, True),
        ("ERROR: ResolutionImpossible: for help visit", True),
        ("we can conclude that your\n   requirements are unsatisfiable.", True),
        ("ERROR: No matching distribution found for shop==9", True),
        ("error: Failed to fetch: https://pypi.org/simple/", False),
        ("fatal error: Python.h: No such file or directory", False),
        ("", False),
    ],
)
def test_a_contradiction_is_no_other_failure(output: str, expected: bool) -> None:
    assert resolve.contradicts(output) is expected


@pytest.mark.parametrize(
    "output",
    [
        "src/x.c:1:10: fatal error: Python.h: No such file or directory",
        "lz4.c:3:10: fatal error: lz4/lz4frame.h: No such file",
        "error: command 'gcc' failed: No such file or directory",
        "error: command 'x86_64-linux-gnu-gcc' failed with exit code 1",
        "Error: pg_config executable not found.",
        "/bin/sh: 1: pkg-config: not found",
        "OSError: mysql_config not found",
        "error: can't find Rust compiler; Rust toolchain is not installed",
        "/usr/bin/ld: cannot find -lpq: No such file or directory",
        "CMake Error: cmake could not be found",
        "ERROR: Unknown compiler(s): [['cc'], ['gcc']]",
    ],
)
def test_a_build_that_lacks_something_names_the_variable(output: str) -> None:
    said = resolve.way_out(output, "celery_app", "uv")
    assert "celery_app_system_packages" in said
    assert "flower_packages" in resolve.way_out(output, "flower", "uv")


@pytest.mark.parametrize(
    "output", ["Failed to fetch: https://h/celery/", "401 Unauthorized", "No space left on device"]
)
def test_of_other_failures_nothing_is_said(output: str) -> None:
    assert resolve.way_out(output, "celery_app", "uv") == ""


def test_a_contradiction_names_what_can_bend() -> None:
    assert "what has to bend into celery_app_source.overrides (a line" in resolve.way_out(UV, "celery_app", "uv")
    assert "celery_app_installer: uv" in resolve.way_out(PIP, "celery_app", "pip")
    assert "celery_app_extra_packages" in resolve.way_out(UV, "celery_app", "uv", added=True)
    assert "flower_packages" in resolve.way_out(UV, "flower", "uv")
    # A contradiction between packages that are built from source is still one.
    assert "overrides" in resolve.way_out(f"{UV}\ngcc failed", "celery_app", "uv")


def test_what_is_told_of_the_way_that_worked() -> None:
    before = {"celery": "5.7.0", "kombu": "5.7.0", "redis": "5.3.1", "x": "1"}
    extra = ["celery[redis]"]
    assert resolve.told(Attempt(("celery[redis]",), ()), {"celery": "5.7.0"}, before, extra) == ""
    assert resolve.told(Attempt(("celery",), (), bent=True), before, before, extra) == (
        "celery_app_extra_packages (celery[redis]) does not fit what the app itself asks for, which wins: the release "
        "has celery 5.7.0, kombu 5.7.0, redis 5.3.1"
    )
    after = {**before, "celery": "5.6.3", "kombu": "5.6.2", "x": "2"}
    assert resolve.told(Attempt(("celery[redis]",), (), moved=True), before, after, extra) == (
        "celery_app_extra_packages (celery[redis]) fits the app's own requirements only with celery 5.6.3 in place of "
        "5.7.0, kombu 5.6.2 in place of 5.7.0; no other package is older than what the app alone would get"
    )


@pytest.mark.parametrize(
    "line",
    [
        "error: Multiple top-level packages discovered in a flat-layout: ['shop', 'mails'].",
        "RuntimeError: Building a package is not possible in non-package mode.",
    ],
)
def test_a_project_that_is_no_package_is_told_how_it_gets_there(line: str) -> None:
    """As ``uv init`` and Poetry's package-mode = false make them."""
    output = f"  x Failed to build shop\n  {line}\n  1. set up custom discovery\n"
    assert "install_as: tree" in resolve.way_out(output, "celery_app", "uv")
    assert resolve.way_out(output, "flower", "uv") == ""
