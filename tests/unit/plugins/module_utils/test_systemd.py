"""What is done to units, decided from what systemd says of them."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.systemd import (
    Actions,
    Status,
    decide,
    is_file_of,
    parse_show,
)

FRAGMENT = "/etc/systemd/system/a.service"
#: The main process started 100 s after the epoch.
RUNNING = """Id=a.service
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
FragmentPath=/etc/systemd/system/a.service
DropInPaths=/etc/systemd/system/a.service.d/x.conf /run/y.conf
NeedDaemonReload=no
ExecMainStartTimestampMonotonic=90000000
StateChangeTimestampMonotonic=95000000
"""
ABSENT = "Id=a.service\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\nNeedDaemonReload=no\n"
OFFSET = 10.0


def decided(show: str, times: dict[str, float] | None = None, pending: list[str] | None = None, **unit: Any) -> Actions:
    wanted = {"name": "a.service", "state": "started", "enabled": True, **unit}
    return decide([wanted], parse_show(["a.service"], show), times or {}, pending or [], OFFSET)


def test_a_unit_that_is_as_wanted_is_left_alone() -> None:
    assert not decided(RUNNING, {FRAGMENT: 99.0, "/etc/x": 99.0}, restart_on=["/etc/x"]).any()


@pytest.mark.parametrize("path", [FRAGMENT, "/etc/systemd/system/a.service.d/x.conf", "/run/y.conf", "/etc/x"])
def test_a_newer_file_that_the_unit_reads_restarts_it(path: str) -> None:
    assert decided(RUNNING, {path: 101.0}, restart_on=["/etc/x"]) == Actions(restart=["a.service"])


def test_a_file_that_the_unit_does_not_read_restarts_nothing() -> None:
    assert not decided(RUNNING, {"/etc/other": 101.0}, restart_on=["/etc/x"]).any()


@pytest.mark.parametrize("path", [FRAGMENT, "/etc/systemd/system/a.service.d/new.conf", "/etc/x"])
def test_check_mode_foresees_the_restart(path: str) -> None:
    assert decided(RUNNING, pending=[path], restart_on=["/etc/x"]) == Actions(restart=["a.service"])


LINK = "/opt/celeryops/shop/current"


@pytest.mark.parametrize(
    ("moved", "switched_at", "restarts"),
    [
        # Switched and switched back after the start: the process never ran anything else.
        ({"a.service": False}, 101.0, False),
        # It runs something else, however old the link is: the clock may have been set.
        ({"a.service": True}, 99.0, True),
        # Nobody can tell where it runs: the time of the link decides.
        ({}, 101.0, True),
        ({}, 99.0, False),
    ],
)
def test_a_unit_restarts_when_it_runs_another_release(
    moved: dict[str, bool], switched_at: float, restarts: bool
) -> None:
    wanted = {"name": "a.service", "state": "started", "runs_from": LINK}
    found = decide([wanted], parse_show(["a.service"], RUNNING), {LINK: switched_at}, [], OFFSET, moved)
    assert found == (Actions(restart=["a.service"]) if restarts else Actions())


def test_the_main_process_is_known() -> None:
    assert parse_show(["a.service"], RUNNING + "MainPID=17\n")["a.service"].pid == 17
    assert parse_show(["a.service"], RUNNING)["a.service"].pid == 0


def test_a_reload_is_measured_by_the_last_change_of_state() -> None:
    assert not decided(RUNNING, {"/etc/x": 104.0}, reload_on=["/etc/x"]).any()
    assert decided(RUNNING, {"/etc/x": 106.0}, reload_on=["/etc/x"]) == Actions(reload=["a.service"])


def test_a_unit_that_does_not_exist_yet_is_enabled_and_started() -> None:
    assert decided(ABSENT) == Actions(enable=["a.service"], start=["a.service"])


def test_a_unit_in_a_restart_loop_is_started() -> None:
    looping = RUNNING.replace("ActiveState=active", "ActiveState=activating")
    assert decided(looping) == Actions(start=["a.service"])


def test_a_unit_that_is_about_to_start_is_stopped() -> None:
    looping = RUNNING.replace("ActiveState=active", "ActiveState=activating")
    assert decided(looping, state="stopped").stop == ["a.service"]
    for state in ("inactive", "failed", "deactivating"):
        assert decided(RUNNING.replace("ActiveState=active", f"ActiveState={state}"), state="stopped").stop == []


def test_masks_and_stops() -> None:
    assert decided(RUNNING, state="stopped", enabled=False, masked=True) == Actions(
        mask=["a.service"], disable=["a.service"], stop=["a.service"]
    )
    assert decided(ABSENT.replace("UnitFileState=", "UnitFileState=masked"), masked=False).unmask == ["a.service"]


def test_a_target_has_no_process_to_restart() -> None:
    show = RUNNING.replace("a.service", "a.target")
    wanted = {"name": "a.target", "state": "started", "enabled": True}
    times = {"/etc/systemd/system/a.target": 1000.0}
    assert not decide([wanted], parse_show(["a.target"], show), times, [], OFFSET).any()


def test_drop_ins_belong_to_their_unit_only() -> None:
    assert is_file_of("a.service", "/etc/systemd/system/a.service.d/x.conf")
    assert not is_file_of("a.service", "/etc/systemd/system/aa.service.d/x.conf")
    assert not is_file_of("a.service", "/etc/systemd/system/a.service.disabled")


def test_an_answer_of_the_wrong_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="told of 1 units when asked about 2"):
        parse_show(["a.service", "b.service"], RUNNING)


def test_all_that_systemd_says_is_read() -> None:
    files = ("/etc/systemd/system/a.service", "/etc/systemd/system/a.service.d/x.conf", "/run/y.conf")
    assert parse_show(["a.service"], RUNNING.replace("=90000000", "=90500000").replace("=95000000", "=95250000")) == {
        "a.service": Status("a.service", True, True, False, "enabled", files, False, 90.5, 95.25, 0)
    }
    failed = "LoadState=loaded\nActiveState=failed\nNeedDaemonReload=yes\nMainPID=3\n"
    assert parse_show(["a", "b"], f"{ABSENT}\n{failed}") == {
        "a": Status("a", False, False, False, "", (), False, 0.0, 0.0, 0),
        "b": Status("b", True, False, True, "", (), True, 0.0, 0.0, 3),
    }


def test_each_unit_is_decided_by_itself() -> None:
    stopped = {"name": "a.service", "state": "stopped"}
    absent = {"name": "b.service", "state": "started"}
    newer = {"name": "c.service", "state": "started"}
    shows = [RUNNING, ABSENT, RUNNING.replace("a.service", "c.service")]
    statuses = parse_show(["a.service", "b.service", "c.service"], "\n".join(shows))
    found = decide([stopped, absent, newer], statuses, {"/etc/systemd/system/c.service": 101.0}, [], OFFSET)
    assert found == Actions(stop=["a.service"], start=["b.service"], restart=["c.service"])


def test_a_mask_that_nobody_speaks_of_stays() -> None:
    masked = RUNNING.replace("UnitFileState=enabled", "UnitFileState=masked")
    assert not decided(masked, enabled=None).any()
    assert not decided(RUNNING, masked=False).any()


def test_a_file_of_the_very_moment_is_not_newer() -> None:
    assert not decided(RUNNING, {FRAGMENT: 100.0}).any()
    assert decided(RUNNING, {FRAGMENT: 100.001}) == Actions(restart=["a.service"])
