"""Who listens where."""

from __future__ import annotations

import os
import socket as sockets_of_python
from ipaddress import ip_address

from ansible_collections.celeryops.stack.plugins.module_utils.listeners import (
    Process,
    Socket,
    activated_by,
    holders,
    look,
    sockets,
    unit_of,
)

TABLE = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1628 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 4711 1 0000 100 0 0 10 0
   1: 0100007F:1628 0100007F:C001 01 00000000:00000000 00:00000000 00000000   998        0 4712 1 0000 100 0 0 10 0
"""
SIX = """  sl  local_address                         remote_address                        st tx rx
   0: 00000000000000000000000000000000:1538 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 55 1
   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 7 0 56 1
   2: 0000000000000000FFFF00000100007F:0051 00000000000000000000000000000000:0000 0A 0:0 0:0 0 7 0 57 1
"""


def test_only_what_listens_counts() -> None:
    assert sockets(TABLE) == [Socket("127.0.0.1", 5672, 998, 4711)]


def test_addresses_of_ipv6() -> None:
    found = [(ip_address(one.address), one.port) for one in sockets(SIX)]
    assert found == [(ip_address("::"), 5432), (ip_address("::1"), 80), (ip_address("::ffff:127.0.0.1"), 81)]


def test_the_unit_of_a_process() -> None:
    assert unit_of("0::/system.slice/redis-server.service\n") == "redis-server.service"
    assert unit_of("4:memory:/docker/26/system.slice/a.service\n0::/docker/26/system.slice/a.service\n") == "a.service"
    assert unit_of("0::/user.slice/user-0.slice/user@0.service/app.slice/web.service\n") == "web.service"
    assert unit_of("0::/system.slice/system-redis.slice/redis@1.service/inner\n") == "redis@1.service"
    assert unit_of("0::/init.scope\n") == unit_of("0::/\n") == unit_of("") == ""


def test_who_has_a_socket() -> None:
    listening = [
        Socket("127.0.0.1", 80, 33, 1),
        Socket("::", 81, 33, 2),
        Socket("::", 82, 0, 3),
        Socket("::", 83, 5, 4),
    ]
    processes = [
        Process(1, "systemd", "", 0, frozenset({3})),
        Process(7, "nginx", "nginx.service", 33, frozenset({1})),
        Process(8, "php", "php.service", 33, None),
        Process(9, "php", "other.service", 33, None),
        Process(10, "one", "one.service", 5, None),
    ]
    first, second, third, fourth = holders(listening, processes, {("::", 82): "web.socket"})
    assert (first["pid"], first["process"], first["unit"], first["perhaps"]) == (7, "nginx", "nginx.service", [])
    assert (second["pid"], second["unit"], second["perhaps"]) == (0, "", ["other.service", "php.service"])
    assert (third["pid"], third["unit"]) == (1, "web.socket")
    # The only process of that account that cannot be looked at.
    assert (fourth["pid"], fourth["unit"]) == (10, "one.service")


def test_what_systemd_listens_for() -> None:
    shown = (
        "Listen=127.0.0.1:4369 (Stream)\nListen=10.0.0.5:4369 (Stream)\nId=epmd.socket\n\n"
        "Id=cups.socket\nListen=/run/cups (Stream)\nListen=[::1]:631 (Stream)\n\nId=ssh.socket\nListen=22 (Stream)\n\n"
        "Id=log.socket\nListen=[::]:514 (Datagram)\n"
    )
    assert activated_by(shown) == {
        ("127.0.0.1", 4369): "epmd.socket",
        ("10.0.0.5", 4369): "epmd.socket",
        ("::1", 631): "cups.socket",
        ("::", 22): "ssh.socket",
    }


def test_a_socket_of_this_process_is_seen() -> None:
    with sockets_of_python.socket() as own:
        own.bind(("127.0.0.1", 0))
        own.listen()
        port = own.getsockname()[1]
        [found] = [entry for entry in look() if entry["port"] == port]
    assert (found["address"], found["pid"]) == ("127.0.0.1", os.getpid())
    assert [entry for entry in look() if entry["port"] == port] == []
