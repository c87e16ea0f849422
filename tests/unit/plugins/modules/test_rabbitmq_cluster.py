"""What the module does with the answers of a node, on a clock of the test's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_api import RefusedError, UnreachableError
from ansible_collections.celeryops.stack.plugins.modules import rabbitmq_cluster as module

NAMES = ["rabbit@a", "rabbit@b", "rabbit@c"]
Answer: TypeAlias = "tuple[int, Any] | Exception"


class Ended(Exception):  # noqa: N818 - no error
    """The module has ended."""


class Ansible:
    """As much of AnsibleModule as the module uses."""

    def __init__(self, state: str, **more: Any) -> None:
        usual = {
            "nodes": NAMES,
            "node": "rabbit@a",
            "absent": [],
            "without": [],
            "blank": False,
            "login_user": "admin",
            "timeout": 180,
        }
        self.params = {"state": state, **usual, **more}
        self.check_mode = False
        self.warnings: list[str] = []
        self.commands: list[list[str]] = []
        self.command = (0, "", "")
        self.result: dict[str, Any] = {}

    def exit_json(self, **result: Any) -> None:
        self.result = result
        raise Ended

    def fail_json(self, **result: Any) -> None:
        self.result = {"failed": True, **result}
        raise Ended

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        self.commands.append(command)
        return self.command


class Server:
    """A node: what it answers to the beginning of a path, and what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer | list[Answer]] = {"overview": (200, {})}
        self.asked: list[str] = []
        self.bodies: list[Any] = []

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        self.bodies.append(body)
        self.asked.append(f"{method} {path.partition('?')[0]}")
        found = next(answer for beginning, answer in self.answers.items() if path.startswith(beginning))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if isinstance(found, Exception):
            raise found
        return found


Run = Callable[..., Ansible]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """A node that is asked instead of the one of the parameters; every pause is a second of its clock."""
    one, now = Server(), [0.0]
    monkeypatch.setattr(module, "Api", lambda _params: one)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return one


def run(state: str, *, check: bool = False, command: tuple[int, str, str] = (0, "", ""), **more: Any) -> Ansible:
    """Run the module to its end."""
    ansible = Ansible(state, **more)
    ansible.check_mode, ansible.command = check, command
    with pytest.raises(Ended):
        module.Cluster(ansible).run()  # type: ignore[arg-type]
    return ansible


def nodes(*down: str, known: str = "abc") -> Answer:
    return 200, [{"name": f"rabbit@{one}", "running": one not in down} for one in known]


def queues(members: str, online: str = "") -> Answer:
    names = {"members": [f"rabbit@{one}" for one in members], "online": [f"rabbit@{one}" for one in online or members]}
    return 200, [{"vhost": "shop", "name": "high", "type": "quorum", **names}]


CRITICAL: Answer = (503, {"status": "failed", "queues": [{"name": "high"}]})


def test_it_waits_until_all_nodes_run(server: Server) -> None:
    server.answers["nodes"] = [UnreachableError("down"), (500, "starting"), nodes("b"), nodes()]
    assert run("up").result == {"changed": False, "added": {}}
    assert server.asked == ["GET nodes"] * 4


def test_a_cluster_that_does_not_become_whole_fails_with_the_fault(server: Server) -> None:
    server.answers["nodes"] = nodes("c")
    ended = run("up", timeout=5)
    assert ended.result["msg"] == "the cluster is not whole, as rabbit@a sees it: rabbit@c does not run"
    assert len(server.asked) == 7
    server.answers["nodes"] = UnreachableError("down")
    assert "the management API of rabbit@a does not answer" in run("up", timeout=5).result["msg"]
    assert ended.commands == []


def test_a_node_that_may_be_down_is_not_waited_for(server: Server) -> None:
    server.answers["nodes"] = nodes("c")
    assert run("up", absent=["rabbit@c"]).result == {"changed": False, "added": {}}
    server.answers["nodes"] = nodes("b", "c")
    assert "rabbit@b does not run" in run("up", absent=["rabbit@c"], timeout=5).result["msg"]


