"""Whether a node would reach the others of its cluster."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import rabbitmq_peers
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_peers import distribution_port, why_not_reached

ANSWER = b"\x00\x00\x11\x11name rabbit at port 25672\nname rabbit2 at port 25673\n"


@pytest.mark.parametrize(
    ("node", "port"), [("rabbit@mq1", 25672), ("rabbit2@mq1", 25673), ("r.bbit@mq1", 0), ("bit@mq1", 0)]
)
def test_the_port_of_a_node(node: str, port: int) -> None:
    assert distribution_port(ANSWER, node) == port
    assert distribution_port(ANSWER[:4], node) == 0
    assert distribution_port(b"", node) == 0


class Host:
    """A host of which some ports are open; each of them answers as epmd does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
        self.asked: list[tuple[str, int]] = []
        self.parts: list[bytes] = []
        self.ports = ports
        monkeypatch.setattr(rabbitmq_peers.socket, "create_connection", self.connect)
        monkeypatch.setattr(rabbitmq_peers.socket, "gethostbyname", self.resolve)

    def connect(self, address: tuple[str, int], timeout: float) -> Host:
        self.asked.append(address)
        assert timeout
        if address[1] not in self.ports:
            raise ConnectionRefusedError("Connection refused")
        self.parts = [ANSWER[:9], ANSWER[9:], b""]
        return self

    def resolve(self, name: str) -> str:
        addresses = {"mq1": "10.0.0.1", "mq2": "127.0.1.1"}
        if name not in addresses:
            raise socket.gaierror("Name or service not known")
        return addresses[name]

    def sendall(self, data: bytes) -> None:
        # The length of the request, and NAMES_REQ.
        assert data == b"\x00\x01n"

    def recv(self, _size: int) -> bytes:
        return self.parts.pop(0)

    def close(self) -> None:
        pass

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_error: Any) -> None:
        pass


def test_a_node_that_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, 4369, 25672)
    assert why_not_reached("rabbit@mq1", "") == ""
    assert host.asked == [("10.0.0.1", 4369), ("10.0.0.1", 25672)]
    assert why_not_reached("rabbit@mq2", "10.0.0.2") == ""
    # One that does not run yet.
    assert why_not_reached("shop@mq1", "") == ""
    assert host.asked[2:] == [("10.0.0.2", 4369), ("10.0.0.2", 25672), ("10.0.0.1", 4369)]


def test_a_node_that_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    Host(monkeypatch, 4369)
    assert why_not_reached("rabbit@mq3", "") == "mq3 has no address here: Name or service not known"
    assert why_not_reached("rabbit@mq2", "") == "mq2 is 127.0.1.1 here, which is this host"
    assert why_not_reached("rabbit@mq1", "") == "port 25672 of mq1 (10.0.0.1): Connection refused"
    Host(monkeypatch, 25672)
    assert why_not_reached("rabbit@mq1", "") == "port 4369 of mq1 (10.0.0.1): Connection refused"
