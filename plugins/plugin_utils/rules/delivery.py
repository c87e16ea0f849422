# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that keep a broker from losing a task or delivering it twice."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.module_utils import celery_versions
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import Finding, Rule
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.rabbitmq_policies import (
    CONSUMER_TIMEOUT,
    Policy,
    policies,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import show_duration
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.requirements import rules_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import (
        App,
        Deployment,
        RunningClass,
        Server,
    )

_DAY = 86400
#: What may be promised of a delayed task. RabbitMQ keeps it on disk; a worker that holds it keeps it in memory, and
#: with Redis every task whose worker died waits for as long (measured with Celery 5.7.0).
_LONGEST_ETA = {"rabbitmq": 30 * _DAY, "redis": 2 * _DAY}
#: Of RabbitMQ, 3.10 to 4.3, unless its configuration says another.
_USUAL_CONSUMER_TIMEOUT = 1800
#: What RabbitMQ may deny unless it is exclusive or durable. The release notes of 4.3.0 say that it does; 4.3.6 permits
#: it by default (``rabbitmqctl list_deprecated_features``), so only a configuration that denies it is known to.
_PERMIT = "deprecated_features.permit.transient_nonexcl_queues"
_EXCLUSIVE = ("control_queue", "event_queue")


def _visibility_timeout(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        if app.broker != "redis":
            continue
        own = app.own_settings.get("broker_transport_options")
        # Among the settings it is another variable's, which the role says.
        if isinstance(own, Mapping) and "visibility_timeout" in own:
            continue
        # A worker that takes all there is holds messages without end, which is another rule's.
        pinned = [(app.pinned(worker), worker) for worker in app.classes if worker.prefetch is not None]
        needed, worker = max(pinned, key=lambda pair: pair[0], default=(app.longest_eta, None))
        if app.visibility_timeout <= needed:
            yield _too_short(app, worker, needed)


def _too_short(app: App, worker: RunningClass | None, needed: int) -> Finding:
    """Return what is wrong with a visibility timeout, told of the variable that decides it."""
    eta = f"celery_app_longest_eta, {show_duration(app.longest_eta)}" if app.longest_eta else ""
    held = ""
    if worker:
        time = show_duration(needed - app.longest_eta)
        held = f"the {time} for which class {worker.name} may hold a task that it acknowledges late"
        if not worker.late:
            held = f"the {time} for which a task may wait in class {worker.name} before it is acknowledged"
    reason = f"is not above {' and '.join(filter(None, (eta, held)))}{' together' if eta and held else ''}"
    instead = f"more than {show_duration(needed)}, or leave it out: it is derived then"
    variable = "celery_app_visibility_timeout"
    value = app.variables.get(variable) if variable in app.given else show_duration(app.visibility_timeout)
    if variable not in app.given and worker:
        variable, value = "celery_app_longest_task", app.variables.get("celery_app_longest_task")
        reason = f"makes the visibility timeout {show_duration(app.visibility_timeout)}, which {reason}"
        longest = show_duration(worker.time_limit or app.longest_task)
        instead = f"at least {longest}, or leave it out: it is derived then"
    problem = Problem("task-runs-twice", variable, value, f"{reason}: such a task would run twice", instead)
    return Finding(problem, app.name, app.name)


def _different_timeouts(deployment: Deployment) -> Iterator[Finding]:
    seen: dict[str, App] = {}
    for app in deployment.apps.values():
        for address in app.broker_addresses if app.broker == "redis" else ():
            other = seen.setdefault(address, app)
            if other.visibility_timeout == app.visibility_timeout:
                continue
            apart = other.variables.get("celery_app_key_prefix") != app.variables.get("celery_app_key_prefix")
            said = any("celery_app_visibility_timeout" in one.given for one in (app, other))
            # Keys of their own keep apps apart; what is derived for each is right for each then.
            if apart and not said:
                continue
            reason = (
                f"differs from that of {other.name} on the same Redis, {show_duration(other.visibility_timeout)}: the "
                "shorter one would hold for the tasks of both"
            )
            value = show_duration(app.visibility_timeout)
            instead = "one value for both"
            problem = Problem("differs-from", "celery_app_visibility_timeout", value, reason, instead)
            yield Finding(problem, app.name, app.name)


def _results_only(deployment: Deployment) -> Iterator[Finding]:
    for server in deployment.of_kind("redis"):
        apps = [
            app.name
            for app in deployment.apps.values()
            if app.broker == "redis" and "celery_app_broker_url" not in app.given
        ]
        if apps and server.variables.get("redis_purpose") == "results":
            reason = f"does not fit: the server is the broker of {', '.join(apps)}"
            problem = Problem("does-not-fit-the-server", "redis_purpose", "results", reason, "both, or leave it out")
            yield Finding(problem, server.host)


def _evicted_results(deployment: Deployment) -> Iterator[Finding]:
    for server in deployment.of_kind("redis"):
        policy = server.variables.get("redis_maxmemory_policy")
        if server.variables.get("redis_purpose") == "results" and policy != "noeviction":
            reason = "may delete a result that somebody waits for, or the counter of a chord, which then never ends"
            yield Finding(
                Problem("evicts-results", "redis_maxmemory_policy", policy, reason, "noeviction"), server.host
            )


def _longest_held(app: App, workers: Iterable[RunningClass]) -> tuple[int, RunningClass | None]:
    """Return the longest time for which one of these classes may hold a message of RabbitMQ, and the class."""
    return max(((app.unacknowledged(one), one) for one in workers), key=lambda pair: pair[0], default=(0, None))


def _consumer_timeout(deployment: Deployment) -> Iterator[Finding]:
    for server in deployment.of_kind("rabbitmq"):
        timeout = server.consumer_timeout
        if not timeout:
            continue
        variable, value = "rabbitmq_consumer_timeout", server.variables.get("rabbitmq_consumer_timeout")
        own = server.variables.get("rabbitmq_config") or {}
        if "consumer_timeout" in own:
            variable, value = "rabbitmq_config.consumer_timeout", own["consumer_timeout"]
        for app in deployment.apps.values():
            if app.broker != "rabbitmq":
                continue
            declared = _timeouts(deployment, server, app)
            needed, worker = _longest_held(app, (one for one in app.classes if not _all_limited(declared, one, app)))
            if worker and timeout <= needed:
                reason = (
                    f"is not above the {show_duration(needed)} for which class {worker.name} of {app.name} may hold a "
                    "message, acknowledged late or early: RabbitMQ would close its channel, and tasks would run again"
                )
                instead = f"more than {show_duration(needed)}, or leave it out: it is derived then"
                yield Finding(Problem("expires-too-early", variable, value, reason, instead), worker.name, app.name)


def _consumer_timeout_elsewhere(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        here = any(deployment.vhosts(app, server) for server in deployment.of_kind("rabbitmq"))
        if app.broker != "rabbitmq" or here or "celery_app_broker_url" not in app.given:
            continue
        needed, worker = _longest_held(app, (one for one in app.classes if _says_how_long(app, one)))
        if worker and needed >= _USUAL_CONSUMER_TIMEOUT:
            reason = (
                "is by its name no server of this inventory, so that nothing is known of its consumer_timeout, and "
                f"class {worker.name} may hold a message for {show_duration(needed)}: with RabbitMQ's default, "
                f"{show_duration(_USUAL_CONSUMER_TIMEOUT)}, tasks would run again"
            )
            instead = f"more than {needed * 1000} as consumer_timeout into its rabbitmq.conf ({show_duration(needed)})"
            value = ", ".join(app.broker_addresses)
            problem = Problem("unknown-consumer-timeout", "celery_app_broker_url", value, reason, instead)
            yield Finding(problem, worker.name, app.name)


def _says_how_long(app: App, worker: RunningClass) -> bool:
    """Whether the inventory itself says how long a class may hold a message; of most classes nobody knows."""
    held_in_worker = not app.delays_in_broker and "celery_app_longest_eta" in app.given
    return worker.time_limit is not None or "celery_app_longest_task" in app.given or held_in_worker


def _timeouts(deployment: Deployment, server: Server, app: App) -> list[Policy]:
    """Return the policies that set a consumer timeout of their own where an app is."""
    return [
        policy
        for vhost in sorted(deployment.vhosts(app, server))
        for kind in ("policies", "operator_policies")
        for policy in policies(server.variables, kind, vhost)
        if policy.consumer_timeout_ms
    ]


def _all_limited(declared: Iterable[Policy], worker: RunningClass, app: App) -> bool:
    """Whether the server's own consumer timeout concerns no queue of a class, as a policy says another."""
    return all(any(policy.fits(queue, app.queues.get(queue, "")) for policy in declared) for queue in worker.queues)


def _consumer_timeout_of_queues(deployment: Deployment) -> Iterator[Finding]:
    for server in deployment.of_kind("rabbitmq"):
        for app in deployment.apps.values():
            for policy in _timeouts(deployment, server, app):
                concerned = [
                    worker
                    for worker in app.classes
                    if any(policy.fits(queue, app.queues.get(queue, "")) for queue in worker.queues)
                ]
                needed, slowest = _longest_held(app, concerned)
                timeout = policy.consumer_timeout_ms
                if slowest and timeout <= needed * 1000:
                    reason = (
                        f"is {show_duration(timeout // 1000)} in milliseconds, not above the {show_duration(needed)} "
                        f"for which class {slowest.name} of {app.name} may hold a message: its tasks would run again"
                    )
                    variable = f"{policy.variable}.definition.{CONSUMER_TIMEOUT}"
                    instead = f"more than {needed * 1000}, or leave it out"
                    yield Finding(
                        Problem("in-milliseconds", variable, timeout, reason, instead), slowest.name, app.name
                    )


def _unlimited_prefetch(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        taking = list(dict.fromkeys(worker.name for worker in app.classes if worker.prefetch is None))
        patient = app.broker == "rabbitmq" and any(
            not server.consumer_timeout for server in deployment.of_kind("rabbitmq")
        )
        if taking and not patient:
            names = f"class{'es' if taking[1:] else ''} {', '.join(taking[:3])}{', ...' if taking[3:] else ''}"
            after = "RabbitMQ's consumer timeout" if app.broker == "rabbitmq" else "the visibility timeout"
            reason = f"lets {names} take all messages there are: what waits there beyond {after} runs twice"
            variable = "celery_app_settings.worker_prefetch_multiplier"
            instead = "1, or for short tasks a number such as 10"
            yield Finding(Problem("takes-all-messages", variable, 0, reason, instead), app.name, app.name)


def _worker_holds_eta(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        if app.broker != "rabbitmq" or app.delays_in_broker or "celery_app_longest_eta" not in app.given:
            continue
        reason = "leaves delayed tasks to the workers, which hold them unacknowledged: only"
        if not app.quorum:
            problem = Problem(
                "countdown-in-the-worker",
                "celery_app_queue_type",
                "classic",
                f"{reason} quorum queues delay them",
                "quorum",
            )
        else:
            variable, line = next(
                (
                    (variable, line)
                    for variable, line in app.requirements
                    if rules_out(line, "kombu", celery_versions.DELAYS_WITH_KOMBU)
                ),
                ("", ""),
            )
            least = f"kombu {celery_versions.text(celery_versions.DELAYS_WITH_KOMBU)}"
            reason += f" {least} or newer delays them in RabbitMQ"
            problem = Problem("leaves-delayed-tasks", variable, line.strip(), reason, least.replace(" ", ">="))
        yield Finding(problem, app.name, app.name)


def _long_eta(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        most = _LONGEST_ETA["rabbitmq" if app.delays_in_broker else "redis"]
        if app.longest_eta > most:
            reason = (
                "is more than a broker should be trusted with; every change of the app has to understand such tasks"
            )
            instead = f"at most {show_duration(most)}, and let a periodic task look in a database for what is due"
            value = app.variables.get("celery_app_longest_eta")
            yield Finding(
                Problem("too-long-in-the-broker", "celery_app_longest_eta", value, reason, instead), app.name, app.name
            )


def _global_prefetch(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        if app.quorum and app.own_settings.get("worker_detect_quorum_queues") is False:
            reason = "makes workers ask for a global prefetch, which quorum queues refuse"
            problem = Problem(
                "quorum-queues-not-detected",
                "celery_app_settings.worker_detect_quorum_queues",
                False,
                reason,
                "true, or leave it out",
            )
            yield Finding(problem, app.name, app.name)


def _fragile_messages(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        if app.broker != "rabbitmq":
            continue
        options = app.own_settings.get("broker_transport_options")
        if isinstance(options, Mapping) and options.get("confirm_publish") is False:
            # 15 of 2861 tasks over three restarts (measured with Celery 5.7.0).
            reason = "loses tasks without an error if RabbitMQ restarts before it has stored them"
            variable = "celery_app_settings.broker_transport_options.confirm_publish"
            yield Finding(
                Problem("loses-tasks", variable, False, reason, "true, or leave it out"), "confirm_publish", app.name
            )
        mode = app.own_settings.get("task_default_delivery_mode")
        # A quorum queue keeps every message on disk.
        if mode in (1, "transient") and "classic" in app.queues.values():
            reason = "keeps the tasks of classic queues in memory only: a restart of RabbitMQ loses them"
            problem = Problem(
                "classic-queues-keep-tasks",
                "celery_app_settings.task_default_delivery_mode",
                mode,
                reason,
                "persistent",
            )
            yield Finding(problem, "task_default_delivery_mode", app.name)


def _priorities(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        if app.quorum and app.own_settings.get("task_queue_max_priority"):
            reason = "is an argument that RabbitMQ refuses for quorum queues: no worker could declare its queues"
            value = app.own_settings["task_queue_max_priority"]
            instead = "a queue and a class for urgent tasks, or celery_app_queue_type: classic"
            yield Finding(
                Problem(
                    "queue-argument-unknown", "celery_app_settings.task_queue_max_priority", value, reason, instead
                ),
                app.name,
                app.name,
            )


def _shared_system_queues(deployment: Deployment, *, known: bool) -> Iterator[Finding]:
    for server in deployment.of_kind("rabbitmq"):
        config = server.variables.get("rabbitmq_config") or {}
        permits = str(config.get(_PERMIT, "")).lower()
        denies = permits == "false"
        if permits == "true" or denies != known:
            continue
        if not denies and server.version is not None and server.version < (4, 3):
            continue
        for app in (app for app in deployment.apps.values() if app.broker == "rabbitmq"):
            for queue in _EXCLUSIVE:
                exclusive, durable = f"{queue}_exclusive", f"{queue}_durable"
                if app.settings.get(exclusive) is False and not app.settings.get(durable):
                    reason = f"makes queues that are neither durable nor exclusive, which {_denial(known)}"
                    problem = Problem(
                        "neither-durable-nor-exclusive",
                        f"celery_app_settings.{exclusive}",
                        False,
                        reason,
                        "true, or leave it out",
                    )
                    yield Finding(problem, app.name, app.name)
            if denies:
                yield from _never_exclusive(app)


def _denial(known: bool) -> str:
    return "rabbitmq_config denies" if known else "RabbitMQ may deny from 4.3 on"


def _never_exclusive(app: App) -> Iterator[Finding]:
    """Yield the requirement that keeps an app at a Celery whose own queues are neither durable nor exclusive."""
    since = celery_versions.SETTINGS["control_queue_exclusive"]
    for variable, line in app.requirements:
        if rules_out(line, "celery", since):
            reason = (
                f"is a Celery before {celery_versions.text(since)}, whose queues for remote control are neither "
                "durable nor exclusive, which rabbitmq_config denies"
            )
            instead = f"celery>={celery_versions.text(since)}, or leave {_PERMIT} out"
            yield Finding(
                Problem("celery-without-quorum-queues", variable, line.strip(), reason, instead), app.name, app.name
            )
            return


RULES = (
    Rule(
        "visibility-timeout",
        _visibility_timeout,
        "A visibility timeout of Redis that an ETA or a running task exceeds: the task would run twice.",
    ),
    Rule(
        "different-visibility-timeouts",
        _different_timeouts,
        "Two apps on one Redis with different visibility timeouts: the shorter one applies to both.",
        acceptable=True,
    ),
    Rule("results-only-server", _results_only, "A Redis for results, which may evict, as the broker."),
    Rule(
        "evicted-results",
        _evicted_results,
        "An eviction policy that may delete results before they are read.",
        unwise=True,
    ),
    Rule(
        "consumer-timeout",
        _consumer_timeout,
        "A consumer timeout of RabbitMQ that a task or its wait in a worker exceeds: it would run again.",
    ),
    Rule(
        "consumer-timeout-elsewhere",
        _consumer_timeout_elsewhere,
        "A RabbitMQ outside of the inventory, for tasks that exceed its default consumer timeout.",
        unwise=True,
    ),
    Rule(
        "queue-consumer-timeout",
        _consumer_timeout_of_queues,
        "A consumer timeout that a policy sets for some queues, and that a task or its wait in a worker exceeds.",
    ),
    Rule(
        "unlimited-prefetch",
        _unlimited_prefetch,
        "Workers without a prefetch limit: the last messages wait there beyond any timeout, and run twice.",
        acceptable=True,
    ),
    Rule(
        "eta-in-worker",
        _worker_holds_eta,
        "Delayed tasks without quorum queues, or with a kombu before 5.5: workers hold them instead of the broker.",
        acceptable=True,
    ),
    Rule(
        "long-eta",
        _long_eta,
        "Tasks sent so far ahead that a schedule, not a message, should remember them.",
        acceptable=True,
    ),
    Rule("global-prefetch", _global_prefetch, "A global prefetch on quorum queues, which refuse it."),
    Rule("priority-on-quorum", _priorities, "Priorities inside quorum queues, which refuse to be declared with them."),
    Rule(
        "fragile-messages",
        _fragile_messages,
        "Tasks that RabbitMQ may not have stored: unconfirmed ones, and transient ones in classic queues.",
        unwise=True,
    ),
    Rule(
        "shared-system-queues",
        partial(_shared_system_queues, known=True),
        "Queues of Celery's own that are neither durable nor exclusive, on a RabbitMQ that is configured to deny them.",
    ),
    Rule(
        "perhaps-shared-system-queues",
        partial(_shared_system_queues, known=False),
        "The same on RabbitMQ 4.3 or newer, or where its version is not known: it may deny them.",
        unwise=True,
    ),
)
