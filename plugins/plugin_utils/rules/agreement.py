# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules against contradictions between variables."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import URLS
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq_node import DISTRIBUTION_PORT, EPMD_PORT
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import Finding, Rule
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.backup import directory_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.host_conflicts import PLUGIN_PORTS
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import ROLES
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import Deployment, Duty, Server
    from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import Listens

#: What a producer and a worker have to agree on.
APP_WIDE = (
    "celery_app_broker",
    "celery_app_default_queue",
    "celery_app_queues",
    "celery_app_queue_type",
    "celery_app_exchange",
    "celery_app_dead_letter_queue",
    "celery_app_key_prefix",
    "celery_app_routes",
    "celery_app_longest_eta",
    "celery_app_longest_task",
    "celery_app_visibility_timeout",
    "celery_app_result_expires",
    "celery_app_prefetch_multiplier",
    "celery_app_settings",
    "celery_app_once",
    "celery_app_results",
)
_AGREE = "producers and workers have to agree"
#: Setting of Celery -> the key of a class that wins over it.
_KEY_OF_SETTING = {
    "worker_prefetch_multiplier": "prefetch_multiplier",
    "task_time_limit": "time_limit",
    "task_soft_time_limit": "soft_time_limit",
    "task_acks_late": "acknowledgement",
}
#: Setting of Celery -> the variable of beat that wins over it, on the command line.
_VARIABLE_OF_SETTING = {
    "beat_scheduler": "celery_beat_scheduler",
    "beat_max_loop_interval": "celery_beat_max_interval",
}
#: Key of rabbitmq.conf -> the variable that decides it.
_VARIABLE_OF_KEY = {
    "consumer_timeout": "rabbitmq_consumer_timeout",
    "disk_free_limit.absolute": "rabbitmq_disk_free_limit",
    "disk_free_limit.relative": "rabbitmq_disk_free_limit",
    "listeners.tcp.default": "rabbitmq_port",
    "listeners.tcp.1": "rabbitmq_listen_addresses",
    "log.console.level": "rabbitmq_log_level",
    "log.file.level": "rabbitmq_log_level",
    "management.tcp.ip": "rabbitmq_management_listen_address",
    "management.tcp.port": "rabbitmq_management_port",
    "vm_memory_high_watermark.absolute": "rabbitmq_memory_high_watermark",
    "vm_memory_high_watermark.relative": "rabbitmq_memory_high_watermark",
}


