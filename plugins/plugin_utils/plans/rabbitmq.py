# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of the role rabbitmq: the server's settings and one document of its objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq_configuration import (
    api_host_of,
    settings_of,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq_definitions import definitions_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq_node import (
    cluster_of,
    connections,
    distribution_is_local,
    environment_of,
    epmd_listen,
    node_of,
    open_files,
    open_files_problems,
    peer_hosts,
    plugins_of,
    watched_partitions,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq_packages import (
    PRIVATE_FILE,
    packages_of,
    pins_of,
    repository_of,
    stale_files,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq_variables import CONFIG_DIR, Variables
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.backup import Backup, Server, backup_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.units import check_platform, command_line
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.derived import needed_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import (
        Problem,
    )

#: How many MiB have to be free on the disk of the store, besides its log, before RabbitMQ starts; and for how many
#: seconds a start waits for them, which is well below TimeoutStartSec= of its unit (600). A choice.
START_ROOM, START_PATIENCE = 64, 60
#: Where the node's data is, in a directory of its name; quorum queues may have another one (raft.data_dir).
_STORE = "/var/lib/rabbitmq/mnesia"
_START_CHECK = f"{CONFIG_DIR}/celeryops-disk.sh"
_STORE_WATCH = f"{CONFIG_DIR}/celeryops-disk.erl"
_PARTITION_WATCH = f"{CONFIG_DIR}/celeryops-partition.erl"
#: What takes effect without a restart. RabbitMQ reads it when a channel is opened, and 4.3 when a consumer begins
#: (get_consumer_timeout in rabbit_channel.erl of 3.10.8 and 4.0.5, in rabbit_queue_type.erl of 4.3.5): who consumes
#: already keeps the old one until it connects again. A class with longer tasks connects after its server was told.
_LIVE_FILE = f"{CONFIG_DIR}/conf.d/40-celeryops.conf"
_LIVE = "consumer_timeout"
#: Evaluated by the node. No $ and no \\, which systemd reads.
_RELOAD = (
    f'{{ok, File}} = file:read_file("{_LIVE_FILE}"), '
    f'{{match, [Value]}} = re:run(File, "^{_LIVE} = ([0-9]+)", [multiline, {{capture, [1], list}}]), '
    f"application:set_env(rabbit, {_LIVE}, list_to_integer(Value))."
)

#: Its tool reads the cookie of the server's account, so the backup needs no password.
_SERVER = Server(
    role="rabbitmq",
    title="RabbitMQ's definitions",
    kind="rabbitmq",
    unit="rabbitmq-server.service",
    user="rabbitmq",
    group="rabbitmq",
    program=f"{CONFIG_DIR}/celeryops-backup",
)


class Plan(TypedDict, total=False):
    """What the tasks and templates of the role read, without any secret.

    ``live`` are the settings that take effect without a restart: their file, and how the node reads it. ``cluster`` are
    the names of all nodes, none where there is only one; ``hosts`` their hosts' addresses; ``series`` is that of the
    version, empty where it is not known; ``blank`` is whether the
    host has no data of the node yet.
    """

    node: dict[str, str]
    packages: list[str]
    pins: list[dict[str, str]]
    repository: dict[str, Any]
    plugins: list[str]
    settings: list[dict[str, Any]]
    live: dict[str, Any]
    secret_files: list[dict[str, str]]
    stale_files: list[dict[str, str]]
    environment: list[dict[str, Any]]
    loopback_host: str
    hosts: list[dict[str, str]]
    cluster: list[str]
    series: str
    blank: bool
    epmd_listen: list[str]
    open_files: int
    needed_files: int
    stop_timeout: int
    drain_timeout: int
    journal: bool
    partition_watch: dict[str, Any]
    disk: dict[str, Any]
    api: dict[str, Any]
    definitions: dict[str, Any]
    backup: Backup


def plan(variables: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Plan, list[Problem]]:
    """Return the server's settings and definitions, without any secret, and what is wrong with the variables.

    Arguments:
        variables: the variables named in the role's argument specs.
        facts: the host's facts; when empty, nothing about the host is checked.
    """
    given = Variables(variables, facts)
    given.problems += check_platform(given.facts)
    node = node_of(given)
    api_host = api_host_of(given)
    plugins = plugins_of(given)
    kept = given.found.get("quorum") or given.found.get("data") or _STORE
    store = given.values["config"].get("raft.data_dir", kept)
    settings = settings_of(given)
    open_files_problems(given)
    backup, problems = backup_of(_SERVER, given.values["backup"])
    given.problems += problems
    watched = watched_partitions(given)
    result: Plan = {
        "node": node,
        "packages": packages_of(given),
        "pins": pins_of(given),
        "repository": repository_of(given),
        "plugins": plugins,
        "settings": [entry for entry in settings if entry["key"] != _LIVE],
        "live": {
            "path": _LIVE_FILE,
            "settings": [entry for entry in settings if entry["key"] == _LIVE],
            # The node's own arguments are not for the program that speaks to it.
            "reload": command_line(
                ["/usr/bin/env", "--unset=ERL_AFLAGS", "/usr/sbin/rabbitmqctl", "--quiet", "eval", _RELOAD]
            ),
        },
        "secret_files": [{"name": PRIVATE_FILE}] if given.values["secret_config"] else [],
        "stale_files": [{"path": path} for path in [*stale_files(given), *([] if watched else [_PARTITION_WATCH])]],
        "environment": environment_of(given, node),
        "loopback_host": node["host"] if distribution_is_local(given) else "",
        "hosts": peer_hosts(given),
        "cluster": cluster_of(given),
        "series": given.series(),
        "blank": node["name"] not in (given.found.get("nodes") or ()),
        "epmd_listen": epmd_listen(given),
        "open_files": open_files(given),
        "needed_files": needed_files(connections(given)),
        "stop_timeout": given.duration("stop_timeout"),
        "drain_timeout": given.duration("drain_timeout"),
        "journal": given.values["log_to"] == "journal",
        "partition_watch": {"path": _PARTITION_WATCH, "wanted": watched},
        "disk": {
            "check": _START_CHECK,
            "command": command_line(["/bin/sh", _START_CHECK, store, START_ROOM, START_PATIENCE]),
            "watch": _STORE_WATCH,
        },
        "api": {"host": api_host, "port": given.values["management_port"]},
        "definitions": definitions_of(given),
        "backup": backup,
    }
    return result, given.problems