def test_a_blank_node_that_is_alone_is_stopped_and_one_with_data_is_not(server: Server) -> None:
    server.answers["nodes"] = nodes(known="a")
    ended = run("up", blank=True, timeout=300)
    assert ended.commands[-1] == ["systemctl", "stop", "--", "rabbitmq-server.service"]
    assert "It was stopped, so that there are not two brokers" in ended.result["msg"]
    # The first node of a healthy first boot is alone for 23 s on RabbitMQ 3.10.
    assert 60 < len(server.asked) < 120
    assert run("up", timeout=300).commands == []
    # It has joined some of them.
    server.answers["nodes"] = nodes(known="ab")
    assert run("up", blank=True, timeout=300).commands == []


@pytest.mark.parametrize("state", ["up", "complete", "expendable", "balanced"])
def test_check_mode_waits_for_nothing_and_changes_nothing(server: Server, state: str) -> None:
    server.answers.update({"nodes": nodes("c"), "queues": queues("ab"), "health": CRITICAL})
    ended = run(state, check=True)
    assert ended.result.get("failed") is None
    assert ended.result["changed"] is (state == "complete")
    assert not [one for one in server.asked if one.startswith("POST")]
    assert len(server.asked) <= 3
    server.answers["overview"] = UnreachableError("not installed yet")
    assert run(state, check=True).result == {"changed": False, "added": {}}


def test_missing_members_are_added_and_awaited(server: Server) -> None:
    server.answers.update(
        {
            "nodes": nodes(),
            "queues/quorum": (200, None),
            "queues?": [queues("ab"), queues("abc", "ab"), queues("abc")],
            "rebalance": (204, None),
        }
    )
    assert run("complete").result == {"changed": True, "added": {"rabbit@c": 1}}
    assert server.asked[2] == "POST queues/quorum/replicas/on/rabbit@c/grow"
    assert server.asked[3:] == ["GET queues"] * 2 + ["POST rebalance/queues"]
    server.answers["queues?"] = queues("abc")
    assert run("complete").result == {"changed": False, "added": {}}


def test_members_that_do_not_come_are_told(server: Server) -> None:
    server.answers.update({"nodes": nodes(), "queues/quorum": (200, None), "queues?": queues("ab")})
    assert "do not have a member on each node yet: shop/high" in run("complete", timeout=5).result["msg"]
    server.answers["queues?"] = [queues("ab"), queues("abc", "ab")]
    assert "do not have a member on each node yet: shop/high" in run("complete", timeout=5).result["msg"]


def test_the_command_grows_where_the_api_cannot(server: Server) -> None:
    server.answers.update(
        {
            "nodes": nodes(),
            "queues/quorum": (405, None),
            "queues?": [queues("ab"), queues("abc")],
            "rebalance": (204, None),
        }
    )
    assert run("complete").commands == [["/usr/sbin/rabbitmq-queues", "--quiet", "grow", "rabbit@c", "all"]]
    server.answers["queues?"] = queues("ab")
    assert "did not grow to rabbit@c: no such node" in run("complete", command=(1, "", "no such node\n")).result["msg"]
    server.answers["queues/quorum"] = (500, {"reason": "broken"})
    assert "did not grow to rabbit@c: broken" in run("complete").result["msg"]


def test_a_node_that_is_away_gets_no_members(server: Server) -> None:
    server.answers.update({"nodes": nodes("c"), "queues?": queues("ab")})
    assert run("complete", absent=["rabbit@c"]).result == {"changed": False, "added": {}}
    server.answers["queues?"] = queues("abc", "ab")
    assert run("complete", absent=["rabbit@c"]).result == {"changed": False, "added": {}}
    # Of the others one lacks a member, and its growth waits for nobody who is away.
    server.answers.update({"queues/quorum": (200, None), "rebalance": (204, None)})
    server.answers["queues?"] = [queues("ac", "a"), queues("abc", "ab")]
    server.asked.clear()
    assert run("complete", absent=["rabbit@c"]).result == {"changed": True, "added": {"rabbit@b": 1}}
    assert server.asked.count("GET queues") == 2


def test_a_node_is_kept_while_a_queue_needs_it(server: Server) -> None:
    server.answers["health"] = [UnreachableError("busy"), CRITICAL, (200, {})]
    assert run("expendable").result == {"changed": False, "added": {}, "expendable": True}
    server.answers["health"] = CRITICAL
    ended = run("expendable", timeout=5)
    assert "rabbit@a was not stopped, because these queues would lose their quorum: high" in ended.result["msg"]
    server.answers["health"] = (503, {"reason": "other"})
    assert "quorum: other" in run("expendable", timeout=5).result["msg"]