def _differs(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        (first, common), *others = app.variants
        for host, variables in others:
            for name in APP_WIDE:
                if variables.get(name) != common.get(name):
                    reason = f"on {host} differs from {first}: {_AGREE}"
                    instead = "one value for all hosts"
                    yield Finding(Problem("another-value", name, variables.get(name), reason, instead), name, app.name)


def _another_server(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        (first, common), *others = app.variants
        for host, variables in others:
            for name in URLS:
                # A server may have one name here and another one there.
                value, other = (", ".join(one.get(name) or ()) or "none" for one in (variables, common))
                # What nobody sets follows from what others are told of.
                if value != other and name in app.given:
                    reason = f"on {host} is another server than on {first}, {other}: {_AGREE}"
                    yield Finding(
                        Problem("another-server", name, value, reason, "one server for all hosts"), name, app.name
                    )


def _accounts(deployment: Deployment) -> Iterator[Finding]:
    for variable, account, host, app, common in deployment.accounts:
        reason = f"on {host} is not the account of {app}, {common}, which owns what its processes write"
        instead = f"celery_app_{variable.rpartition('_')[2]} for all of them, or leave it out"
        yield Finding(Problem("another-account", variable, account, reason, instead), variable, app)


def _given_twice(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        setting, variable = "worker_prefetch_multiplier", "celery_app_prefetch_multiplier"
        if variable in app.given and app.own_settings.get(setting, app.variables[variable]) != app.variables[variable]:
            reason = f"has no effect: celery_app_settings.{setting} is {app.own_settings[setting]}"
            instead = "one of the two"
            problem = Problem("no-effect-beside-settings", variable, app.variables[variable], reason, instead)
            yield Finding(problem, variable, app.name)
        for setting, key in _KEY_OF_SETTING.items():
            if setting not in app.own_settings or not app.classes:
                continue
            common = app.classes[0].where(key) == f"celery_worker_defaults.{key}"
            value = app.classes[0].written.get(key)
            if common and _meaning(key, value) != _meaning(key, app.own_settings[setting]):
                reason = f"has no effect: celery_worker_defaults.{key} is {value} for every class"
                problem = Problem(
                    "no-effect-beside-defaults",
                    f"celery_app_settings.{setting}",
                    app.own_settings[setting],
                    reason,
                    "one of the two",
                )
                yield Finding(problem, setting, app.name)
    for duty in deployment.of_role("celery_beat"):
        settings = deployment.apps[duty.app].own_settings if duty.app in deployment.apps else {}
        for setting, variable in _VARIABLE_OF_SETTING.items():
            # 0, or nothing, leaves it to the settings.
            value = _meaning(variable, duty.variables.get(variable) or "")
            if setting in settings and value and value != _meaning(variable, settings[setting]):
                reason = f"has no effect: {variable} is {duty.variables[variable]}"
                problem = Problem(
                    "no-effect", f"celery_app_settings.{setting}", settings[setting], reason, "one of the two"
                )
                yield Finding(problem, setting, duty.app)
    for server in deployment.of_kind("rabbitmq"):
        own: Mapping[str, Any] = server.variables.get("rabbitmq_config") or {}
        for key, variable in _VARIABLE_OF_KEY.items():
            if key in own and variable in server.given:
                reason = f"is decided by {variable} as well, which is {server.variables.get(variable)}"
                yield Finding(
                    Problem("decided-twice", f"rabbitmq_config.{key}", own[key], reason, "one of the two"), key
                )


def _meaning(key: str, value: object) -> object:
    """Return what a value comes to, in which of the two ways it may be written."""
    if key == "acknowledgement":
        return value in (True, "late")
    if key in ("time_limit", "soft_time_limit", "celery_beat_max_interval"):
        with contextlib.suppress(OverflowError, ValueError):
            return parse_duration(int(value) if isinstance(value, float) else value)
    return str(value)


def fixed_ports(server: Server) -> Iterable[int]:
    """Return the ports of a RabbitMQ that no variable of ours names: between nodes, epmd's, and its plugins'."""
    plugins = server.variables.get("rabbitmq_plugins") or ()
    yield from (DISTRIBUTION_PORT, EPMD_PORT)
    yield from (port for plugin, (_key, port) in PLUGIN_PORTS.items() if plugin in plugins)


def _ports(served: Server | Duty, listens: Iterable[Listens]) -> Iterator[tuple[str, int, str]]:
    """Yield the host, the port and its variable of what is listened on."""
    for one in listens:
        yield served.host, int(served.variables.get(one.port) or 0), one.port


def _one_port(deployment: Deployment) -> Iterator[Finding]:
    taken: dict[tuple[str, int], tuple[str, str]] = {}
    listeners = [
        # RabbitMQ's fixed ones first: whoever else has one of them can be told to take another.
        *((server.host, port, "RabbitMQ") for server in deployment.of_kind("rabbitmq") for port in fixed_ports(server)),
        # What clients connect to before what else a server listens on.
        *((server.host, server.port, ROLES[server.kind].listens[0].port) for server in deployment.servers),
        *(one for server in deployment.servers for one in _ports(server, ROLES[server.kind].listens[1:])),
        *(one for duty in deployment.duties for one in _ports(duty, ROLES[duty.role].listens)),
    ]
    for host, port, variable in listeners:
        place = (deployment.machines[host].identity, port)
        other, where = taken.setdefault(place, (variable, host))
        # The two ports of one RabbitMQ are that role's own check.
        own = where == host and {other, variable} <= {"RabbitMQ", *(one.port for one in ROLES["rabbitmq"].listens)}
        # Two RabbitMQ on one machine are a mistake of another kind.
        own = own or {other, variable} == {"RabbitMQ"}
        if port and (other, where) != (variable, host) and not own:
            yield Finding(
                Problem("port-taken", variable, port, f"on {host} is taken by {other} of {where}", "another port"), host
            )


def _one_directory(deployment: Deployment) -> Iterator[Finding]:
    """Yield the servers of one machine whose backups go into one directory, which belongs to one of their accounts."""
    taken: dict[tuple[str, str], str] = {}
    for server in deployment.servers:
        variable = f"{server.kind}_backup"
        given = server.variables.get(variable)
        if not isinstance(given, Mapping) or not given:
            continue
        directory = directory_of(server.kind, given)
        other = taken.setdefault((deployment.machines[server.host].identity, directory), variable)
        if other != variable:
            reason = f"is that of {other} on {server.host} too, and each run would give it to another account"
            yield Finding(
                Problem("directory-taken", f"{variable}.directory", directory, reason, "another directory"), server.host
            )


RULES = (
    Rule(
        "differs-between-hosts",
        _differs,
        "A variable of the shared configuration with different values on the hosts of one app.",
    ),
    Rule(
        "another-server",
        _another_server,
        "A URL of the shared configuration that means different servers or databases on the hosts of one app.",
        acceptable=True,
    ),
    Rule("different-accounts", _accounts, "Processes of one app with different accounts: they share their files."),
    Rule("given-twice", _given_twice, "One setting in two places with different values."),
    Rule(
        "port-twice",
        _one_port,
        "Two servers of one machine on one port, including RabbitMQ's plugin and inter-node ports.",
    ),
    Rule("directory-twice", _one_directory, "Two servers of one machine whose backups go into one directory."),
)
