# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the role's Redis or Valkey would load the data of an existing server on the host. Pure functions.

The role's server has its data in one place, the package's, under the package's names, and reads either the log of
writes (AOF) or the snapshot (RDB). Whatever it would not read is refused here, before anything is changed on any host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import ENGINES, engine_names, refusal
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import FilePath, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: By which variable the data of such a server may be left behind.
VARIABLE = "redis_existing_data"


def takeover_problems(
    engine: str, persistence: str, facts: Mapping[str, Any], variables: Mapping[str, Any]
) -> Iterator[Problem]:
    """Yield what of the host's data would be left behind, or replaced.

    Arguments:
        engine: the engine that is wanted.
        persistence: ``rdb``, ``aof`` or ``none``, as it is to be.
        facts: the host's facts, with what ``redis_found.found`` says as ``celeryops_redis``.
        variables: the role's variables.
    """
    held = facts.get("celeryops_redis") or {}
    if not set(ENGINES) <= set(held):
        return
    refused = refusal(engine, held, start_empty=variables["redis_engine_change"] == "start_empty")
    if refused:
        yield Problem("engine-refused", "redis_implementation", engine, *refused)
        return
    for path in held[engine].get("overrides") or []:
        reason = f"would not run as planned: {path} sets ExecStart= after the role's own drop-in"
        instead = "its settings into redis_settings, and take the line out of that file"
        yield Problem("drop-in-overrides-the-unit", "redis_implementation", engine, reason, instead)
    primary = str(held[engine].get("replica_of") or "")
    if primary and held[engine].get("replicated") and len(variables["redis_nodes"]) < 2:
        # It would refuse every write, and have nobody to replace its primary.
        reason = f"would leave this server alone as a replica of {primary}"
        instead = "all of its servers into the group redis; or make this one the primary first (SENTINEL FAILOVER)"
        yield Problem("replica-left-alone", "redis_nodes", variables["redis_nodes"], reason, instead)
    server = held[engine].get("server") or {}
    if server and variables.get(VARIABLE, "keep") == "keep":
        yield from _left(engine, persistence, server)
        yield from _unlike(engine, server, variables)


def _left(engine: str, persistence: str, server: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what the role's server would not load of what the ``server`` there has (see ``redis_found.server``)."""
    names = engine_names(engine)
    title, data, source = names["title"], names["data_dir"], server["source"]
    leave = f"{VARIABLE}: leave for one run, which leaves it where it is and starts without it"
    own_logs = (f"{data}/appendonlydir", f"{data}/appendonly.aof")
    own_places = (f"{data}/dump.rdb", *own_logs)
    in_log = server["appendonly"] and bool(server["log"])
    kept_in = server["log"] if in_log else server["snapshot"]
    # What it does not say may be something.
    in_memory = server["running"] and server["keys"] != 0
    saves_here = server["running"] and server["saves"] and server["snapshot"] in own_places
    if (in_log or server["saved"] or (in_memory and server["saves"])) and kept_in not in own_places:
        move = (
            f"dir, dbfilename, appenddirname and appendfilename there as the package has them, after {names['unit']} "
            f"was stopped and the data were moved to {own_places[1 if in_log else 0]}"
        )
        if kept_in.endswith("*"):
            # The names are in a file of the log's own as well.
            move = (
                "save points and appendonly no there (CONFIG SET, and its file), then SAVE: its snapshot has them then"
            )
        reason = f"cannot be done: by {source} the data of {title} are in {kept_in}, where the role's would not look"
        yield Problem("data-would-not-be-kept", VARIABLE, FilePath("keep"), reason, f"{move}; or {leave}")
    elif in_log and persistence != "aof" and server["stale_snapshot"] and not saves_here:
        yield Problem(
            "data-left-behind",
            "redis_persistence",
            persistence,
            f"would start {title} without its data: they are in the log of writes ({server['log']}), and no snapshot "
            "is as new",
            f"aof; or {leave}",
        )
    elif not server["appendonly"] and persistence == "aof" and server["log"] in own_logs:
        yield Problem(
            "old-append-only-file",
            "redis_persistence",
            persistence,
            f"would start {title} with an old log of writes ({server['log']}), which the server there does not read",
            f"rdb, or move that log away; or {leave}",
        )
    elif in_memory and not server["saves"] and not server["appendonly"]:
        count = "keys (it does not say how many)" if server["keys"] < 0 else f"{server['keys']} keys"
        yield Problem(
            "data-would-not-be-kept",
            VARIABLE,
            FilePath("keep"),
            f"cannot be done: {title} has {count} in its memory alone (by {source} without save and appendonly), and "
            "has to be restarted",
            f'save points there, and tell it: CONFIG SET save "3600 1"; or {leave}',
        )


def _unlike(engine: str, server: Mapping[str, Any], variables: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield in what the ``server`` there differs so that the role's could not load its data, or would leave others."""
    title, source = engine_names(engine)["title"], server["source"]
    if server["databases"] > int(variables["redis_databases"]):
        yield Problem(
            "fewer-databases",
            "redis_databases",
            variables["redis_databases"],
            f"is less than {title} has: there are keys in database {server['databases'] - 1}, and it would not start",
            f"at least {server['databases']}",
        )
    settings = {str(name).lower(): value for name, value in variables["redis_settings"].items()}
    loaded = settings.get("loadmodule", [])
    files = [str(line).split()[0] for line in (loaded if isinstance(loaded, list) else [loaded]) if str(line).strip()]
    missing = [path for path in server["modules"] if path not in files]
    if missing:
        yield Problem(
            "package-lacks-settings-file",
            "redis_settings.loadmodule",
            files,
            f"lacks what {source} loads, and with data of such a module {title} would not start: {', '.join(missing)}",
            f"a list of these, each with its arguments; or {VARIABLE}: leave for one run, if no data need them",
        )
    if server["replica_of"]:
        reason = f"cannot be done: {title} is a replica of {server['replica_of']}, and would be a server of its own"
        instead = "another host into the group redis; or REPLICAOF NO ONE and CONFIG REWRITE there, if it takes over"
        yield Problem("data-would-not-be-kept", VARIABLE, FilePath("keep"), reason, instead)
