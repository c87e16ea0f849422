"""What a host holds of RabbitMQ before the role comes, and under which name its server goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from problems import told

from ansible_collections.celeryops.stack.plugins.module_utils import rabbitmq_found
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_found import (
    environment,
    members,
    nodes,
    plugins,
    shell_variables,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.rabbitmq import (
    choose_node,
    data_settings,
    enabled,
    place_problems,
)


def ran(command: Sequence[str]) -> str:
    """Run a command as whoever runs the tests."""
    words = list(command)[command.index("--") + 1 :] if command[0] == "setpriv" else command
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("NODENAME=rabbit@localhost", {"NODENAME": "rabbit@localhost"}),
        ('  export RABBITMQ_NODENAME="rabbit@mq 1" # why', {"NODENAME": "rabbit@mq 1"}),
        ("#NODENAME=rabbit\n\nUSE_LONGNAME='true'", {"USE_LONGNAME": "true"}),
        ("NODENAME=a@b\nNODENAME=c@d", {"NODENAME": "c@d"}),
        ("NODENAME=a@b\nRABBITMQ_NODENAME=c@d", {"NODENAME": "c@d"}),
        (
            "NODENAME=rabbit@$(echo a)\nX=/srv\nMNESIA_BASE=${X}/mq\nOTHER=1",
            {"NODENAME": "rabbit@a", "MNESIA_BASE": "/srv/mq"},
        ),
        (
            "NODENAME=a@b; MNESIA_DIR=/srv/mq QUORUM_DIR=/ssd",
            {"NODENAME": "a@b", "MNESIA_DIR": "/srv/mq", "QUORUM_DIR": "/ssd"},
        ),
        ("if true; then\nNODENAME=a@b\nfi\necho NODENAME=said", {"NODENAME": "a@b"}),
        ("MNESIA_BASE=$MNESIA_BASE/x", {"MNESIA_BASE": f"{rabbitmq_found.BASE}/x"}),
        (f"MNESIA_BASE={rabbitmq_found.BASE}", {}),
        ("NODENAME='broken", {}),
    ],
)
def test_what_a_piece_of_shell_sets(text: str, variables: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "rabbitmq-env.conf"
    path.write_text(text)
    assert shell_variables(str(path), ran) == variables
    assert shell_variables(str(tmp_path / "none"), ran) == {}


def test_a_piece_of_shell_is_not_run_as_root(tmp_path: Path) -> None:
    commands: list[Sequence[str]] = []
    shell_variables(str(tmp_path), lambda command: commands.append(command) or "")
    program, uid, gid, groups, *_rest = commands[0]
    assert (program, groups) == ("setpriv", "--clear-groups")
    assert "=0" not in (uid[-2:], gid[-2:])


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


def test_the_nodes_of_a_cluster_are_told_once() -> None:
    files = {"/srv/mq/cluster_nodes.config": "{['rabbit@a','rabbit@b-1.x'],['rabbit@a']}.\n"}
    assert members("/srv/mq", lambda path: files.get(path, "")) == ["rabbit@a", "rabbit@b-1.x"]
    assert members("/srv/other", lambda path: files.get(path, "")) == []


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
        self.versions = folder / "versions"
        for name, value in (
            ("SERVER", "/bin/true"),
            ("CONFIG_DIR", str(self.etc)),
            ("BASE", str(self.base)),
            ("VERSIONS", str(self.versions)),
        ):
            monkeypatch.setattr(rabbitmq_found, name, value)

    def data(self, *names: str, base: Path | None = None) -> None:
        for name in names:
            ((base or self.base) / name).mkdir(parents=True)
            ((base or self.base) / name / "schema.DAT").touch()

    def found(self, conf: str = "") -> dict[str, Any]:
        (self.etc / "rabbitmq-env.conf").write_text(conf)
        told: dict[str, Any] = rabbitmq_found.found("mq1", "mq1.example.org", self.run)
        return told

    def run(self, command: Sequence[str]) -> str:
        return self.unit if command[0] == "systemctl" else ran(command)


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


def test_a_directory_that_does_not_say_whose_it_is_is_of_the_configured_node(host: Host, tmp_path: Path) -> None:
    place = tmp_path / "srv"
    conf = f"MNESIA_DIR={place}\n"
    assert host.found(conf)["nodes"] == []
    host.data("coordination", base=place)
    assert host.found(conf)["nodes"] == ["rabbit@mq1"]
    assert host.found(f"{conf}NODENAME=rabbit@old")["nodes"] == ["rabbit@old"]
    (place / "cluster_nodes.config").write_text("{[rabbit@a,rabbit@old],[rabbit@a,rabbit@old]}.")
    told = host.found(f"{conf}NODENAME=rabbit@old")
    assert (told["nodes"], told["peers"]) == (["rabbit@old"], {"rabbit@old": ["rabbit@a"]})


def test_what_is_installed_and_who_wrote_the_data(host: Host) -> None:
    assert (host.found()["version"], host.found()["written"]) == ("", {})
    (host.versions / "rabbitmq_server-4.0.5").mkdir(parents=True)
    host.data("rabbit@mq1", "rabbit@old")
    (host.base / "rabbit@mq1-feature_flags").write_text("[message_containers].\n")
    assert (host.found()["version"], host.found()["written"]) == ("4.0.5", {"rabbit@mq1": "3.13"})


def test_a_member_of_a_cluster_is_not_cut_off(host: Host) -> None:
    host.data("rabbit@mq1")
    (host.base / "rabbit@mq1" / "cluster_nodes.config").write_text("{[rabbit@mq1],[rabbit@mq1]}.")
    assert host.found()["peers"] == {}
    (host.base / "rabbit@mq1" / "cluster_nodes.config").write_text("{[rabbit@mq2,rabbit@mq1],[rabbit@mq1]}.")
    found = host.found()
    (problem,) = place_problems(found, "rabbit@mq1", {})
    assert str(problem).startswith(
        "rabbitmq_nodes: ['rabbit@mq1'] lacks rabbit@mq2, with which rabbit@mq1 is in a cluster"
    )
    assert place_problems(found, "rabbit@other", {}) == []


def test_without_a_file_of_members_the_configuration_tells(host: Host) -> None:
    host.data("rabbit@mq1")
    found = {**host.found(), "configured": ["rabbit@mq1", "rabbit@mq2"]}
    (problem,) = place_problems(found, "rabbit@mq1", {})
    assert problem.reason == "lacks rabbit@mq2, with which rabbit@mq1 is in a cluster"
    assert place_problems(found, "rabbit@mq1", {}, ["rabbit@mq1", "rabbit@mq2"]) == []
    assert place_problems({**found, "nodes": []}, "rabbit@mq1", {}) == []


@pytest.mark.parametrize(("key", "variable", "below"), [
    ("raft.data_dir", "QUORUM_DIR", "quorum"), ("stream.data_dir", "STREAM_DIR", "stream"),
])  # fmt: skip
def test_queues_that_are_kept_elsewhere_are_found_again(
    host: Host, tmp_path: Path, key: str, variable: str, below: str
) -> None:
    place = tmp_path / "ssd"
    host.data("rabbit@mq1")
    assert host.found(f"{variable}={place}")["stores"] == {}
    host.data("rabbit@mq1", base=place)
    # By its environment, which stays.
    found = host.found(f"{variable}={place}")
    assert data_settings(found) == {variable: str(place)}
    assert place_problems(found, "rabbit@mq1", {}) == []
    # By its configuration, which is replaced.
    (host.etc / "rabbitmq.conf").write_text(f"# x = y\nheartbeat = 60\n{key} = {place}\n")
    found = host.found()
    (problem,) = place_problems(found, "rabbit@mq1", {})
    assert f"rabbitmq_config.{key}: '' would leave behind the queues that are in {place}; write {place}" in str(problem)
    assert place_problems(found, "rabbit@mq1", {key: f"{place}/"}) == []
    # Where the package has them, and somebody wants them elsewhere.
    (host.etc / "rabbitmq.conf").unlink()
    host.data("x", base=host.base / "rabbit@mq1" / below)
    (problem,) = place_problems(host.found(), "rabbit@mq1", {key: "/new"})
    assert "in the directory of the node; write nothing, or move them to /new while RabbitMQ is stopped" in str(problem)
    assert place_problems(host.found(), "rabbit@mq1", {}) == []


def test_a_unit_that_leads_to_other_files_is_refused(host: Host, tmp_path: Path) -> None:
    (tmp_path / "env").write_text(f"MNESIA_BASE={tmp_path}/srv\n")
    host.data("rabbit@mq1", base=tmp_path / "srv")
    host.unit = f"Environment=RABBITMQ_CONF_ENV_FILE={tmp_path}/env RABBITMQ_CONFIG_FILE={host.etc}/rabbitmq\n"
    found = host.found()
    assert (found["nodes"], found["base"]) == (["rabbit@mq1"], f"{tmp_path}/srv")
    (problem,) = place_problems(found, "rabbit@mq1", {})
    assert f"says RABBITMQ_CONF_ENV_FILE={tmp_path}/env, which wins; write the lines of that file into" in str(problem)


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


IN_USE = {"nodes": ["rabbit@a"], "node": "rabbit@b", "forced": "rabbit@b"}


@pytest.mark.parametrize(
    ("given", "held", "identity", "instead"),
    [
        ("rabbit@new", {"nodes": ["rabbit@old"]}, "leave-behind-the-data", "rabbit@old "),
        ("rabbit@b", {"nodes": ["rabbit@a", "rabbit@b"], "node": "rabbit@a"}, "leave-behind-the-data", "rabbit@a "),
        ("rabbit@new", {"nodes": ["rabbit@a", "rabbit@b"]}, "leave-behind-the-data", "one of these "),
        ("", {"nodes": ["rabbit@mq1", "rabbit@old"]}, "several-nodes-with-data", "one of them, "),
        ("rabbit@a", IN_USE, "node-name-of-the-unit-differs", "rabbit@b, "),
        ("", IN_USE, "leave-behind-the-data", "rabbit@a "),
    ],
)
def test_a_name_that_leaves_data_behind_is_refused(
    given: str, held: dict[str, Any], identity: str, instead: str
) -> None:
    _name, (problem,) = choose_node(given, DEFAULT, held, [])
    assert told([problem]) == [(identity, "rabbitmq_node_name")]
    assert problem.instead.startswith(instead)
    # What is left behind is named, and how to leave it.
    left = [node for node in held["nodes"] if node != given and "forced" not in held]
    assert [node for node in left if node not in str(problem)] == []


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
    assert place_problems({}, DEFAULT, {}) == place_problems({"real": ["/srv/mq"]}, DEFAULT, {}) == []
    (problem,) = place_problems({"real": ["/root/mq/data", "/srv"]}, DEFAULT, {})
    assert "cannot run with its data in /root/mq/data" in str(problem)


def test_where_data_really_are_is_told(host: Host, tmp_path: Path) -> None:
    host.data("rabbit@mq1", base=tmp_path / "home")
    (host.base / "rabbit@mq1").symlink_to(tmp_path / "home" / "rabbit@mq1")
    found = host.found(f"QUORUM_DIR={tmp_path}/ssd")
    assert found["nodes"] == ["rabbit@mq1"]
    assert found["real"] == [f"{tmp_path}/{name}" for name in ("home/rabbit@mq1", "mnesia", "ssd")]


def test_plugins_that_are_enabled_stay_unless_they_are_pruned() -> None:
    found = {"plugins": ["rabbitmq_shovel", "rabbitmq_management"]}
    assert enabled(["rabbitmq_management"], found, prune=False) == ["rabbitmq_management", "rabbitmq_shovel"]
    assert enabled(["rabbitmq_management"], found, prune=True) == ["rabbitmq_management"]
    assert enabled(["b", "a", "a"], {}, prune=False) == ["a", "b"]
