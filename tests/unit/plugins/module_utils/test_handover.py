"""What stands in for a worker while it is replaced: its unit, and the unit that takes its place again."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from worker_plans import unit_text

from ansible_collections.celeryops.stack.plugins.module_utils import handover, paths


def test_a_stand_in_is_the_same_worker_with_places_and_a_name_of_its_own() -> None:
    own = unit_text("high", queues=["payments"], memory_max="1G").splitlines()
    other = handover.stand_in("\n".join(own) + "\n", "shop", "high", "_standin").splitlines()
    changed = [line for line in other if line not in own]
    assert [line.split(" ")[0] for line in changed] == [
        "#",
        next(line.split(" ")[0] for line in own if line.startswith("ExecStart=")),
        "SyslogIdentifier=celery-shop-high_standin",
        "RuntimeDirectory=celeryops/shop/high_standin",
    ]
    assert "--hostname=high_standin@%%h" in changed[1]
    # Nothing would start it at boot.
    assert [line for line in own if line not in other][-2:] == ["[Install]", "WantedBy=celery-shop.target"]
    assert "role celery_worker" not in other[0], "the role removes what has its own mark and is in no inventory"


def test_a_class_whose_name_begins_another_is_not_confused() -> None:
    text = handover.stand_in(unit_text("high", environment={"HIGH": "high@x"}), "shop", "high", "_standin2")
    assert "--hostname=high_standin2@%%h" in text
    assert "HIGH=high@x" in text
    with pytest.raises(ValueError, match=r"run site\.yml first"):
        handover.stand_in(unit_text("high-prio"), "shop", "high", "_standin")


def test_the_names_of_transient_units_belong_to_no_class() -> None:
    for suffix in (*handover.SLOTS, handover.HANDOVER):
        name = handover.transient("shop", "high-prio", suffix)
        assert handover.class_of("shop", name) == ("high-prio", suffix)
    for other in ("celery-shop-high.service", "celery-shop-high-standin.service", "celery-shop2-high_standin.service"):
        assert handover.class_of("shop", other) is None


def test_a_handover_restarts_before_it_ends_the_stand_in() -> None:
    text = handover.handover("shop", "high", 900)
    lines = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    assert lines[0] == "ExecStart=/usr/bin/systemctl restart celery-shop-high.service"
    for slot, line in zip(handover.SLOTS, lines[1:], strict=False):
        # As systemd.service(5) reads it: nothing in there is a variable, a specifier or an escape.
        assert shlex.split(line.removeprefix("ExecStart=-")) == [
            "/bin/sh",
            "-c",
            handover.end("shop", "high", slot, 900),
        ]
        assert not set("$%\\") & set(line)
    assert lines[-2] == "ExecStart=/usr/bin/rm -f /run/systemd/system/celery-shop-high_handover.service"
    assert "TimeoutStartSec=infinity" in text


def test_a_stand_in_gets_word_of_its_time_before_it_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell runs what systemd would: with programs that only write down that they were called."""
    monkeypatch.setattr(paths, "TRANSIENT_UNITS", str(tmp_path))
    monkeypatch.setattr(paths, "RUN", str(tmp_path))
    for name, text in (("systemctl", f'echo "$@" >> {tmp_path}/told'), ("systemd-run", 'shift 5; exec "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    # systemd 252 does not read it again as it was.
    assert ";" not in handover.end("shop", "high", "_standin", 900).partition("/bin/sh")[2]
    unit = tmp_path / "celery-shop-high_standin.service"
    folder = tmp_path / "shop" / "high_standin"
    folder.mkdir(parents=True)
    precious = tmp_path / "precious"
    precious.write_text("untouched")
    # The directory is the app's, which must not have root write where it wants.
    (folder / "drain").symlink_to(precious)

    def run() -> None:
        command = handover.end("shop", "high", "_standin", 900)
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        subprocess.run(["/bin/sh", "-c", command], check=True, env=environment)

    run()
    assert not (tmp_path / "told").exists(), "there is no stand-in"
    unit.write_text("")
    run()
    assert ((folder / "drain").read_text(), (folder / "drain").is_symlink()) == ("900\n", False)
    assert precious.read_text() == "untouched"
    assert not unit.exists()
    assert (tmp_path / "told").read_text().splitlines() == [
        "stop celery-shop-high_standin.service",
        "daemon-reload",
        "reset-failed celery-shop-high_standin.service",
    ]


@pytest.mark.parametrize(
    ("running", "active", "only_moved", "rolls"),
    [
        ("/r/new", True, False, True),
        ("/r/new", True, True, False),
        ("/r/old", True, True, True),
        # Nobody can tell: to restart in vain is better than to leave the old one.
        (None, True, True, True),
        ("/r/new", False, True, True),
    ],
)
def test_who_is_replaced(running: str | None, active: bool, only_moved: bool, rolls: bool) -> None:
    assert handover.must_roll(running, "/r/new", active=active, only_moved=only_moved) is rolls


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (["a", "b"], ""),
        (["a"], "it consumes a, and not a, b"),
        ([], "it consumes nothing, and not a, b"),
        ("a, b", "it consumes nothing, and not a, b"),
        (None, "it consumes nothing, and not a, b"),
    ],
)
def test_what_a_worker_consumes_instead(found: Any, told: str) -> None:
    assert handover.not_as_wanted({"queues": ["b", "a"]}, {"queues": found}) == told
