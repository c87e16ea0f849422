"""What an app says of settings that the role decides is told once, with the place for another value."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.action.release import completed
from ansible_collections.celeryops.stack.plugins.modules import release as module
from ansible_collections.celeryops.stack.plugins.plugin_utils.replaced import told

REPLACED = [
    {"setting": "task_routes", "app": "a.b to mails", "here": "a.b to default"},
    {"setting": "task_acks_late", "app": "False", "here": "True"},
    {"setting": "task_queues", "app": "mails", "here": "default"},
]


def test_one_warning_says_all_in_sorted_lines() -> None:
    head, *lines = told("shop.celery:app", REPLACED, []).splitlines()
    assert head.startswith("shop.celery:app has settings of its own that do not hold")
    assert [line.removesuffix(" to have another value") for line in lines] == [
        "- task_acks_late: the app says False, here True holds; write celery_app_settings.task_acks_late",
        "- task_queues: the app says mails, here default holds; write celery_app_queues",
        "- task_routes: the app says a.b to mails, here a.b to default holds; write celery_app_routes",
    ]


def test_what_the_inventory_decides_outright_is_not_told() -> None:
    assert "task_acks_late" not in told("shop:app", REPLACED, ["task_acks_late"])
    assert told("shop:app", REPLACED[1:2], ["task_acks_late"]) == ""
    assert told("shop:app", [], []) == ""


class Host:
    """Answers nothing."""

    check_mode = False

    def warn(self, text: str) -> None:
        raise AssertionError(text)


def test_a_release_tells_it_when_it_is_tried_and_not_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    release = tmp_path / "shop" / "releases" / "one"
    packages = release / "lib" / "python3.13" / "site-packages"
    for name in ("celery", "kombu"):
        (packages / f"{name}-5.7.0.dist-info").mkdir(parents=True)
    (release / "bin").mkdir()
    (release / "bin" / "python").write_text("")
    (tmp_path / "shop" / "current").symlink_to("releases/one")
    report = json.dumps({"celeryops": {"tasks": ["a.b"], "replaced": REPLACED}})
    monkeypatch.setattr(module.trial, "run_as", lambda *_arguments: (0, f"{report}\n"))

    def run() -> dict[str, Any]:
        request = completed({
            "name": "shop", "import": "shop:app", "user": pwd.getpwuid(os.getuid()).pw_name, "select": "current",
            "source": {"type": "pip", "packages": ["shop"]}, "hold": True,
        })  # fmt: skip
        result: dict[str, Any] = module.Release(Host(), request).run()  # type: ignore[arg-type]
        return result

    assert run()["replaced"] == REPLACED
    assert "replaced" not in run()
