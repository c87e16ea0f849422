"""What a host holds of RabbitMQ before the role comes, and under which name its server goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import rabbitmq_found
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_found import (
    directory_node,
    environment,
    nodes,
    plugins,
    shell_variables,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.rabbitmq_takeover import (
    choose_node,
    data_settings,
    enabled,
    place_problems,
)


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("NODENAME=rabbit@localhost", {"NODENAME": "rabbit@localhost"}),
        ('  export RABBITMQ_NODENAME="rabbit@mq 1" # why', {"NODENAME": "rabbit@mq 1"}),
        ("#NODENAME=rabbit\n\nUSE_LONGNAME='true'", {"USE_LONGNAME": "true"}),
        ("NODENAME=a@b\nNODENAME=c@d", {"NODENAME": "c@d"}),
        ("NODENAME=rabbit@$(hostname)\nMNESIA_BASE=`pwd`\nHOME=$X", {}),
        ("if true; then\n. /etc/default/x\nNODENAME='broken", {}),
    ],
)
def test_what_a_piece_of_shell_sets(text: str, variables: dict[str, str]) -> None:
    assert shell_variables(text) == variables


def test_the_environment_of_a_unit_and_of_its_files() -> None:
    shown = (
        'Environment=LANG=C RABBITMQ_NODENAME=rabbit@a "RABBITMQ_MNESIA_BASE=/srv/a b"\n'
        "EnvironmentFiles=/etc/default/rabbitmq-server (ignore_errors=yes)\n"
        "EnvironmentFiles=/missing (ignore_errors=no)\n"
    )
    files = {"/etc/default/rabbitmq-server": '# x\nRABBITMQ_NODENAME="rabbit@b"\nOTHER=1\n'}
    assert environment(shown, lambda path: files.get(path, "")) == {"NODENAME": "rabbit@b", "MNESIA_BASE": "/srv/a b"}
    assert environment("Environment='broken\n", lambda _path: "") == {}


def test_only_a_directory_with_a_nodes_name_and_something_in_it_holds_data(tmp_path: Path) -> None:
    beside = ("rabbit@a-plugins-expand", "rabbit@a-upgrade-backup", "other")
    for name in ("rabbit@a", "rabbit@mq.example.org", *beside):
        (tmp_path / name).mkdir()
        (tmp_path / name / "schema.DAT").touch()
    (tmp_path / "rabbit@empty").mkdir()
    (tmp_path / "rabbit@a-feature_flags").touch()
    (tmp_path / "rabbit@a.pid").touch()
    assert nodes(str(tmp_path)) == ["rabbit@a", "rabbit@mq.example.org"]
    assert nodes(str(tmp_path / "missing")) == []


def test_a_directory_of_another_name_says_whose_it_is() -> None:
    files = {"/srv/mq/cluster_nodes.config": "{['rabbit@old-host'],['rabbit@old-host']}.\n"}
    assert directory_node("/srv/mq", lambda path: files.get(path, "")) == "rabbit@old-host"
    assert directory_node("/srv/other", lambda path: files.get(path, "")) == ""


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[rabbitmq_management,rabbitmq_shovel].\n", ["rabbitmq_management", "rabbitmq_shovel"]),
        ("%% a comment [x]\n[ 'rabbitmq_a' ,\n rabbitmq_b ] .", ["rabbitmq_a", "rabbitmq_b"]),
        ("[].", []),
        ("", []),
    ],
)
def test_what_is_enabled(text: str, names: list[str]) -> None:
    assert plugins(text) == names


class Host:
    """A host of its own, whose unit says what is given."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.base, self.etc, self.unit = folder / "mnesia", folder / "etc", ""
        self.base.mkdir()
        self.etc.mkdir()
        for name, value in (("SERVER", "/bin/true"), ("CONFIG_DIR", str(self.etc)), ("BASE", str(self.base))):
            monkeypatch.setattr(rabbitmq_found, name, value)

    def data(self, *names: str, base: Path | None = None) -> None:
        for name in names:
            ((base or self.base) / name).mkdir(parents=True)
            ((base or self.base) / name / "schema.DAT").touch()

    def found(self, conf: str = "") -> dict[str, Any]:
        (self.etc / "rabbitmq-env.conf").write_text(conf)
        told: dict[str, Any] = rabbitmq_found.found("mq1", "mq1.example.org", lambda _command: self.unit)
        return told


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_a_bare_host_holds_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbitmq_found, "SERVER", "/missing")
    assert host.found() == {}
    # What is left of a package that was removed counts.
    host.data("rabbit@old")
    assert host.found()["nodes"] == ["rabbit@old"]


