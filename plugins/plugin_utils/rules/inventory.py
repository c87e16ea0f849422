# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about groups, hosts and how they reach each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.module_utils.ours import SEVERAL_MAY_RUN
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.tls_options import unverified
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, closest
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import Finding, Rule
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.machines import ANY, loopback
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import ROLES_OF_GROUP, SERVERS
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.passwords import SHORTEST

if TYPE_CHECKING:
    from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import (
        App,
        Deployment,
        Machine,
        Server,
    )

#: How many nodes a RabbitMQ cluster may have: an even number is as easily lost as one less.
CLUSTER_SIZES = (1, 3, 5)
#: How many Sentinels there may be, for the same reason; more only slow their agreement down.
SENTINELS = (3, 5)
#: How many servers may have the same data.
MOST_REPLICATED = 9
#: Setting that asks for TLS -> the variable with the address that it is for.
_TLS = {"broker_use_ssl": "celery_app_broker_url", "redis_backend_use_ssl": "celery_app_result_backend"}
#: What people call the groups, too far from their names to look like a slip.
_OTHER_NAMES = {
    "rabbit": "rabbitmq",
    "rabbits": "rabbitmq",
    "rabbitmq_server": "rabbitmq",
    "redis_server": "redis",
    "sentinels": "sentinel",
}


def misspelt_groups(deployment: Deployment) -> Iterator[Finding]:
    """Yield the groups that nearly have the name of a duty which not all of their hosts have.

    A group below the right one, such as ``celery_workers_eu``, may be named as it likes.
    """
    for name, hosts in deployment.groups.items():
        if name in ROLES_OF_GROUP:
            continue
        plain = name.lower().replace("-", "_")
        right = _OTHER_NAMES.get(plain) or closest(plain, ROLES_OF_GROUP, 0.9)
        if not right:
            continue
        placed = deployment.groups.get(right) or ()
        # Beside the right one, a longer name is another thing: redis_2, celery_beat_old.
        another = bool(placed) and plain.startswith(f"{right}_") and plain not in _OTHER_NAMES
        if not placed or (set(hosts) - set(placed) and not another):
            reason = "is not one that this collection knows"
            yield Finding(Problem("unknown-group", "a group of the inventory", name, reason, right), name)


def _no_duty(deployment: Deployment) -> Iterator[Finding]:
    if any(deployment.groups.get(group) for group in ROLES_OF_GROUP) or any(misspelt_groups(deployment)):
        return
    groups = [name for name, hosts in deployment.groups.items() if hosts and name != "all"]
    reason = "has no group that this collection knows" if groups else "has no host, or could not be read"
    path = "" if groups else "its path behind -i, and "
    instead = f"{path}its hosts into the groups of their duties: {', '.join(ROLES_OF_GROUP)}"
    yield Finding(Problem("no-known-group", "the inventory", groups, reason, instead))


def _strays(deployment: Deployment) -> Iterator[Finding]:
    for variable, app, host, carried in deployment.strays:
        reason = f"is not the app that {host} carries, {carried}: its files would not be there"
        yield Finding(
            Problem("another-app", variable, app, reason, "celery_app_name instead, or leave it out"), host, carried
        )


