"""What happens to Redis and Valkey with Sentinel, on the hosts of a cluster's nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.chaos.report import Strike
from tools.chaos.scenario import CUT, DOWN, FROZEN, SHORT
from tools.chaos.whole import PORTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.chaos.scenario import Scenario


def kill_primary(s: Scenario) -> Sequence[Strike]:
    """Kill the primary, and keep it down: a start at once would make it the primary again."""
    node, server, at = s.primary(), f"{s.redis}-server.service", s.now()
    s.on(f"systemctl mask --runtime --quiet {server}; systemctl kill --signal=KILL {server}", host=node)
    s.wait(lambda: False, SHORT if s.short else DOWN)
    s.on(f"systemctl unmask --runtime --quiet {server}; systemctl start {server}", host=node)
    return [Strike(at, at)]


def freeze_primary(s: Scenario) -> Sequence[Strike]:
    """Freeze the primary and the Sentinel beside it, as if their host were, and thaw them."""
    node, units, at = s.primary(), f"{s.redis}-server.service {s.redis}-sentinel.service", s.now()
    s.on(f"systemctl kill --signal=STOP {units}", host=node)
    try:
        s.wait(lambda: False, SHORT if s.short else FROZEN)
    finally:
        s.on(f"systemctl kill --signal=CONT {units}", host=node)
    return [Strike(at, at)]


def cut_primary(s: Scenario) -> Sequence[Strike]:
    """Drop every packet of the primary and of the Sentinel beside it, so that nobody is told that they are gone."""
    node, at = s.primary(), s.now()
    ports = ",".join(map(str, PORTS.values()))
    rules = [
        f"{chain} ! -{side} lo -p tcp -m multiport --ports {ports} -j DROP"
        for chain, side in (("INPUT", "i"), ("OUTPUT", "o"))
    ]
    s.on(" && ".join(f"iptables -A {rule}" for rule in rules), host=node)
    try:
        s.wait(lambda: False, SHORT if s.short else CUT)
    finally:
        s.on("iptables -F", host=node)
    return [Strike(at, at)]


def kill_sentinel(s: Scenario) -> Sequence[Strike]:
    """Kill a Sentinel; systemd starts it again."""
    at = s.now()
    s.on(f"systemctl kill --signal=KILL {s.redis}-sentinel.service", host=s.primary())
    return [Strike(at, at)]
