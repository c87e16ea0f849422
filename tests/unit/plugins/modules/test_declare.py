"""What the module declare looks at, and when it leaves a receipt."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import paths, receipts
from ansible_collections.celeryops.stack.plugins.modules import declare


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "PROGRAMS", str(tmp_path / "opt"))
    monkeypatch.setattr(paths, "CONFIG", str(tmp_path / "etc"))
    base, config = tmp_path / "opt" / "shop", tmp_path / "etc" / "shop"
    (base / "releases" / "one" / "lib" / "python3.13" / "site-packages" / "kombu-5.4.2.dist-info").mkdir(parents=True)
    (base / "current").symlink_to("releases/one")
    (base / "runtime").mkdir()
    (base / "runtime" / "topology.py").write_text("")
    config.mkdir(parents=True)
    for name in ("celery.env", "celery.json", "queues.json"):
        (config / name).write_text("")
    return tmp_path


def look(host: Path) -> dict[str, Any]:
    return declare.look_of(f"{host}/opt/shop/current", f"{host}/etc/shop/celery.env")


@pytest.mark.parametrize(
    "change",
    [
        lambda host: (host / "opt/shop/runtime/topology.py").write_text("more"),
        lambda host: (host / "opt/shop/releases/one/lib/python3.13/site-packages/kombu-5.5.0.dist-info").mkdir(),
        lambda host: ((host / "opt/shop/current").unlink(), (host / "opt/shop/current").symlink_to("releases/two")),
        *(
            lambda host, name=name: (host / "etc/shop" / name).write_text("more")
            for name in ("celery.env", "celery.json")
        ),
        lambda host: (host / "etc/shop/queues.json").write_text("more"),
    ],
    ids=["runtime", "kombu", "release", "environment", "settings", "queues"],
)
def test_what_decides_which_queues_are_wanted_is_looked_at(host: Path, change: Callable[[Path], Any]) -> None:
    before = look(host)
    assert look(host) == before
    time.sleep(0.05)  # the kernel stamps files by a clock of a few milliseconds
    change(host)
    assert look(host) != before


def test_what_the_broker_had_counts_once_it_has_it_again(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A binding that was missing is made without a word, so the first of two such calls proves nothing."""
    folder = str(host / "receipts")
    monkeypatch.setattr(receipts.write, "__defaults__", (folder,))
    monkeypatch.setattr(receipts.valid, "__defaults__", (folder,))
    monkeypatch.setattr(
        declare, "run_runtime", lambda *_arguments, **_options: {"missing": [], "failed": False, "objects": 3}
    )
    ended: list[dict[str, Any]] = []

    class Module:
        check_mode = False

        def __init__(self, **_options: Any) -> None:
            self.params = {"current": f"{host}/opt/shop/current", "environment_file": f"{host}/etc/shop/celery.env"}
            self.params |= {"user": "shop", "timeout": "1", "receipt": question.pop()}

        def exit_json(self, **result: Any) -> None:
            ended.append(result)

    monkeypatch.setattr(declare, "AnsibleModule", Module)
    proven = []
    question = ["other", "other", "first"]
    while question:
        declare.main()
        proven += [not one["unproven"] for one in receipts.valid(folder)]
    assert proven == [False, False, True]
    assert [result["objects"] for result in ended] == [3, 3, 3]
