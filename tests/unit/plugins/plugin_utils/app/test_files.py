"""Files that an app wants: where they may be, who may read them, what restarts, and what is never shown of them."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.filter.own_files import FilterModule
from ansible_collections.celeryops.stack.plugins.plugin_utils.app.files import app_files, folders, read_by
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.layout import app_layout

LAYOUT = app_layout("shop")


def problems(**entry: Any) -> list[str]:
    _found, told = app_files([{"path": "a.py", "content": "x = 1\n", **entry}], LAYOUT, "shop")
    return [str(problem) for problem in told]


def test_what_nobody_says_is_safe() -> None:
    found, told = app_files([{"path": "sub/a.py", "content": "x"}, {"path": "/etc/acme/b", "src": "b"}], LAYOUT, "shop")
    assert told == []
    usual = {"owner": "root", "group": "shop", "mode": "0640", "secret": True, "groups": None}
    assert found == [
        {"path": "/etc/celeryops/shop/files/sub/a.py", **usual, "number": 0},
        {"path": "/etc/acme/b", **usual, "number": 1},
    ]
    assert folders(found, LAYOUT) == ["/etc/celeryops/shop/files", "/etc/celeryops/shop/files/sub"]
    assert "content" not in str(found)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/etc/celeryops/shop/celery.env", "is a place that this collection keeps its own files in"),
        ("/etc/celeryops/blog/files/a", "is a place that this collection keeps its own files in"),
        ("/opt/celeryops/shop/current/app/settings.py", "is a place that this collection keeps its own files in"),
        ("/etc/systemd/system/celery-shop-high.service.d/x.conf", "is a place that this collection keeps its own"),
        ("/var/lib/celeryops/shop/a", "is where the app itself may write"),
        ("/tmp/a", "is not kept over a restart of the host"),
        ("/root/deploy/shop/local_settings.py", "is where the sandbox of workers and scheduler lets them see nothing"),
        ("/root/.netrc", "is where the sandbox of workers and scheduler lets them see nothing"),
        ("//etc/celeryops/shop/celery.env", "is a place that this collection keeps its own files in"),
        ("//tmp/a", "is not kept over a restart of the host"),
        ("/etc/acme/", "is not the path of a file"),
        ("/etc/rabbitmq", "is a directory"),
        ("/var/lib/celeryops", "is a directory"),
        ("/etc/systemd/system", "is a directory"),
        ("/opt", "is a directory"),
        ("/tmp", "is a directory"),
        ("", "is not the path of a file"),
        ("../celery.env", "leads upwards"),
        ("/etc/acme/../shadow", "leads upwards"),
    ],
)
def test_a_place_that_is_somebody_elses_is_refused(path: str, reason: str) -> None:
    (told,) = problems(path=path)
    assert told.startswith(f"celery_app_files[0].path: '{path}' {reason}")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"content": None}, "celery_app_files[0]: 'a.py' has neither content nor src; write one of them"),
        ({"src": "a"}, "celery_app_files[0]: 'a.py' has both content and src"),
        ({"content": {"a": "s3cret"}}, "celery_app_files[0].content: '(not shown)' is not text: YAML or Jinja"),
        ({"mode": 0o640}, "celery_app_files[0].mode: 416 is what YAML makes of 0640; write four digits in quotes"),
        ({"mode": "640"}, "celery_app_files[0].mode: '640' is not a mode"),
        ({"mode": "0660"}, "celery_app_files[0].mode: '0660' is writable by others than its owner"),
        (
            {"mode": "0644"},
            "celery_app_files[0].mode: '0644' is readable by everyone on the host, and the file may hold secrets",
        ),
        ({"owner": "a b"}, "celery_app_files[0].owner: 'a b' is not the name of an account"),
    ],
)
def test_what_cannot_be_meant_is_told_and_never_what_is_in_it(entry: dict[str, Any], said: str) -> None:
    told = problems(**entry)
    assert len(told) == 1
    assert told[0].startswith(said)
    assert "s3cret" not in told[0]


def test_what_is_no_secret_may_be_read() -> None:
    assert problems(mode="0644", secret=False) == []


def test_who_runs_in_no_sandbox_may_have_a_file_at_home() -> None:
    assert problems(path="/root/deploy/a", groups=["celery_producers"]) == []
    assert len(problems(path="/root/deploy/a", groups=["celery_producers", "celery_beat"])) == 1


def test_a_file_is_there_once() -> None:
    files = [{"path": "a", "content": ""}, {"path": "/etc/celeryops/shop/files/a", "content": ""}]
    _found, told = app_files(files, LAYOUT, "shop")
    assert [str(problem) for problem in told] == [
        "celery_app_files[1].path: '/etc/celeryops/shop/files/a' is celery_app_files[0] as well; write each file once"
    ]


@pytest.mark.parametrize("turned", [False, True])
def test_nothing_is_below_a_file(turned: bool) -> None:
    """Which one stands first says nothing; nor does a name that only begins alike."""
    files = [{"path": path, "content": ""} for path in ("/etc/x/a", "/etc/x/ab", "/etc//x/a/b/c", "a", "a/b")]
    if turned:
        files.reverse()
    _found, told = app_files(files, LAYOUT, "shop")
    own, number = "/etc/celeryops/shop/files", (lambda at: 4 - at) if turned else int
    assert sorted(map(str, told)) == sorted(
        f"celery_app_files[{number(inner)}].path: '{path}' is below celery_app_files[{number(outer)}], which is a file "
        f"({above}); write another path here, or in celery_app_files[{number(outer)}]"
        for inner, path, outer, above in ((2, "/etc/x/a/b/c", 0, "/etc/x/a"), (4, f"{own}/a/b", 3, f"{own}/a"))
    )


def test_what_is_no_path_has_nothing_below_it() -> None:
    _found, told = app_files([{"path": path, "content": ""} for path in ("", "/", "a")], LAYOUT, "shop")
    assert [problem.variable for problem in told] == ["celery_app_files[0].path", "celery_app_files[1].path"]


def test_a_change_restarts_what_reads_the_file() -> None:
    files = [
        {"path": "all"}, {"path": "/etc/one", "restarts": ["high", "beat"]}, {"path": "none", "restarts": []},
        {"path": None}, 5,
    ]  # fmt: skip
    everybodys = "/etc/celeryops/shop/files/all"
    assert read_by(files, LAYOUT, "high") == [everybodys, "/etc/one"]  # type: ignore[arg-type]  # told elsewhere
    assert read_by(files, LAYOUT, "beat") == [everybodys, "/etc/one"]  # type: ignore[arg-type]
    assert read_by(files, LAYOUT, "bulk") == [everybodys]  # type: ignore[arg-type]


def test_a_host_gets_those_of_its_groups_with_their_content() -> None:
    files = [{"path": "a", "content": "x", "groups": ["celery_workers"]}, {"path": "b", "src": "y", "mode": "0600"}]
    found, _told = app_files(files, LAYOUT, "shop")
    placed = FilterModule().filters()["own_files"]
    assert [entry["path"] for entry in placed(found, files, ["celery_workers", "all"])] == [
        "/etc/celeryops/shop/files/a",
        "/etc/celeryops/shop/files/b",
    ]
    everywhere = [{"path": "a", "content": "x", "groups": ["all"]}]
    assert len(placed(app_files(everywhere, LAYOUT, "shop")[0], everywhere, ["celery_workers"])) == 1
    assert placed(found, files, ["celery_producers"]) == [{
        "path": "/etc/celeryops/shop/files/b", "owner": "root", "group": "shop", "mode": "0600", "secret": True,
        "own": True, "src": "y",
    }]  # fmt: skip
