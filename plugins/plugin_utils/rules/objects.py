# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about what the inventory declares in RabbitMQ beside what the apps declare there themselves."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import Finding, Rule
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.rabbitmq_policies import Policy, acting, policies
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import SERVERS
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.server_objects import DEAD_LETTERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import App, Deployment, Server


def _places(deployment: Deployment) -> Iterator[tuple[Server, App, str]]:
    """Yield each RabbitMQ with each app on it, and the virtual host in which that is."""
    for server in deployment.of_kind("rabbitmq"):
        for app in deployment.apps.values():
            yield from ((server, app, vhost) for vhost in sorted(deployment.vhosts(app, server)))


def _without_dead_letters(deployment: Deployment) -> Iterator[Finding]:
    for server, app, vhost in _places(deployment):
        # The policy that keeps dead letters is the site playbook's, in the virtual host that it makes for the app.
        if vhost != app.name or "rabbitmq_extra_definitions" in server.given:
            continue
        dead = str(app.variables.get("celery_app_dead_letter_queue"))
        declared = policies(server.variables, "policies", vhost)
        told: dict[str, tuple[Policy, str]] = {}
        for queue, kind in app.queues.items():
            for policy in acting(declared, queue, kind) if queue != dead else ():
                keeps = "dead-letter-exchange" in policy.definition or policy.variable.endswith(f".{DEAD_LETTERS}")
                if policy.priority >= 0 and not keeps:
                    told.setdefault(policy.variable, (policy, queue))
        for variable, (policy, queue) in told.items():
            reason = (
                f"takes the place of the policy that keeps what {queue} of {app.name} cannot process, since only one "
                "policy acts on a queue: such tasks would be lost"
            )
            instead = f'dead-letter-exchange: "" and dead-letter-routing-key: {dead} beside it, and a priority above 0'
            shown = sorted(policy.definition)
            problem = Problem("hides-the-dead-letter-policy", f"{variable}.definition", shown, reason, instead)
            yield Finding(problem, variable.rpartition(".")[2], app.name)


def _declared_otherwise(deployment: Deployment) -> Iterator[Finding]:
    for server, app, vhost in _places(deployment):
        for entry in server.variables.get("rabbitmq_queues") or ():
            name = entry["name"]
            if entry["vhost"] != vhost or name not in app.queues:
                continue
            kind = app.queues[name]
            differs = _differences(entry, {"type": (kind, "quorum")})
            if differs:
                reason = (
                    f"is not how {app.name} declares the queue, of type {kind} alone: RabbitMQ refuses the second one"
                )
                instead = "its type in celery_app_queues, everything else as a policy, and nothing here"
                problem = Problem("queue-declared-otherwise", f"rabbitmq_queues.{name}", differs, reason, instead)
                yield Finding(problem, str(name), app.name)
        for entry in server.variables.get("rabbitmq_exchanges") or ():
            name = entry["name"]
            if entry["vhost"] != vhost or name != app.variables.get("celery_app_exchange"):
                continue
            differs = _differences(entry, {"type": ("topic", "direct"), "internal": (False, False)})
            if differs:
                reason = (
                    f"is not how {app.name} declares its exchange, a durable topic: RabbitMQ refuses the second one"
                )
                instead = "another name here, or in celery_app_exchange"
                problem = Problem("exchange-declared-otherwise", f"rabbitmq_exchanges.{name}", differs, reason, instead)
                yield Finding(problem, str(name), app.name)


def _differences(entry: Mapping[str, Any], further: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Return what an object says otherwise than an app does.

    Arguments:
        entry: the object, as it is written.
        further: key -> what the app says, and what holds where nothing is written.
    """
    keys = {"durable": (True, True), "auto_delete": (False, False), **further}
    written = {key: usual if entry.get(key) is None else entry[key] for key, (_wanted, usual) in keys.items()}
    differs = {key: written[key] for key, (wanted, _usual) in keys.items() if written[key] != wanted}
    return {**differs, **({"arguments": entry["arguments"]} if entry.get("arguments") else {})}


def _accounts_of_apps(deployment: Deployment) -> Iterator[Finding]:
    for server, app, vhost in _places(deployment):
        if vhost != app.name or "celery_app_broker_url" in app.given or "rabbitmq_extra_definitions" in server.given:
            continue
        for entry in server.variables.get("rabbitmq_users") or ():
            name = str(entry["name"])
            secret = next((key for key in ("password", "password_hash") if entry.get(key)), "")
            if secret and name in (app.name, f"{app.name}-flower"):
                whose = app.name if name == app.name else f"the Flower of {app.name}"
                reason = f"is another one than the playbook gives to {whose}, which would be refused"
                problem = Problem(
                    "another-password", f"rabbitmq_users.{name}.{secret}", NOT_SHOWN, reason, "the account without it"
                )
                yield Finding(problem, name, app.name)


def _unknown_accounts(deployment: Deployment) -> Iterator[Finding]:
    servers = {(server.kind, server.host): server for server in deployment.servers}
    for app in deployment.apps.values():
        for login in sorted(app.logins, key=astuple):
            server, kind = servers[login.kind, login.host], login.kind
            # The playbook's own, which have what the apps need, unless the inventory gives others.
            if {"rabbitmq_extra_definitions", "redis_extra_users"} & server.given:
                continue
            there = {name for name, other in deployment.apps.items() if other.broker == kind or kind == "redis"}
            declared = {str(entry["name"]) for entry in server.variables.get(f"{kind}_users") or ()}
            declared.add(str(server.variables.get(f"{kind}_admin_user")))
            vhosts = {*there, *(str(entry["name"]) for entry in server.variables.get("rabbitmq_vhosts") or ())}
            whose = f"the {SERVERS[kind].title} of {login.host}"
            refused = "which this inventory sets up: nobody would be let in"
            instead = f"nothing, since the playbook makes an account and the address for {app.name}"
            # Some write a password where the account stands.
            value, reason = login.user if login.user in {*there, "guest", "default"} else NOT_SHOWN, ""
            if login.user in there - declared:
                reason = (
                    f"is the account that the playbook makes at {whose}, with a password of its own: no other is let in"
                )
                # Redis takes each account once.
                account = "the account with this password" if kind == "rabbitmq" else "an account of another name"
                instead += f", or {account} into {kind}_users"
            elif login.user not in declared:
                reason = f"is not an account of {whose}, {refused}"
                instead += f", or the account into {kind}_users"
            elif login.vhost and login.vhost not in vhosts:
                value, reason = login.vhost, f"is not a virtual host of {whose}, {refused}"
                instead = f"{app.name} behind the address, or the virtual host into rabbitmq_vhosts"
            if reason:
                yield Finding(Problem("no-account", login.variable, value, reason, instead), login.variable, app.name)


RULES = (
    Rule(
        "policy-without-dead-letters",
        _without_dead_letters,
        "A policy that replaces the one that dead-letters tasks after too many deliveries.",
        acceptable=True,
    ),
    Rule(
        "declared-otherwise",
        _declared_otherwise,
        "A queue or exchange of an app that the inventory declares differently: RabbitMQ refuses one of the two.",
    ),
    Rule(
        "account-of-an-app",
        _accounts_of_apps,
        "A password for the account that the playbook makes for an app, which knows only the playbook's own.",
        acceptable=True,
    ),
    Rule(
        "unknown-account",
        _unknown_accounts,
        "A URL of a server of this inventory with an account or virtual host that the server does not have.",
        acceptable=True,
    ),
)