def test_a_name_without_a_host_gets_the_hosts(host: Host) -> None:
    assert host.found("NODENAME=bunny")["node"] == "bunny@mq1"
    assert host.found("NODENAME=bunny\nUSE_LONGNAME=true")["node"] == "bunny@mq1.example.org"
    assert host.found()["node"] == ""


def test_data_that_the_file_puts_elsewhere_are_found_there(host: Host, tmp_path: Path) -> None:
    other = tmp_path / "srv"
    host.data("rabbit@mq1", base=other)
    told = host.found(f"MNESIA_BASE={other}")
    assert (told["nodes"], told["base"], told["data"]) == (["rabbit@mq1"], str(other), str(other))
    (other / "rabbit@mq1" / "cluster_nodes.config").write_text("{['rabbit@before'],[]}.")
    told = host.found(f"RABBITMQ_MNESIA_DIR={other}/rabbit@mq1")
    assert (told["nodes"], told["directory"]) == (["rabbit@before"], f"{other}/rabbit@mq1")


def test_a_place_without_data_is_told_from_the_one_with_them(host: Host, tmp_path: Path) -> None:
    host.data("rabbit@mq1")
    told = host.found(f"MNESIA_BASE={tmp_path}/new")
    assert (told["nodes"], told["elsewhere"]) == ([], ["rabbit@mq1"])
    assert host.found()["elsewhere"] == []
    _name, (problem,) = choose_node("", "rabbit@mq1", told, [])
    assert f"would start empty in {tmp_path}/new, and leave behind the data of rabbit@mq1" in str(problem)
    assert choose_node("", "rabbit@mq1", told, ["rabbit@mq1"]) == ("rabbit@mq1", [])


def test_what_the_environment_says_wins_and_stays(host: Host, tmp_path: Path) -> None:
    other = tmp_path / "srv"
    host.data("rabbit@x", base=other)
    host.unit = f"Environment=RABBITMQ_NODENAME=rabbit@x RABBITMQ_MNESIA_BASE={other}\n"
    told = host.found("NODENAME=rabbit@y\nMNESIA_BASE=/elsewhere")
    assert (told["node"], told["forced"], told["nodes"]) == ("rabbit@x", "rabbit@x", ["rabbit@x"])
    # Nothing to be written: it is in force by itself.
    assert (told["base"], told["data"]) == ("", str(other))


def test_whose_file_it_is(host: Host) -> None:
    assert not host.found("NODENAME=a@b")["managed"]
    assert host.found("# Managed by celeryops.stack (role rabbitmq).\n")["managed"]


DEFAULT = "rabbit@mq1"


@pytest.mark.parametrize(
    ("given", "held", "name"),
    [
        # Nothing is known, or nothing there.
        ("", {}, DEFAULT),
        ("rabbit@own", {}, "rabbit@own"),
        ("", {"nodes": [], "node": "rabbit@configured"}, DEFAULT),
        # The host was renamed, or a hand or a package named it.
        ("", {"nodes": ["rabbit@before"]}, "rabbit@before"),
        ("", {"nodes": ["rabbit@before"], "node": "rabbit@before"}, "rabbit@before"),
        ("", {"nodes": ["rabbit@mq1", "rabbit@localhost"], "node": "rabbit@localhost"}, "rabbit@localhost"),
        ("", {"nodes": [DEFAULT]}, DEFAULT),
        ("", {"nodes": ["rabbit@before"], "node": "rabbit@gone"}, "rabbit@before"),
        ("", {"nodes": ["rabbit@a", "rabbit@b"], "node": "rabbit@b", "forced": "rabbit@b"}, "rabbit@b"),
        # The inventory names what is there.
        ("rabbit@before", {"nodes": ["rabbit@before"]}, "rabbit@before"),
        ("rabbit@a", {"nodes": ["rabbit@a", "rabbit@b"]}, "rabbit@a"),
    ],
)
def test_the_name_that_holds_data_is_kept(given: str, held: dict[str, Any], name: str) -> None:
    assert choose_node(given, DEFAULT, held, []) == (name, [])


