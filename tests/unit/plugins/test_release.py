"""The decisions behind a release, and what the control machine sends."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError

from ansible_collections.celeryops.stack.plugins.action import release as action
from ansible_collections.celeryops.stack.plugins.module_utils import account
from ansible_collections.celeryops.stack.plugins.module_utils import release as decide
from ansible_collections.celeryops.stack.plugins.modules import release as module
from ansible_collections.celeryops.stack.plugins.plugin_utils.render import quote_environment_file

FACTS = {"python": "3.13", "machine": "x86_64", "extra_packages": ["celery"], "content": None}
PIP = {"type": "pip", "packages": ["shop==1.4.2"]}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (PIP, "1.4.2"),
        ({"type": "pip", "packages": ["shop[web]==2.0rc1 ; python_version > '3'"]}, "2.0rc1"),
        ({"type": "pip", "packages": ["shop"]}, "shop"),
        ({"type": "pip", "requirements": "shop==7.1 \\\n  --hash=sha256:00"}, "7.1"),
        ({"type": "pip", "packages": ["shop @ https://h/x"]}, "shop"),
        ({"type": "wheel", "path": "/x/shop-1.2.3-py3-none-any.whl"}, "1.2.3"),
        ({"type": "git", "version": "release/2024"}, "release-2024-0123456"),
        ({"type": "git", "version": COMMIT}, COMMIT[:12]),
        ({"type": "path", "path": "../my shop/"}, "my-shop"),
        ({"type": "path", "path": ".."}, "path"),
    ],
)
def test_a_release_is_called_what_a_person_would_call_it(source: dict[str, Any], expected: str) -> None:
    assert decide.label(source, {"commit": COMMIT}) == expected
    name = decide.release_id(source, {"commit": COMMIT})
    assert name.startswith(f"{expected}-")
    assert "/" not in name


@pytest.mark.parametrize(
    "change",
    [
        {"packages": ["shop==1.4.2", "x"]},
        {"requirements": "x"},
        {"constraints": "x"},
        {"require_hashes": True},
        {"build": "2"},
        {"overrides": ["celery>=5.7"]},
        {"index_url": "https://other/simple"},
    ],
)
def test_what_decides_the_content_decides_the_name(change: dict[str, Any]) -> None:
    assert decide.release_id({**PIP, **change}, FACTS) != decide.release_id(PIP, FACTS)


@pytest.mark.parametrize("key", ["python", "machine", "content", "extra_packages"])
def test_what_the_host_is_decides_the_name(key: str) -> None:
    assert decide.release_id(PIP, {**FACTS, key: "other"}) != decide.release_id(PIP, FACTS)


def test_a_new_password_of_the_index_is_no_new_release() -> None:
    one, two = ({**PIP, "index_url": f"https://u:{word}@h/simple"} for word in ("one", "two"))
    assert decide.release_id(one, FACTS) == decide.release_id(two, FACTS)
    assert decide.release_id({**PIP, "constraints": None}, FACTS) == decide.release_id(PIP, FACTS)


def test_a_release_without_overrides_keeps_its_name() -> None:
    assert decide.release_id({**PIP, "overrides": []}, FACTS) == decide.release_id(PIP, FACTS)
    assert decide.release_id(PIP, FACTS) == "1.4.2-5400b7a3f2"


def test_a_tag_wins_over_a_branch_and_stands_for_its_commit() -> None:
    listing = "a\trefs/heads/v1\nb\trefs/tags/v1\nc\trefs/tags/v1^{}\nd\trefs/heads/main\ne\tHEAD\n"
    assert decide.pick_commit(listing, "v1") == "c"
    assert decide.pick_commit(listing, "main") == "d"
    assert decide.pick_commit(listing, "HEAD") == "e"
    assert decide.pick_commit(listing, "v") is None


def test_requirements() -> None:
    extra = ["celery[redis]"]
    assert decide.requirement_lines(PIP, extra, None, None) == ["shop==1.4.2", *extra]
    tree = {"type": "git", "extras": ["web"], "requirements_file": "requirements.txt", "packages": ["x"]}
    assert decide.requirement_lines(tree, extra, "/w/source", "/w/source") == [
        "/w/source[web]",
        "-r /w/source/requirements.txt",
        "x",
        *extra,
    ]
    hashed = {"type": "pip", "requirements": "a==1 \\\n --hash=x", "require_hashes": True}
    assert decide.requirement_lines(hashed, extra, None, None) == ["a==1 \\", " --hash=x"]
    # The app itself has no hash: it is installed by itself, afterwards.
    assert decide.requirement_lines({**hashed, "type": "path"}, extra, "/w/source", "/w/source") == [
        "a==1 \\",
        " --hash=x",
    ]


def test_passwords_go_through_the_environment() -> None:
    source = {"index_url": "https://u:p@h/s"}
    assert decide.index_environment(source) == {
        "UV_DEFAULT_INDEX": "https://u:p@h/s", "UV_INDEX": "https://u:p@h/s", "PIP_INDEX_URL": "https://u:p@h/s"
    }  # fmt: skip
    assert decide.index_environment(PIP) == {}


def test_the_index_that_is_named_first_is_asked_first() -> None:
    """uv asks those of UV_INDEX in their order, and the default one last."""
    further = ["https://a/s", "https://b/s"]
    environment = decide.index_environment({"index_url": "https://own/s", "extra_index_urls": further})
    assert environment["UV_INDEX"].split() == ["https://own/s", *further]
    # In place of PyPI; and alone it comes before what the requirements name, all the same.
    assert environment["UV_DEFAULT_INDEX"] == "https://own/s"
    assert decide.index_environment({"index_url": "https://own/s"})["UV_INDEX"] == "https://own/s"
    assert environment["PIP_INDEX_URL"] == "https://own/s"
    assert environment["PIP_EXTRA_INDEX_URL"].split() == further
    # Of two of a name uv takes the first, which would be the default.
    named = decide.index_environment({"index_url": "corp=https://own/s?a=b", "extra_index_urls": further})
    assert named["UV_INDEX"].split()[0] == "corp=https://own/s?a=b"
    assert named["UV_DEFAULT_INDEX"] == named["PIP_INDEX_URL"] == "https://own/s?a=b"
    # Each gets what it understands: a name is uv's alone.
    named_further = ["corp=https://u:p@a/s?a=b", "other.one=/srv/simple", *further]
    environment = decide.index_environment({"extra_index_urls": named_further})
    assert environment["UV_INDEX"].split() == named_further
    assert environment["PIP_EXTRA_INDEX_URL"].split() == ["https://u:p@a/s?a=b", "/srv/simple", *further]
    # Without it PyPI is the one that comes last.
    environment = decide.index_environment({"extra_index_urls": further})
    assert environment == {"UV_INDEX": " ".join(further), "PIP_EXTRA_INDEX_URL": " ".join(further)}


def test_output_is_cut_and_cleaned() -> None:
    output = "\n".join(f"line {number}" for number in range(50)) + "\nGET https://u:pw@h/x hunter2 a b\n"
    shown = decide.tail(output, ["hunter2", "a"], lines=3)
    assert shown == "line 48\nline 49\nGET https://***@h/x *** a b"


def test_the_oldest_releases_go_and_never_one_that_is_needed() -> None:
    releases = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    assert decide.superfluous(releases, "d", [], 2) == ["a", "b"]
    assert decide.superfluous(releases, "a", [], 1) == ["b", "c", "d"]
    assert decide.superfluous(releases, "d", ["a"], 2) == ["b"]
    assert decide.superfluous(releases, "d", [], 9) == []
    assert decide.superfluous(releases, "", [], 3) == ["a", "b"]


def test_a_process_runs_from_the_release_that_was_current_when_it_started() -> None:
    base, history = "/opt/celeryops/shop", [(100.0, "a"), (200.0, "b"), (300.0, "c")]

    def found(words: list[str], started: float) -> list[str]:
        return decide.running_from(base, words, started, history, ["a", "b", "c"])

    assert found([f"{base}/current/bin/python"], 250.0) == ["b"]
    assert found([f"{base}/current/bin/python"], 201.0) == ["b"]
    assert found([f"{base}/current/bin/python"], 199.0) == ["b"]  # within the clock's grain
    assert found([f"{base}/current"], 150.0) == ["a"]
    assert found([f"{base}/releases/a/lib/x.so"], 999.0) == ["a"]
    assert found([f"{base}/releases/gone/bin/python"], 999.0) == []
    assert found([f"{base}/currently/x", "/opt/celeryops/shop2/current/x"], 250.0) == []


@pytest.mark.parametrize("value", ["", "a b", 'q"q', "back\\slash", "$HOME `id`", "two\nlines", "%h", "ü", "#x", "\\n"])
def test_the_environment_file_is_read_as_it_is_written(value: str) -> None:
    text = f"# comment\nA={quote_environment_file(value)}\nB={quote_environment_file('next')}\n"
    assert decide.parse_environment(text) == {"A": value, "B": "next"}


# The control machine's part


def test_arguments_that_came_as_text_mean_what_they_say() -> None:
    request = action.completed(
        {"name": "shop", "source": {"type": "pip", "path": None}, "keep": "2", "verify": "False"}
    )
    assert (request["keep"], request["verify"], request["source"]) == (2, False, {"type": "pip"})


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[project]")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "shop"
    write(root, "pyproject.toml", "src/shop/a.py", "src/shop/build/b.py")
    return root


def digest(root: Path, exclude: list[str] | None = None) -> str:
    return action.content_digest(root, "path", exclude or [])


def test_caches_and_secrets_do_not_count(tree: Path) -> None:
    before = digest(tree)
    write(tree, "src/shop/__pycache__/a.pyc", ".git/config", ".venv/x", ".env", "build/lib/x", "shop.egg-info/PKG-INFO")
    assert digest(tree) == before
    (tree / "notes.txt").write_text("x")
    assert digest(tree) != before
    assert digest(tree, ["notes.*"]) == before


@pytest.mark.parametrize("change", ["content", "name", "mode", "nested build"])
def test_everything_else_counts(tree: Path, change: str) -> None:
    before = digest(tree)
    path = tree / "src" / "shop" / "a.py"
    if change == "content":
        path.write_text("3")
    elif change == "name":
        path.rename(path.with_name("c.py"))
    elif change == "mode":
        path.chmod(0o755)
    else:
        (tree / "src" / "shop" / "build" / "b.py").write_text("3")
    assert digest(tree) != before


def test_times_and_place_do_not_count(tree: Path) -> None:
    before = digest(tree)
    (tree / "src" / "shop" / "a.py").touch()
    assert digest(tree.rename(tree.with_name("elsewhere"))) == before


def test_a_link_out_of_the_tree_is_refused(tree: Path) -> None:
    (tree / "inside").symlink_to("src/shop/a.py")
    digest(tree)
    (tree / "outside").symlink_to("/etc/passwd")
    with pytest.raises(AnsibleError, match="outside is a link out of the tree"):
        digest(tree)
    digest(tree, ["outside"])


def test_the_archive_belongs_to_root_and_holds_what_was_counted(tree: Path) -> None:
    (tree / "src" / "shop" / "a.py").chmod(0o777)
    stream = io.BytesIO()
    action.write_archive(tree, [], stream)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        entries = {entry.name: entry for entry in archive.getmembers()}
    assert sorted(entries) == ["pyproject.toml", "src/shop/a.py", "src/shop/build/b.py"]
    assert {entry.uid for entry in entries.values()} == {0}
    assert {entry.mode for entry in entries.values()} == {0o755, 0o644}


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    for kind in ("wheel", "path"):
        with pytest.raises(AnsibleError, match=r"celery_app_source.path: there is no .* on the control machine"):
            action.content_digest(tmp_path / "missing", kind, [])


# The host's part, as far as it decides something


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("setup.py", "", True),
        ("pyproject.toml", "[project]\nname='x'", True),
        ("pyproject.toml", "[build-system]", True),
        ("pyproject.toml", "[tool.ruff]", False),
        ("manage.py", "", False),
    ],
)
def test_a_tree_is_a_package_when_it_can_be_built(tmp_path: Path, name: str, content: str, expected: bool) -> None:
    (tmp_path / name).write_text(content)
    assert module._is_package(tmp_path.as_posix()) is expected


def test_versions_are_read_from_the_environment(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.13" / "site-packages"
    for name in ("celery-5.7.0.dist-info", "celery_redbeat-2.4.2.dist-info"):
        (packages / name).mkdir(parents=True)
    assert module._versions(str(tmp_path)) == {"celery": "5.7.0", "kombu": None}


def test_what_came_from_an_index_is_read_from_the_environment(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.13" / "site-packages"
    names = ("celery-5.7.0", "Django_Celery.Beat-2.9.0", "shop-1.0", "numpy-2.0.0+cpu")
    for name in names:
        (packages / f"{name}.dist-info").mkdir(parents=True)
    (packages / "shop-1.0.dist-info" / "direct_url.json").write_text("{}")
    assert module._installed(str(tmp_path)) == {"celery": "5.7.0", "django-celery-beat": "2.9.0", "numpy": "2.0.0+cpu"}


def test_nobody_but_root_may_write_a_release(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "lock").chmod(0o666)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin").chmod(0o775)
    (tmp_path / "link").symlink_to("lock")
    module._close(str(tmp_path))
    assert [oct(path.stat().st_mode & 0o777) for path in (tmp_path / "lock", tmp_path / "bin")] == ["0o644", "0o755"]


@pytest.mark.parametrize(
    ("uid", "shell", "groups", "manage", "word"),
    [
        (0, "/bin/false", [], True, "uid 0"),
        (0, "/bin/false", [], False, "uid 0"),
        (999, "/usr/sbin/nologin", ["x", "sudo"], True, "sudo"),
        (999, "/usr/sbin/nologin", ["docker"], False, "docker"),
        (1000, "/bin/bash", ["anna"], True, "a person's"),
    ],
)
def test_accounts_that_must_not_run_an_app(uid: int, shell: str, groups: list[str], manage: bool, word: str) -> None:
    assert word in (account.refusal("x", uid, shell, groups, manage) or "")


def test_accounts_that_may_run_an_app() -> None:
    assert account.refusal("x", 999, "/usr/sbin/nologin", ["x"], True) is None
    assert account.refusal("x", 999, "/bin/sh", ["x"], True) is None
    assert account.refusal("x", 1000, "/bin/bash", ["x"], False) is None


def test_an_account_that_is_missing_is_made_with_its_group_and_without_a_shell() -> None:
    lacks = account.examine("celeryops-none", "celeryops-nobody", "/var/lib/x", manage=True)
    assert lacks.after == ["user celeryops-none", "group celeryops-nobody"]
    assert [command[0] for command in lacks.commands] == ["groupadd", "useradd"]
    assert lacks.commands[1][lacks.commands[1].index("--shell") + 1] == "/usr/sbin/nologin"


def test_an_account_of_somebody_else_is_never_made() -> None:
    with pytest.raises(account.AccountError, match="there is no account celeryops-none"):
        account.examine("celeryops-none", "celeryops-nobody", "/var/lib/x", manage=False)


def test_root_is_refused_even_when_its_group_would_have_to_be_made() -> None:
    with pytest.raises(account.AccountError, match="uid 0"):
        account.examine("root", "celeryops-nobody", "/root", manage=True)


# The details of the decisions


def test_the_order_of_what_is_known_has_no_meaning() -> None:
    name = decide.release_id(PIP, FACTS)
    assert decide.release_id(PIP, dict(reversed(FACTS.items()))) == name
    assert len(name.rpartition("-")[2]) == 10


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("shop-1.2.3-py3-none-any.whl", "1.2.3"),
        ("shop-1.2.3-7-py3-none-any.whl", "1.2.3"),
        ("shop-1.2.3-py3-any.whl", "shop"),
        ("shop-1.whl", "shop"),
    ],
)
def test_a_wheel_is_called_by_its_version_where_its_name_has_one(name: str, label: str) -> None:
    assert decide.label({"type": "wheel", "path": f"/x/{name}"}, {}) == label


def test_a_name_is_forty_characters_long_at_most() -> None:
    assert decide.label({"type": "path", "path": f"/x/{'a' * 50}"}, {}) == "a" * 40


def test_the_end_of_an_output_is_25_lines_long() -> None:
    output = "\n".join(map(str, range(30)))
    assert decide.tail(output).splitlines() == [str(number) for number in range(5, 30)]


def test_the_longest_secret_is_hidden_first_and_short_ones_stay() -> None:
    assert decide.tail("abcdef abcd abc", ["abcd", "abcdef", "abc"]) == "*** *** abc"


@pytest.mark.parametrize(
    ("started", "releases"),
    [(197.0, ["z"]), (198.0, ["a"]), (201.0, ["a", "b"]), (202.0, ["a", "b"]), (202.5, ["b"]), (204.1, ["b"])],
)
def test_of_two_switches_in_a_row_both_releases_may_be_in_use(started: float, releases: list[str]) -> None:
    base, history = "/opt/celeryops/shop", [(100.0, "z"), (200.0, "a"), (202.0, "b")]
    assert decide.running_from(base, [f"{base}/current/x"], started, history, ["z", "a", "b"]) == releases
