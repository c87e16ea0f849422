# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the contents of a server before and after a restart.

The last safeguard: what would start a server empty is refused earlier (``redis_found``, ``rabbitmq_found``). A
server that did not answer before is not compared. Changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils import rabbitmq_contents, redis_found
from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import (
    Client,
    ServerError,
    engine_names,
)

#: Runs a command and returns what it prints; an empty text when it fails.
Run = Callable[[Sequence[str]], str]
Contents = dict[str, Any]

#: How a module is told of the servers among its units.
OPTION: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "unit": {"type": "str", "required": True},
        "kind": {"type": "str", "required": True, "choices": ["rabbitmq", "redis", "valkey"]},
        "username": {"type": "str", "default": ""},
        "password": {"type": "str", "default": "", "no_log": True},
        "before": {"type": "dict"},
    },
}
#: How often a server that lacks something is asked again, and after how many seconds: it may still be reading.
TRIES, PAUSE = 5, 2
#: Keys that expire sooner may be gone after a restart, in milliseconds.
_SHORT = 600_000
#: From how many keys on a server that has lost half of them has lost some.
_MANY = 20


def contents(server: Mapping[str, Any], run: Run) -> Contents:
    """Return what a server holds now, in plain data; empty when it does not say.

    Arguments:
        server: an item of ``OPTION``.
        run: runs a command.
    """
    # A tool that finds no node would start epmd, and that listens at every address.
    if run(["systemctl", "is-active", "--", server["unit"]]).strip() != "active":
        return {}
    if server["kind"] == "rabbitmq":
        text = run(rabbitmq_contents.command(rabbitmq_contents.look_at_all()))
        # Its last line says that it was told to the end.
        return {"text": text} if text.rstrip().endswith("ok") else {}
    return {"databases": databases} if (databases := _keyspace(server, run)) is not None else {}


def lost(server: Mapping[str, Any], before: Contents, after: Contents) -> list[str]:
    """Return what a server had before and lacks now, in words; nothing when one of both is not known."""
    if not before or not after:
        return []
    if server["kind"] == "rabbitmq":
        return rabbitmq_contents.missing(
            rabbitmq_contents.parse(before["text"]), rabbitmq_contents.parse(after["text"])
        )
    return missing_keys(before["databases"], after["databases"])


def lost_by_restart(server: Mapping[str, Any], before: Contents, run: Run) -> list[str]:
    """Return what a server that was just restarted lacks, after it had some time to read what it has."""
    missing: list[str] = []
    for attempt in range(TRIES):
        missing = lost(server, before, contents(server, run))
        if not missing:
            break
        if attempt < TRIES - 1:
            time.sleep(PAUSE)
    return missing


def missing_keys(before: Mapping[str, Mapping[str, int]], after: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return the databases that lost keys which do not expire soon (see ``redis_found.keyspace``)."""
    missing = []
    for number, had in before.items():
        lasting = had["keys"] - (had["expires"] if had["ttl"] < _SHORT else 0)
        has = after.get(number, {}).get("keys", 0)
        if lasting and (has == 0 or (lasting >= _MANY and has < lasting / 2)):
            missing.append(f"{lasting - has} of {lasting} keys of database {number}")
    return missing


def advice(server: Mapping[str, Any]) -> str:
    """Return how to get back what a restart lost."""
    if server["kind"] == "rabbitmq":
        return (
            "RabbitMQ has its data in a directory of the node's name, /var/lib/rabbitmq/mnesia unless MNESIA_BASE says "
            "otherwise: see which are there, and write rabbitmq_node_name for the one that holds them. Configuration "
            "of another hand is beside what replaced it (*.before-celeryops~)"
        )
    names = engine_names(server["kind"])
    return (
        f"Nothing was deleted: look for the data in {names['data_dir']} (appendonlydir.old, appendonly.aof.old, "
        f"dump.rdb) and keep a copy of them before {names['unit']} saves again; then put them back, or write the "
        "redis_persistence that reads them"
    )


def _keyspace(server: Mapping[str, Any], run: Run) -> dict[str, dict[str, int]] | None:
    names = engine_names(server["kind"])
    try:
        with Client(names["socket"], timeout=10) as client:
            client.call("AUTH", server["username"], server["password"])
            return redis_found.keyspace(client.call("INFO", "keyspace"))
    except (OSError, ServerError):
        pass
    # Somebody else's server, before the first run.
    return redis_found.databases(server["kind"], run)
