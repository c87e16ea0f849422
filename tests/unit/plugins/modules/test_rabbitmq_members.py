"""The module that changes a RabbitMQ cluster, with a cluster in its place."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.celeryops.stack.plugins.modules import rabbitmq_cluster
from ansible_collections.celeryops.stack.plugins.modules.rabbitmq_cluster import Cluster

A, B, C = (f"rabbit@{name}" for name in "abc")


class EndedError(Exception):
    """How a module ends."""


class Module:
    """What a module gives to the class."""

    def __init__(self, *, check_mode: bool = False, **params: Any) -> None:
        options = yaml.safe_load(rabbitmq_cluster.DOCUMENTATION)["options"]
        defaults = {name: said.get("default") for name, said in options.items()}
        secret = {
            "login_user": "admin",
            "login_password": "x",
            "api_host": "127.0.0.1",
            "api_port": 15672,
            "timeout": 0,
        }
        self.params: dict[str, Any] = {**defaults, **secret, "node": A, **params}
        self.check_mode = check_mode
        self.result: dict[str, Any] = {}
        self.commands: list[list[str]] = []
        self.printed: dict[str, str] = {}
        self.codes: dict[str, int] = {}
        self.world: World | None = None

    def exit_json(self, **result: Any) -> None:
        self.result = result
        raise EndedError

    def fail_json(self, **result: Any) -> None:
        self.result = {"failed": True, **result}
        raise EndedError

    def run_command(self, words: list[str]) -> tuple[int, str, str]:
        self.commands.append(words)
        if self.world:
            self.world.ran(words)
        printed = [text for part, text in self.printed.items() if part in " ".join(words)]
        return next((code for part, code in self.codes.items() if part in words), 0), "".join(printed[:1]), ""


class World:
    """A cluster of three nodes with some queues."""

    def __init__(self, **queues: str) -> None:
        self.nodes = dict.fromkeys((A, B, C), True)
        self.queues = {name: {f"rabbit@{one}" for one in members} for name, members in queues.items()}
        self.kinds: dict[str, dict[str, Any]] = {}

    def call(self, method: str, path: str, _body: Any = None) -> tuple[int, Any]:
        what = path.partition("?")[0]
        if what == "nodes":
            return 200, [{"name": name, "running": runs, "partitions": []} for name, runs in self.nodes.items()]
        if what == "queues":
            return 200, [
                {
                    "vhost": "shop", "name": name, "type": "quorum", "members": sorted(members), "durable": True,
                    "online": [one for one in sorted(members) if self.nodes.get(one)], **self.kinds.get(name, {}),
                }
                for name, members in self.queues.items()
            ]  # fmt: skip
        assert method == "POST"
        if what.endswith("/grow"):
            for members in self.queues.values():
                members.add(what.split("/")[-2])
        return 204, None

    def ran(self, words: list[str]) -> None:
        if "shrink" in words or "forget_cluster_node" in words:
            for members in self.queues.values():
                members.discard(words[-1])
        if "forget_cluster_node" in words:
            del self.nodes[words[-1]]


def run(world: World, module: Module) -> dict[str, Any]:
    cluster = Cluster(module)  # type: ignore[arg-type]
    cluster.api = world  # type: ignore[assignment]
    module.world = world
    with pytest.raises(EndedError):
        cluster.run()
    return module.result


def test_a_member_that_runs_gives_its_queues_to_the_rest() -> None:
    world, module = World(one="abc", two="c"), Module(state="leaving", leaving="c", timeout=9)
    result = run(world, module)
    assert result["leaving"] == {"name": C, "alive": True, "rest": [A, B]}
    assert world.queues == {"one": {A, B}, "two": {A, B}}
    assert [words[-2:] for words in module.commands] == [["shrink", C]]


def test_nothing_changes_before_every_refusal() -> None:
    world, module = World(one="abc", two="c"), Module(state="leaving", leaving="c", check_mode=True)
    assert run(world, module)["changed"]
    assert (world.queues["two"], module.commands) == ({C}, [])
    world.nodes[B] = False
    module = Module(state="leaving", leaving="c")
    assert "rabbit@b does not run. Have all other nodes run first" in run(world, module)["msg"]
    assert "Its members are: rabbit@a" in run(world, Module(state="leaving", leaving="d"))["msg"]
    assert (world.queues["two"], module.commands) == ({C}, [])


def test_the_last_but_one_leaves_while_its_erlang_node_runs() -> None:
    world, module = World(one="ab"), Module(state="leaving", leaving="b", timeout=9)
    del world.nodes[C]
    assert run(world, module)["leaving"] == {"name": B, "alive": True, "rest": [A]}
    assert world.queues == {"one": {A}}
    module = Module(state="stopped", node=B)
    assert run(world, module)["changed"]
    assert module.commands == [["/usr/sbin/rabbitmqctl", "--quiet", "stop_app"]]
    # A run that was interrupted here goes on; if the service is down as well, nobody knows what the other one has.
    world.nodes[B] = False
    assert run(world, Module(state="leaving", leaving="b", service_active=True))["leaving"]["alive"] is False
    assert "that is no majority" in run(world, Module(state="leaving", leaving="b"))["msg"]


def test_check_mode_stops_nothing() -> None:
    module = Module(state="stopped", check_mode=True)
    assert run(World(), module)["changed"]
    assert module.commands == []


@pytest.mark.parametrize(
    ("printed", "refused"),
    [("queue 73686f70 6f6c64 lasting 2 2 0", True), ("queue 73686f70 6f6c64 lasting 0 0 0", False), ("", True)],
)
def test_messages_on_one_node_alone_are_not_lost(printed: str, *, refused: bool) -> None:
    world = World(old="")
    world.kinds["old"] = {"type": "classic", "node": C, "members": None, "online": None}
    module = Module(state="leaving", leaving="c", timeout=9)
    module.printed["eval"] = printed
    result = run(world, module)
    assert result.get("failed", False) is refused
    if refused:
        assert "shop/old, which is on that node alone" in result["msg"]
        accepted = Module(state="leaving", leaving="c", timeout=9, lose_messages=True)
        accepted.printed["eval"] = printed
        assert run(world, accepted)["leaving"]["name"] == C


def test_a_member_that_is_dead_is_forgotten() -> None:
    world = World(one="abc")
    world.nodes[C] = False
    assert run(world, Module(state="leaving", leaving=C))["leaving"] == {"name": C, "alive": False, "rest": [A, B]}
    module = Module(state="forgotten", leaving="c")
    assert run(world, module)["changed"]
    assert [words[-2:] for words in module.commands] == [["forget_cluster_node", C]]
    assert world.queues == {"one": {A, B}}


def test_a_member_that_runs_is_not_forgotten() -> None:
    module = Module(state="forgotten", leaving="c")
    assert run(World(), module)["msg"] == "rabbit@c still runs. Run this again"
    assert module.commands == []


def test_what_is_asked_is_told() -> None:
    world = World()
    assert run(world, Module(state="asked", nodes=[A, B, C]))["faults"] == []
    world.nodes[C] = False
    assert run(world, Module(state="asked", nodes=[A, B, C]))["faults"] == ["rabbit@c does not run"]
    assert run(world, Module(state="asked", nodes=[A, B, C], without=[C]))["faults"] == []
    assert run(world, Module(state="up", nodes=[A, B, C], without=[C]))["changed"] is False


@pytest.mark.parametrize("held", [0, 1])
def test_the_data_of_a_lone_node_are_put_aside_if_no_message_is_in_them(
    monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr(rabbitmq_cluster, "ALONE", -1)
    monkeypatch.setattr(rabbitmq_cluster, "put_aside", lambda directory: f"aside of {directory}")
    world = World()
    world.nodes = {A: True}
    module = Module(state="up", nodes=[A, B, C], blank=True)
    module.printed = {
        "vhost": f"vhost 2f 0\nqueue 2f 6f6c64 lasting {held} {held} 0\n",
        "data_dir": "/m/a\n/m/a/quorum",
    }
    text = run(world, module)["msg"]
    assert ["systemctl", "stop", "--", "rabbitmq-server.service"] in module.commands
    assert ("aside of /m/a" in text) is not bool(held)
    assert ("its data were kept" in text) is bool(held)


def test_a_node_that_reaches_no_other_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def why(node: str, address: str) -> str:
        asked.append((node, address))
        return "port 4369 of c (10.0.0.3): timed out" if node == C else ""

    monkeypatch.setattr(rabbitmq_cluster, "why_not_reached", why)
    params: dict[str, Any] = {"state": "reachable", "nodes": [A, B, C], "addresses": {C: "10.0.0.3"}}
    text = run(World(), Module(**params))["msg"]
    assert text.startswith("rabbit@a was not started")
    assert "port 4369 of c (10.0.0.3): timed out" in text
    assert asked == [(B, ""), (C, "10.0.0.3")]
    assert run(World(), Module(**{**params, "nodes": [A, B]}))["changed"] is False


@pytest.mark.parametrize("place", ["", "/srv/raft"])
def test_the_data_of_a_node_that_left_are_put_aside(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    held = {"nodes": [A], "directory": "", "data": "/m", "stores": {"raft.data_dir": {"now": place, "kept": ""}}}
    monkeypatch.setattr(rabbitmq_cluster, "found", lambda *_asked: held)
    monkeypatch.setattr(rabbitmq_cluster, "put_aside", lambda directory: f"aside of {directory}")
    stopped = Module(state="aside")
    stopped.codes = {"is-active": 3}
    result = run(World(), stopped)
    assert result.get("place") == (None if place else "aside of /m/rabbit@a")
    assert result.get("msg", "").startswith("queues of rabbit@a are in /srv/raft") is bool(place)
    assert run(World(), Module(state="aside"))["msg"] == "rabbit@a runs, so its data were not moved"
    # One that was emptied.
    assert run(World(), Module(state="aside", node=B))["place"] == ""