@pytest.mark.parametrize(
    ("given", "held", "text"),
    [
        (
            "rabbit@new",
            {"nodes": ["rabbit@old"]},
            (
                "rabbitmq_node_name: 'rabbit@new' would start empty, and leave behind the data of "
                "rabbit@old; write rabbit@old to keep them, or rabbitmq_abandoned_nodes: [rabbit@old] to "
                "leave them"
            ),
        ),
        (
            "rabbit@b",
            {"nodes": ["rabbit@a", "rabbit@b"], "node": "rabbit@a"},
            (
                "rabbitmq_node_name: 'rabbit@b' would leave behind the data of rabbit@a, which is in use; "
                "write rabbit@a to keep them, or rabbitmq_abandoned_nodes: [rabbit@a] to leave them"
            ),
        ),
        (
            "rabbit@new",
            {"nodes": ["rabbit@a", "rabbit@b"]},
            (
                "rabbitmq_node_name: 'rabbit@new' would start empty, and leave behind the data of rabbit@a, "
                "rabbit@b; write one of these to keep its data, or rabbitmq_abandoned_nodes: [rabbit@a, "
                "rabbit@b] to leave them"
            ),
        ),
        (
            "",
            {"nodes": ["rabbit@mq1", "rabbit@old"]},
            (
                "rabbitmq_node_name: '' does not say which of the nodes is meant whose data this host "
                "holds: rabbit@mq1, rabbit@old; write one of them, and the others into "
                "rabbitmq_abandoned_nodes"
            ),
        ),
        (
            "rabbit@a",
            {"nodes": ["rabbit@a"], "node": "rabbit@b", "forced": "rabbit@b"},
            (
                "rabbitmq_node_name: 'rabbit@a' is not what RABBITMQ_NODENAME in the environment of "
                "rabbitmq-server.service says, rabbit@b, which wins; write rabbit@b, or take that out of "
                "the unit"
            ),
        ),
        (
            "",
            {"nodes": ["rabbit@a"], "node": "rabbit@b", "forced": "rabbit@b"},
            (
                "rabbitmq_node_name: 'rabbit@b' would start empty, and leave behind the data of rabbit@a; "
                "write rabbit@a to keep them, or rabbitmq_abandoned_nodes: [rabbit@a] to leave them"
            ),
        ),
    ],
)
def test_a_name_that_leaves_data_behind_is_refused(given: str, held: dict[str, Any], text: str) -> None:
    _name, problems = choose_node(given, DEFAULT, held, [])
    assert [str(problem) for problem in problems] == [text]


@pytest.mark.parametrize(
    ("given", "held", "abandoned", "name"),
    [
        ("rabbit@new", ["rabbit@old"], ["rabbit@old"], "rabbit@new"),
        ("", ["rabbit@old"], ["rabbit@old"], DEFAULT),
        ("", ["rabbit@a", "rabbit@b"], ["rabbit@a"], "rabbit@b"),
        ("rabbit@b", ["rabbit@a", "rabbit@b"], ["rabbit@a"], "rabbit@b"),
    ],
)
def test_what_is_abandoned_is_left(given: str, held: list[str], abandoned: list[str], name: str) -> None:
    found = {"nodes": held, "node": held[0]}
    assert choose_node(given, DEFAULT, found, abandoned) == (name, [])


def test_a_node_cannot_be_abandoned_and_run() -> None:
    _name, (problem,) = choose_node("rabbit@a", DEFAULT, {"nodes": ["rabbit@a"]}, ["rabbit@a"])
    assert str(problem).startswith("rabbitmq_abandoned_nodes: ['rabbit@a'] is the name of the node to run, rabbit@a,")


def test_what_has_to_be_written_so_that_data_stay_where_they_are() -> None:
    assert data_settings({}) == {}
    assert data_settings({"base": "/srv/mq", "directory": ""}) == {"MNESIA_BASE": "/srv/mq"}
    assert data_settings({"base": "", "directory": "/srv/x"}) == {"MNESIA_DIR": "/srv/x"}


def test_data_in_a_home_are_out_of_reach() -> None:
    assert place_problems({}) == place_problems({"data": "/srv/mq"}) == []
    (problem,) = place_problems({"data": "/root/mq/data"})
    assert "cannot run with its data in /root/mq/data" in str(problem)


def test_plugins_that_are_enabled_stay_unless_they_are_pruned() -> None:
    found = {"plugins": ["rabbitmq_shovel", "rabbitmq_management"]}
    assert enabled(["rabbitmq_management"], found, prune=False) == ["rabbitmq_management", "rabbitmq_shovel"]
    assert enabled(["rabbitmq_management"], found, prune=True) == ["rabbitmq_management"]
    assert enabled(["b", "a", "a"], {}, prune=False) == ["a", "b"]
