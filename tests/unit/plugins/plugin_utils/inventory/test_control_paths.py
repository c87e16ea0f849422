"""Where the control machine keeps what is made for an inventory."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import lookup_loader

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.control_paths import (
    beside_inventory,
    keep_out_of_repositories,
    local_source,
    unreadable,
)


def test_in_a_directory_and_beside_a_file(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.yml"
    hosts.touch()
    expected = str(tmp_path / ".celeryops" / "secrets")
    assert beside_inventory([str(tmp_path)], "secrets") == expected
    assert beside_inventory([str(hosts)], "secrets") == expected


def test_hosts_of_several_sources_share_one_folder(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    sources = ["host1,host2,", str(tmp_path / "first"), str(tmp_path / "second")]
    assert beside_inventory(sources, "plan") == str(tmp_path / "first" / ".celeryops" / "plan")


def test_what_is_given_wins_and_needs_no_inventory() -> None:
    assert beside_inventory([], "plan", "/srv/plans") == "/srv/plans"


def test_what_begins_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match=r"celeryops_secrets_dir: 'mine/secrets' is not an absolute path; write one"):
        beside_inventory([], "secrets", "mine/secrets")
    assert beside_inventory([], "secrets", "~/secrets") == str(Path.home() / "secrets")


def test_hosts_on_the_command_line_have_no_place() -> None:
    with pytest.raises(ValueError, match="set celeryops_secrets_dir"):
        beside_inventory(["host1,"], "secrets")


def test_git_ignores_the_folder_unless_somebody_decided_otherwise(tmp_path: Path) -> None:
    keep_out_of_repositories([str(tmp_path)])
    keep_out_of_repositories(["host1,"])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".celeryops").mkdir()
    mark = tmp_path / ".celeryops" / ".gitignore"
    keep_out_of_repositories([str(tmp_path)])
    assert mark.read_text() == "*\n"
    mark.write_text("secrets\n")
    keep_out_of_repositories([str(tmp_path)])
    assert mark.read_text() == "secrets\n"


def test_what_an_inventory_names_lies_beside_it_or_beside_the_playbook(tmp_path: Path) -> None:
    inventory, playbook = tmp_path / "inventory", tmp_path / "playbook"
    for folder in (inventory, playbook):
        folder.mkdir()
        (folder / "both.whl").touch()
    (playbook / "second.whl").touch()

    def found(path: str, *sources: Path) -> Path:
        return local_source(path, map(str, sources), str(playbook))

    assert found("both.whl", inventory) == inventory / "both.whl"
    assert found("second.whl", inventory) == playbook / "second.whl"
    # It is told as missing where it was written.
    assert found("none.whl", inventory) == inventory / "none.whl"
    assert found("none.whl", tmp_path / "gone") == playbook / "none.whl"
    assert found(str(playbook / "second.whl"), inventory) == playbook / "second.whl"
    assert found("~/none.whl", inventory) == Path.home() / "none.whl"


def test_what_the_second_of_several_inventories_names_lies_beside_that_one(tmp_path: Path) -> None:
    """`-i shared -i production`: the variables of each lie beside it, and what they name too."""
    first, second, playbook = (tmp_path / name / "inventory" for name in ("first", "second", "playbook"))
    for folder in (first, second, playbook):
        folder.mkdir(parents=True)
        (folder.parent / "third.whl").touch()
    (second.parent / "project").mkdir()
    sources = ["host1,", str(first), str(second / "hosts.yml"), str(second)]
    assert local_source("../project", sources, str(playbook)) == second / "../project"
    assert local_source("../third.whl", sources, str(playbook)) == first / "../third.whl"
    assert local_source("../none", sources, str(playbook)) == first / "../none"


ODD = [
    "one blank", "two  blanks", " in front", "behind ", "a b\\1c", "a\\1c", "a b=c", "a=b c", "it's mine",
    "a 'quoted' b", 'a "b"', "a b {{ c }}", "{{c}}", "a\tb", "a \tb", "ü €", "100% sure", "a #b", "a;b c",
    "a $b", "a b\\", "a,b c",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_an_odd_folder_is_read_as_it_is_or_refused(tmp_path: Path, name: str) -> None:
    """Ansible's own lookup says what it makes of each."""
    secrets = tmp_path / name / ".celeryops" / "secrets"
    lookup = lookup_loader.get("ansible.builtin.password", loader=DataLoader(), templar=None)
    options = {"length": 40, "chars": ["ascii_letters", "digits"]}
    try:
        (password,) = lookup.run([f"{secrets}/shop_redis_password"], {}, **options)
        kept = (secrets / "shop_redis_password").read_text().strip()
    except Exception:
        kept = password = None
    works = kept is not None and kept == password and [entry.name for entry in tmp_path.iterdir()] == [name]
    problem = unreadable(str(secrets))
    assert (problem is None) == works
    assert problem is None or (name in problem.value and problem.variable == "celeryops_secrets_dir")


def test_most_odd_folders_work() -> None:
    refused = [name for name in ODD if unreadable(f"/srv/{name}")]
    assert 0 < len(refused) < len(ODD) / 2
