"""What of a unit's sandbox may be changed, and that nothing in it gives root back."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.sandbox import ALLOWED, SANDBOX, sandbox


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("ExecStartPre", "+/bin/sh -c id", "runs a command"),
        ("ExecStopPost", "/bin/kill", "runs a command"),
        ("SupplementaryGroups", "sudo", "rights of other accounts"),
        ("AmbientCapabilities", "CAP_SYS_ADMIN", "rights of root"),
        ("AmbientCapabilities", ["", "CAP_SETUID"], "rights of root"),
        ("CapabilityBoundingSet", "~CAP_SYS_ADMIN", "rights of root"),
        ("CapabilityBoundingSet", None, "rights of root"),
        ("NoNewPrivileges", False, "become root"),
        ("NoNewPrivileges", None, "become root"),
        ("NoNewPrivileges", "off", "become root"),
        ("ReadWritePaths", "/", "holds code"),
        ("ReadWritePaths", "/srv/a -/etc/cron.d", "holds code"),
        ("ReadWritePaths", ["/srv/a", "/opt"], "holds code"),
        ("ReadWritePaths", "/usr/../srv", "not an absolute path"),
        ("ReadWritePaths", "%t", "not an absolute path"),
        ("ReadWritePaths", "+/srv/a", "lifts the sandbox"),
        ("InaccessiblePaths", "!/srv/a", "lifts the sandbox"),
        ("ReadOnlyPaths", "srv", "not an absolute path"),
        ("BindPaths", "/:/srv", "not a directive of the sandbox"),
        ("StandardOutput", "file:/etc/passwd", "not a directive of the sandbox"),
        ("PAMName", "su", "not a directive of the sandbox"),
        ("LoadCredential", "x:/etc/shadow", "not a directive of the sandbox"),
        ("PrivateTmp", "maybe", "not one of its values"),
        ("ProtectSystem", ["strict", "some"], "not one of its values"),
        ("UMask", {"a": 1}, "not a value"),
        ("UMask", "0027\nUser=root", "not a value"),
        ("UMask", 0o077, "a number to YAML"),
        ("UMask", "0o77", "not a mask"),
        ("UMask", "", "not a mask"),
        ("StateDirectory", "x", "set by the role"),
        (7, "x", "not a systemd directive"),
    ],
)
def test_what_would_lift_the_sandbox_is_refused_and_leaves_no_line(name: Any, value: Any, reason: str) -> None:
    lines, problems = sandbox({name: value}, "flower_hardening")
    assert [problem.variable for problem in problems] == [f"flower_hardening.{name}"]
    assert reason in problems[0].reason
    assert lines == sandbox({}, "flower_hardening")[0]


@pytest.mark.parametrize(
    ("name", "value", "lines"),
    [
        ("NoNewPrivileges", "true", ["true"]),
        ("AmbientCapabilities", "", [""]),
        ("MemoryDenyWriteExecute", False, ["no"]),
        ("ProtectHome", "read-only", ["read-only"]),
        ("PrivateUsers", "On", ["On"]),
        ("ProtectHome", None, []),
        # systemd 252 ignores what it does not know, and keeps what came before.
        ("PrivateTmp", "disconnected", ["yes", "disconnected"]),
        ("PrivateUsers", "self", ["yes", "self"]),
        ("ProtectControlGroups", "strict", ["yes", "strict"]),
        ("ProtectControlGroups", False, ["no"]),
        ("UMask", "0077", ["0077"]),
        ("CPUQuota", "150%", ["150%"]),
        ("OOMScoreAdjust", 200, ["200"]),
        ("DeviceAllow", ["/dev/nvidia0 rw", "/dev/nvidiactl rw"], ["/dev/nvidia0 rw", "/dev/nvidiactl rw"]),
        ("SystemCallFilter", "~@resources", ["~@resources"]),
        ("ReadWritePaths", "/srv/a -/srv/b", ["/srv/a -/srv/b"]),
        ("ReadOnlyPaths", "-/srv", ["-/srv"]),
    ],
)
def test_what_an_app_may_need_is_allowed(name: str, value: Any, lines: list[str]) -> None:
    written, problems = sandbox({name: value}, "celery_beat_hardening")
    assert problems == []
    assert [line.partition("=")[2] for line in written if line.startswith(f"{name}=")] == lines


def test_all_of_the_sandbox_may_be_spoken_of() -> None:
    assert set(SANDBOX) <= ALLOWED


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("ProtectHme", "ProtectHome (did you mean that?)"),
        # Not the one that may not be changed.
        ("AmbientCapabilites", "one such as MemoryDenyWriteExecute or ReadWritePaths"),
        ("BindPaths", "one such as MemoryDenyWriteExecute or ReadWritePaths"),
    ],
)
def test_what_else_may_be_meant_is_said(name: str, instead: str) -> None:
    (problem,) = sandbox({name: "x"}, "flower_hardening")[1]
    assert problem.instead == instead
