"""What the units of an app have in common, at its boundaries."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.units import (
    check_environment,
    check_host,
    check_identity,
    check_prefix,
    check_writable_paths,
    command_line,
    directive_value,
    read_at_start,
    read_duration,
    target_unit,
    with_environment,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import DURATION_HELP


def test_the_target_is_the_same_whoever_writes_it() -> None:
    assert target_unit("shop") == (
        "# Managed by celeryops.stack (roles celery_worker, celery_beat, flower). Local changes are overwritten.\n"
        "[Unit]\n"
        "Description=All Celery units of shop\n"
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
    )


def test_only_words_that_need_quotes_get_them() -> None:
    assert command_line(["/bin/x", "--hostname=a@%h", "two words", "$HOME", "", 5]) == (
        '/bin/x --hostname=a@%%h "two words" "$$HOME" "" 5'
    )


def test_an_environment_of_its_own_is_set_by_env() -> None:
    assert with_environment({}, ["x"]) == ["x"]
    assert with_environment({"A": "1", "B": "2"}, ["x", "y"]) == ["/usr/bin/env", "A=1", "B=2", "x", "y"]


def test_what_a_process_reads_when_it_starts() -> None:
    assert read_at_start({"settings": "/s", "environment": "/e", "runtime": "/r"}) == [
        "/s",
        "/e",
        "/r/celeryops_runtime",
    ]


def test_an_environment_becomes_text() -> None:
    given = {"A": "x", "_b": 1, "C2": 1.5, "D": True, "E": False, "HOMEPAGE": "https://example.org/a:b@c"}
    assert check_environment(given, "v") == (
        {"A": "x", "_b": "1", "C2": "1.5", "D": "yes", "E": "no", "HOMEPAGE": "https://example.org/a:b@c"},
        [],
    )


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        (7, "x", Problem("test", "v.7", 7, "is not a name of an environment variable", "letters, digits and _")),
        ("1A", "x", Problem("test", "v.1A", "1A", "is not a name of an environment variable", "letters, digits and _")),
        (
            "A-B",
            "x",
            Problem("test", "v.A-B", "A-B", "is not a name of an environment variable", "letters, digits and _"),
        ),
        (
            "C_FORCE_ROOT",
            "1",
            Problem("test", "v.C_FORCE_ROOT", "1", "runs Celery as root", "nothing here: nothing runs as root"),
        ),
        ("A", ["x"], Problem("test", "v.A", ["x"], "is not one line of text", "a text or a number")),
        ("A", None, Problem("test", "v.A", None, "is not one line of text", "a text or a number")),
        ("A", "x\ny", Problem("test", "v.A", "x\ny", "is not one line of text", "a text or a number")),
    ],
)
def test_what_cannot_be_a_variable_of_a_unit(name: Any, value: Any, problem: Problem) -> None:
    assert check_environment({name: value}, "v") == ({}, [problem])


@pytest.mark.parametrize("name", ["CELERY_X", "CELERYOPS_X", "NOTIFY_SOCKET", "WATCHDOG_USEC", "PYTHONPATH"])
def test_what_the_roles_set_is_not_set_beside_them(name: str) -> None:
    instead = "it with role celery_app"
    expected = Problem("test", f"v.{name}", "(not shown)", "belongs to the shared configuration", instead)
    assert check_environment({name: "x"}, "v") == ({}, [expected])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("db_password", "x"),
        ("PASSWD", "x"),
        ("PASSPHRASE", "x"),
        ("MY_SECRET_1", "x"),
        ("TOKEN", "x"),
        ("CREDENTIALS", "x"),
        ("APIKEY", "x"),
        ("STRIPE_PRIVATE_KEY", "x"),
        ("KEY", "x"),
        ("DSN", "x"),
        ("DB_PW", "x"),
        ("BROKER", "amqp://user:secret@host/"),
        ("BROKER", "redis://:secret@host/"),
        ("CLOUD", "AKIAIOSFODNN7EXAMPLE"),
        ("HOST", "ghp_0123456789abcdefghij0123456789abcdef"),
        ("CHAT", "xoxb-123456789012-abcdefghijkl"),
        ("BANK", "sk_live_abcdefghijklmnop1234"),
        ("SIGNER", "-----BEGIN PRIVATE KEY-----"),
        ("HEADER", "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r"),
    ],
)
def test_what_looks_like_a_secret_stays_out_of_a_unit(name: str, value: str) -> None:
    reason = "looks like a secret, and everyone on the host can read a unit file"
    expected = Problem("test", f"v.{name}", "(not shown)", reason, "it into celery_app_environment")
    assert check_environment({name: value}, "v") == ({}, [expected])


@pytest.mark.parametrize(
    "name", [
        "MONKEY", "KEYS", "PWD_X", "DSNS", "KEY_FILE", "AUTH_TOKEN_TTL", "PASSWORD_HASHERS_MODULE", "TOKEN_FILE",
    ],
)  # fmt: skip
def test_what_only_sounds_like_a_secret_is_allowed(name: str) -> None:
    assert check_environment({name: "x"}, "v") == ({name: "x"}, [])


@pytest.mark.parametrize("words", [["--token-file", "/x"], ["--token-file=/x"], ["--secret_path=/x"]])
def test_the_place_of_a_secret_is_none(words: list[str]) -> None:
    assert check_prefix(["/usr/bin/env", *words], "v") == []
    assert len(check_prefix(["/usr/bin/env", "--token", "x", "--api-key=x", "--file=redis://u:p@h"], "v")) == 3
    assert len(check_prefix(["/usr/bin/env", "--cloud=AKIAIOSFODNN7EXAMPLE"], "v")) == 1


def test_who_an_app_is_and_runs_as() -> None:
    assert check_identity("flower", {}) == []
    sound = {"flower_import": "shop.celery:app.inner", "flower_user": "_shop-1", "flower_group": "a" * 32}
    assert check_identity("flower", sound) == []
    (problem,) = check_identity("flower", {"flower_group": "root"})
    assert problem.variable == "flower_group"
    wrong = {"flower_import": "shop/celery", "flower_user": "docker", "flower_group": "a" * 33}
    assert check_identity("flower", wrong) == [
        Problem(
            "test",
            "flower_import",
            "shop/celery",
            "is not an import path",
            "one such as shop.celery:app (what -A takes)",
        ),
        Problem("test", "flower_user", "docker", "amounts to root", "an account that only this app uses"),
        Problem("test", "flower_group", "a" * 33, "is not an account name", "one such as shop"),
    ]


def test_directories_that_may_be_written() -> None:
    good = ["/srv/media", "/var/lib/x/", "/srv/a..b", "/optional", "/homes/x", "/etcetera"]
    assert check_writable_paths(good, "v") == (good, [])


@pytest.mark.parametrize("path", ["media", "/srv/a b", "/srv/../etc", "/srv/..", "/a%t", "/a$b", "/a:b", "", 7])
def test_what_is_no_absolute_path(path: Any) -> None:
    expected = Problem("test", "v[1]", path, "is not an absolute path", "a directory such as /srv/media")
    assert check_writable_paths(["/srv", path], "v") == (["/srv"], [expected])


@pytest.mark.parametrize(
    "path",
    ["/", "//", "/etc", "/etc/", "//etc", "/etc/cron.d", "/opt", "/opt/celeryops/shop", "/usr/./lib", "/lib64/x"],
)
def test_code_and_configuration_are_not_written_to(path: str) -> None:
    reason = "holds code or configuration, which no worker may write to"
    expected = Problem("test", "v[0]", path, reason, "a directory that holds data only")
    assert check_writable_paths([path], "v") == ([], [expected])


def test_a_host_that_can_carry_units_and_others() -> None:
    assert check_host({}) == []
    assert check_host({"os_family": "Debian", "service_mgr": "systemd"}) == []
    assert check_host({"os_family": "RedHat", "distribution": "Rocky", "service_mgr": "openrc"}) == [
        Problem("test", "ansible_facts['distribution']", "Rocky", "is not supported", "a host with Debian 12 or newer"),
        Problem("test", "ansible_facts['service_mgr']", "openrc", "cannot run the units", "a host with systemd"),
    ]


@pytest.mark.parametrize(
    ("name", "major", "fine"),
    [
        ("Debian", "11", False),
        ("Debian", "12", True),
        ("Debian", "13", True),
        ("Debian", "forky/sid", True),
        ("Ubuntu", "11", True),
        ("Fedora", "42", False),
    ],
)
def test_platforms(name: str, major: str, fine: bool) -> None:
    problems = check_host({"distribution": name, "distribution_major_version": major, "service_mgr": "systemd"})
    assert [problem.value for problem in problems] == [f"{name} {major}"][fine:]


def test_a_duration_has_a_least_value() -> None:
    assert read_duration({"t": "10s"}, "t", 10) == (10, [])
    assert read_duration({"t": "1m"}, "t", 10) == (60, [])
    assert read_duration({"t": 9}, "t", 10) == (10, [Problem("test", "t", 9, "is shorter than 10s", DURATION_HELP)])
    assert read_duration({"t": "x"}, "t", 10) == (10, [Problem("test", "t", "x", "is not a duration", DURATION_HELP)])


def test_switches_are_written_as_systemd_does() -> None:
    assert [directive_value(value) for value in (True, False, 1, "on")] == ["yes", "no", "1", "on"]