def _weak_passwords(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        for variable, reason in app.weak_passwords.items():
            told = f"has a password that {reason}, for a server beyond this host"
            problem = Problem(
                "weak-password", variable, NOT_SHOWN, told, f"a random one of {SHORTEST} characters or more"
            )
            yield Finding(problem, variable, app.name)


def _replication(deployment: Deployment) -> Iterator[Finding]:
    servers = deployment.of_kind("redis")
    hosts = [server.host for server in servers]
    watching = [server.host for server in deployment.of_kind("sentinel")]
    apart = "staging and production into an inventory each"
    if len(hosts) > MOST_REPLICATED:
        reason = f"has {len(hosts)} hosts: the primary would send all its data to {len(hosts) - 1} replicas"
        yield Finding(Problem("too-many-replicas", "redis", hosts, reason, f"{MOST_REPLICATED} hosts at most, {apart}"))
    if watching and len(hosts) < 2:
        reason = "would watch servers of which there is only one: nothing could replace it"
        instead = "more hosts into the group redis, or none into sentinel"
        yield Finding(Problem("nothing-to-replace", "sentinel", watching, reason, instead))
    elif len(hosts) > 1 and len(watching) not in SENTINELS:
        reason = f"has {len(watching)} hosts, and more than half of them have to agree on a new primary"
        instead = "three or five hosts, those of redis perhaps; or one host into redis"
        yield Finding(Problem("number-of-sentinels", "sentinel", watching, reason, f"{instead}, {apart}"))
    engines = {server.host: str(server.variables.get("redis_implementation")) for server in servers}
    if len(set(engines.values())) > 1:
        reason = "differs: one engine does not replicate the other"
        told = [f"{engine} on {host}" for host, engine in engines.items()]
        yield Finding(Problem("different-engines", "redis_implementation", told, reason, "the same for all hosts"))


def _direct_to_replica(deployment: Deployment) -> Iterator[Finding]:
    servers = deployment.of_kind("redis")
    for app in deployment.apps.values() if len(servers) > 1 else ():
        found = {
            login.variable: login.host
            for login in sorted(app.logins, key=str)
            if login.kind == "redis" and login.direct
        }
        for variable, host in found.items():
            reason = (
                f"leads to {host} alone, which takes no writes while another of {len(servers)} servers is the primary"
            )
            instead = "nothing: the playbook asks the Sentinels which one that is; or sentinel:// addresses"
            yield Finding(Problem("direct-to-replica", variable, NOT_SHOWN, reason, instead), variable, app.name)


def _cluster_size(deployment: Deployment) -> Iterator[Finding]:
    hosts = [server.host for server in deployment.of_kind("rabbitmq")]
    if hosts and len(hosts) not in CLUSTER_SIZES:
        # Queues and metadata need more than half of the nodes (RabbitMQ, "Clustering Guide" and "Quorum Queues").
        reason = f"has {len(hosts)} hosts: as many nodes may fail as with {len(hosts) - 1}"
        if len(hosts) > CLUSTER_SIZES[-1]:
            reason = f"has {len(hosts)} hosts: each queue would wait for more than half of them at every message"
        instead = "one, three or five hosts, and staging and production into an inventory each"
        yield Finding(Problem("cluster-size", "rabbitmq", hosts, reason, instead))


def _several_beats(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps:
        duties = [duty for duty in deployment.of_role("celery_beat") if duty.app == app]
        common = deployment.apps[app].own_settings.get("beat_scheduler")
        schedulers = {str(duty.variables.get("celery_beat_scheduler") or common) for duty in duties}
        if len(duties) > 1 and not all(scheduler.startswith(SEVERAL_MAY_RUN) for scheduler in schedulers):
            reason = "would send every due task once per host"
            instead = (
                "one host, or celery_beat_scheduler: redbeat.RedBeatScheduler (celery-redbeat in the app's packages)"
            )
            yield Finding(
                Problem("several-schedulers", "celery_beat", [duty.host for duty in duties], reason, instead), app, app
            )


def _redbeat(deployment: Deployment) -> Iterator[Finding]:
    for duty in deployment.of_role("celery_beat"):
        app = deployment.apps.get(duty.app)
        own = app.own_settings if app else {}
        scheduler = str(duty.variables.get("celery_beat_scheduler") or own.get("beat_scheduler"))
        if not app or not scheduler.startswith(SEVERAL_MAY_RUN) or own.get("redbeat_redis_url"):
            continue
        # The stack's own store of results is a Redis.
        in_redis = app.has_results and (not app.results_at or app.results_at.startswith("Redis"))
        if app.broker != "redis" and not in_redis:
            reason = f"keeps its schedule in a Redis, and {app.name} has none"
            instead = (
                "a host into the group redis, a redis:// address in celery_app_result_backend, or another scheduler"
            )
            yield Finding(
                Problem("keeps-its-schedule", "celery_beat_scheduler", scheduler, reason, instead), app.name, app.name
            )


def _no_beat(deployment: Deployment) -> Iterator[Finding]:
    scheduling = {duty.app for duty in deployment.of_role("celery_beat")}
    for app in deployment.apps.values():
        schedule = app.own_settings.get("beat_schedule")
        if schedule and isinstance(schedule, Mapping) and app.name not in scheduling:
            reason = f"has no scheduler: no host of {app.name} runs beat"
            problem = Problem(
                "schedule-without-beat",
                "celery_app_settings.beat_schedule",
                list(schedule),
                reason,
                "a host into celery_beat",
            )
            yield Finding(problem, app.name, app.name)


def _out_of_reach(deployment: Deployment) -> Iterator[Finding]:
    for server in deployment.servers:
        if server.kind == "rabbitmq" and all(app.broker != "rabbitmq" for app in deployment.apps.values()):
            continue
        home = deployment.machines[server.host].identity
        remote = [
            host
            for app in deployment.apps.values()
            for host in app.hosts
            if host != server.host and deployment.machines[host].identity != home
        ]
        if remote and all(loopback(address) for address in server.listen):
            reason = f"on {server.host} cannot be reached from {', '.join(remote[:3])}{', ...' if remote[3:] else ''}"
            instead = f'an address of {server.host}, or ["0.0.0.0"]'
            variable = SERVERS[server.kind].listens[0].address
            # As it was written: Redis's "-::1" is not "::1".
            yield Finding(
                Problem(
                    "server-out-of-reach",
                    variable,
                    server.variables.get(variable) or list(server.listen),
                    reason,
                    instead,
                )
            )


def _reached_on_loopback(deployment: Deployment) -> Iterator[Finding]:
    found: dict[str, tuple[list[Server], dict[str, None]]] = {}
    for server in deployment.servers:
        home = deployment.machines[server.host]
        # The address of a server's own that others are told; without one it is that of its host.
        own = [address for address in server.listen if not loopback(address) and address not in ANY]
        if own or not loopback(home.address) or all(loopback(address) for address in server.listen):
            continue
        remote = [
            host
            for app in deployment.apps.values()
            for host in app.hosts
            if _is_told(app, server) and not _on_one_machine(home, deployment.machines[host])
        ]
        if remote:
            servers, hosts = found.setdefault(server.host, ([], {}))
            servers.append(server)
            hosts.update(dict.fromkeys(remote))
    for host, (servers, several) in found.items():
        names, kinds = list(several), " and ".join(SERVERS[server.kind].title for server in servers)
        viewers = f"{', '.join(names[:3])}{', ...' if names[3:] else ''}"
        reason = f"is where {viewers} would look for the {kinds} of {host}: each would ask itself"
        variables = " and ".join(SERVERS[server.kind].listens[0].address for server in servers)
        instead = f"an address of {host} that they can reach, or such an address in {variables}"
        yield Finding(
            Problem("loopback-address", "ansible_host", deployment.machines[host].address, reason, instead), host
        )


def _is_told(app: App, server: Server) -> bool:
    """Whether the playbook works out for an app where a server is."""
    needed = {"celery_app_broker_url"} if app.broker == server.kind else set()
    store = server.kind in ("redis", "sentinel")
    return bool((needed | ({"celery_app_result_backend"} if store else set())) - app.given)


def _on_one_machine(one: Machine, other: Machine) -> bool:
    """Whether two hosts are one machine, also where loopback has two names."""
    local = loopback(one.address) and loopback(other.address) and one.port == other.port
    return one.identity == other.identity or local


def _tls_without_server(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        for setting, variable in _TLS.items():
            value = app.own_settings.get(setting)
            absent = variable == "celery_app_result_backend" and not app.has_results
            # What is of another kind its role tells.
            asked = value is True or (isinstance(value, Mapping) and bool(value))
            if asked and variable not in app.given and not absent:
                reason = "uses TLS, and the servers of this inventory listen without it: no client could connect"
                instead = f"an address with TLS in {variable}, or leave it out"
                problem = Problem("tls-without-server", f"celery_app_settings.{setting}", value, reason, instead)
                yield Finding(problem, setting, app.name)


def _unverified_tls(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        for setting in _TLS:
            value = app.own_settings.get(setting)
            if unverified(value):
                reason = "verifies no certificate, so that anybody on the way can pass for the server"
                instead = "cert_reqs: required, and ca_certs where the hosts do not know the CA"
                problem = Problem("no-certificate-verified", f"celery_app_settings.{setting}", value, reason, instead)
                yield Finding(problem, setting, app.name)
        for variable, (said, requirement) in app.lax_urls.items():
            instead = "ssl_cert_reqs=required, and ssl_ca_certs where the hosts do not know the CA"
            reason = (
                # ssl.CERT_OPTIONAL (Python 3.11 to 3.14); Celery believes otherwise (celery/backends/redis.py, 5.7.0).
                "is meant for servers: a client verifies the certificate all the same, and Celery warns at every start"
                if requirement == "optional"
                else "verifies no certificate, so that anybody on the way can pass for the server"
            )
            yield Finding(Problem("option-of-servers", variable, said, reason, instead), variable, app.name)


def _no_broker(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        if "celery_app_broker_url" in app.given or not app.name:
            continue
        if not deployment.of_kind(app.broker):
            reason = f"is the broker of {app.name}, and the group {app.broker} has no host"
            instead = f"a host into the group {app.broker}, or celery_app_broker_url"
            yield Finding(
                Problem("broker-without-host", "celery_app_broker", app.broker, reason, instead), app.name, app.name
            )


RULES = (
    Rule(
        "unknown-group",
        misspelt_groups,
        "A group with a name close to one of the collection's groups: its hosts would get nothing.",
    ),
    Rule("no-duty", _no_duty, "An inventory without any group of this collection."),
    Rule("another-app", _strays, "Workers, beat or Flower of an app that their host does not carry."),
    Rule(
        "weak-password",
        _weak_passwords,
        "A default, short or missing password of a broker or result store that other hosts reach.",
        acceptable=True,
    ),
    Rule(
        "replication",
        _replication,
        "Several Redis servers without three or five Sentinels, more than nine, or of both engines; Sentinels of one.",
    ),
    Rule(
        "direct-to-replica",
        _direct_to_replica,
        "An address of one server of a Redis of several: after a failover its writes would be refused, or lost.",
    ),
    Rule("cluster-size", _cluster_size, "A RabbitMQ cluster of two, four, or more than five nodes."),
    Rule(
        "several-beats",
        _several_beats,
        "Beat on two hosts without RedBeat sends each due task twice. Fine if your own scheduler takes a lock.",
        acceptable=True,
    ),
    Rule(
        "redbeat-without-redis",
        _redbeat,
        "RedBeat for an app without a Redis. An app may name one in its own settings.",
        acceptable=True,
    ),
    Rule(
        "schedule-without-beat",
        _no_beat,
        "A schedule of an app without a host that runs beat: its tasks would never be sent.",
        acceptable=True,
    ),
    Rule("server-out-of-reach", _out_of_reach, "A server that listens on loopback while other hosts need it."),
    Rule(
        "server-on-loopback",
        _reached_on_loopback,
        "A server whose address is loopback to Ansible, and would be to other hosts that need it.",
    ),
    Rule(
        "tls-without-server",
        _tls_without_server,
        "TLS with a RabbitMQ or Redis of this inventory, which listens without TLS: no process could connect.",
        acceptable=True,
    ),
    Rule("unverified-tls", _unverified_tls, "TLS that verifies no certificate.", unwise=True),
    Rule("no-broker", _no_broker, "An app whose broker no host runs."),
)