def test_while_another_node_is_away_the_answer_is_enough(server: Server) -> None:
    server.answers["health"] = CRITICAL
    ended = run("expendable", absent=["rabbit@c"])
    assert ended.result == {"changed": False, "added": {}, "expendable": False}
    assert len(server.asked) == 1
    assert "these queues would lose their quorum: high" in ended.warnings[0]
    server.answers["health"] = (200, {})
    assert run("expendable", absent=["rabbit@c"]).result["expendable"] is True


def test_a_login_that_is_refused_is_told_at_once(server: Server) -> None:
    server.answers["health"] = RefusedError("no")
    assert "refuses admin" in run("expendable").result["msg"]
    server.answers["health"] = UnreachableError("refused")
    assert "does not answer: refused" in run("expendable", timeout=5).result["msg"]


def test_leaders_that_are_not_distributed_are_a_warning(server: Server) -> None:
    server.answers["rebalance"] = (500, {"reason": "busy"})
    ended = run("balanced")
    assert ended.result == {"changed": False, "added": {}}
    assert ended.warnings == ["the leaders of the queues were not distributed: busy"]


WORKER, OTHER, STAYS = (f"10.0.0.8:{port} -> 10.0.0.1:5672" for port in (1, 2, 3))


def consuming(*connections: str) -> Answer:
    return 200, [
        {
            "ack_required": True,
            "channel_details": {"connection_name": name, "node": "rabbit@a"},
            "queue": {"vhost": "shop/eu", "name": "high"},
        }
        for name in connections
    ]


def connected(*connections: str) -> Answer:
    return 200, [{"name": name} for name in connections]


def test_workers_leave_a_node_once_their_tasks_are_done(server: Server) -> None:
    # One cancels its consumers at once, the other a moment later, and both have something to do first.
    server.answers.update(
        {
            "consumers": [consuming(WORKER, OTHER), consuming(OTHER), consuming()],
            "connections": [connected(WORKER, OTHER), connected(WORKER, OTHER), connected(OTHER), connected()],
            "exchanges": (200, {"routed": True}),
        }
    )
    assert run("drained", timeout=30).result == {"changed": False, "added": {}, "left": 2}
    assert server.asked.count("POST exchanges/shop%2Feu/celery.pidbox/publish") == 1
    assert server.asked.count("GET connections") == 4
    message = next(body for body in server.bodies if body)
    assert json.loads(message["payload"])["arguments"] == {"addresses": ["10.0.0.1"], "ports": [], "seconds": 30}
    assert message["properties"]["content_type"] == "application/json"


def test_a_worker_that_does_not_know_the_command_is_not_waited_for(server: Server) -> None:
    server.answers["consumers"] = [consuming(WORKER, STAYS), consuming(STAYS)]
    server.answers["connections"] = connected(STAYS)
    server.answers["exchanges"] = (404, {"error": "Object Not Found"})
    assert run("drained", timeout=30).result["left"] == 1
    assert server.asked.count("GET connections") == module.OBEY
    # Nobody may be told: that is no reason to fail.
    server.answers["exchanges"] = RefusedError("no")
    server.answers["consumers"] = consuming(STAYS)
    assert run("drained", timeout=30).result == {"changed": False, "added": {}, "left": 0}


def test_a_task_that_does_not_end_holds_the_node_no_longer_than_its_time(server: Server) -> None:
    server.answers["consumers"] = [consuming(WORKER), consuming()]
    server.answers["connections"] = connected(WORKER)
    server.answers["exchanges"] = (200, {"routed": True})
    assert run("drained", timeout=30).result["left"] == 0
    assert 30 <= server.asked.count("GET connections") <= 40


def test_a_node_without_workers_is_left_by_nobody(server: Server) -> None:
    for answer in (consuming(), (500, "starting"), RefusedError("no"), UnreachableError("down")):
        server.answers["consumers"] = answer
        server.asked.clear()
        assert run("drained").result == {"changed": False, "added": {}, "left": 0}
        assert server.asked == ["GET consumers"]
    server.answers["consumers"] = consuming(WORKER)
    assert run("drained", check=True).result["left"] == 0
    assert "POST" not in " ".join(server.asked)
