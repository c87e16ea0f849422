# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of the role celery_app: paths, accounts, and the shared Celery configuration."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict

from ansible_collections.celeryops.stack.plugins.module_utils.account import PRIVILEGED_GROUPS, RIGHTS
from ansible_collections.celeryops.stack.plugins.module_utils.placed import NAME
from ansible_collections.celeryops.stack.plugins.plugin_utils.app.files import app_files, folders
from ansible_collections.celeryops.stack.plugins.plugin_utils.app.release_commands import release_commands
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.app_servers import (
    REDIS_BACKENDS,
    backend_problems,
    broker_kind,
    broker_problems,
    first_scheme,
    length_problems,
    once_url_problems,
    sentinel_problems,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.newer_features import needs
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.results import result_rules
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.setting_kinds import (
    MOST_PREFETCHED,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.task_locks import once_rules
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import (
    Problem,
    UnreadableError,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.celery_app_environment import (
    VARIABLE,
    unit_environment_problems,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.celery_app_queues import (
    CELERYS_QUEUES,
    FROM_APP,
    listed_routes,
    queues_of,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.celery_app_settings import (
    base_settings,
    durations,
    merged_settings,
    settings_problems,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.celery_app_source import (
    override_problems,
    source_problems,
    system_packages,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.units import ACCOUNT, IMPORT_PATH, check_platform
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.layout import app_layout
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.patterns import pattern_problems
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.queue_names import is_queue
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.requirements import (
    package_problems,
    text_problems,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Accounts and groups that Debian (base-passwd), its packages or this collection's other services own.
RESERVED_ACCOUNTS = PRIVILEGED_GROUPS | {
    "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy", "www-data", "backup", "list",
    "irc", "gnats", "nobody", "nogroup", "tty", "dialout", "fax", "voice", "cdrom", "floppy", "tape", "audio", "dip",
    "operator", "src", "utmp", "video", "sasl", "plugdev", "staff", "users", "_apt", "sshd", "messagebus", "systemd",
    "systemd-network", "systemd-resolve", "systemd-timesync", "polkitd", "rabbitmq", "redis", "valkey", "postgres",
    "mysql",
}  # fmt: skip
_PYTHON = re.compile(r"/?[A-Za-z0-9._+-]+(/[A-Za-z0-9._+-]+)*")


class Plan(TypedDict, total=False):
    """What the tasks and templates of the role read.

    ``configuration`` is the shared one, of all processes of the app; ``queues`` the part of it, with the routes, that
    has a file of its own.
    """

    app: str
    layout: dict[str, Any]
    user: str
    group: str
    broker: str
    configuration: dict[str, Any]
    queues: dict[str, Any]
    environment: dict[str, str]
    commands: list[dict[str, Any]]
    files: list[dict[str, Any]]
    folders: list[dict[str, str]]
    record: str
    consumed: list[str]
    packages: list[str]
    needs: list[dict[str, str]]


@dataclass(frozen=True)
class Configuration:
    """What the variables of an app come to: the plan is rendered from it, and the model is built of it.

    Each part is worked out when it is asked for, and once.

    Arguments:
        values: the variables, without the role's prefix.
        broker: ``rabbitmq`` or ``redis``.
    """

    values: Mapping[str, Any]
    broker: str

    @cached_property
    def queues(self) -> tuple[list[dict[str, str]], list[Problem]]:
        """Its queues, and what is wrong with them."""
        return queues_of(self.values, self.broker)

    @cached_property
    def durations(self) -> tuple[dict[str, int], list[Problem]]:
        """Its durations in seconds, and which of them cannot be read."""
        return durations(self.values)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Celery's settings in force: those that follow from the variables, and the user's own above them."""
        return merged_settings(base_settings(self.values, self.broker, self.durations[0]), self.values["settings"])


def read(variables: Mapping[str, Any]) -> Configuration:
    """Return the configuration that the role's variables, which are complete, come to."""
    values = {name.removeprefix("celery_app_"): value for name, value in variables.items()}
    return Configuration(values, broker_kind(values["broker_url"]))


def plan(
    variables: Mapping[str, Any], facts: Mapping[str, Any], known: Configuration | None = None
) -> tuple[Plan, list[Problem]]:
    """Return the plan of the role celery_app and the mistakes in its variables.

    Arguments:
        variables: the role's variables, complete.
        facts: facts of the host; empty when no host was asked.
        known: what ``read`` returned, where somebody has asked it already.
    """
    configuration = known or read(variables)
    values, broker = configuration.values, configuration.broker
    problems: list[Problem] = [*check_platform(facts)]
    try:
        layout = app_layout(values["name"])
    except UnreadableError as error:
        problems.append(error.of("celery_app_name", values["name"]))
        layout = app_layout("app")
    problems += _account_problems(values)
    problems += [*source_problems(values["source"]), *override_problems(values)]
    place = os.path.normpath(str(values["source"].get("path") or ""))
    if values["source"]["type"] == "virtualenv" and f"{place}/".startswith(f"{layout['base']}/"):
        reason = "is the app's own: its releases are removed, and the link to the one in use would lead to itself"
        instead = "an environment that somebody else looks after"
        problems.append(Problem("app-directory", "celery_app_source.path", values["source"]["path"], reason, instead))
    for key in ("requirements", "constraints"):
        content = str(values["source"].get(key) or "")
        problems += text_problems(f"celery_app_source.{key}", content, str(values.get("installer")))
    for number, package in enumerate(map(str, values["system_packages"])):
        if re.search(r"[\s,]", package.strip()):
            instead = f"an entry for each: [{', '.join(filter(None, re.split(r'[ ,]+', package.strip())))}]"
            problems.append(
                Problem(
                    "no-name-of-a-package",
                    f"celery_app_system_packages[{number}]",
                    package,
                    "is not a name of a package",
                    instead,
                )
            )
    # One requirement, and an argument that every account of the host may read.
    uv = str(values.get("uv_package") or "")
    problems += package_problems(
        "celery_app_uv_package",
        [uv],
        "a version of uv, such as uv>=0.8",
        "PIP_INDEX_URL in celery_app_install_environment",
    )
    problems += package_problems(
        "celery_app_extra_packages",
        values.get("extra_packages") or (),
        "options in requirements of celery_app_source",
        "index_url of celery_app_source",
    )
    if not IMPORT_PATH.fullmatch(values["import"]):
        reason = "is not what celery -A takes"
        instead = "a module and an attribute: shop.celery:app"
        problems.append(Problem("not-an-app-path", "celery_app_import", values["import"], reason, instead))
    unreachable = broker_problems(values["broker_url"])
    problems += [*unreachable, *backend_problems(values["result_backend"])]
    if not unreachable and values["broker"] not in ("", broker):
        reason = f"is not where celery_app_broker_url leads to, which is {broker}"
        problems.append(
            Problem("another-broker", "celery_app_broker", values["broker"], reason, f"{broker}, or leave it out")
        )
    queues, queue_problems = configuration.queues
    tasks = (str(route["task"]) for route in listed_routes(values))
    problems += [*queue_problems, *pattern_problems("celery_app_routes", tasks, "route")]
    problems += [*configuration.durations[1], *_other_problems(values, broker)]
    problems += [*settings_problems(values, broker), *sentinel_problems(values)]
    problems += unit_environment_problems(values["environment"], values["python_path"])
    problems += length_problems(values)
    once, once_problems = _once(values)
    results, results_problems = result_rules(values["results"])
    files, file_problems = app_files(values.get("files") or (), layout, str(values["group"]))
    commands, command_problems = release_commands(values.get("release_commands") or ())
    problems += [*once_problems, *results_problems, *command_problems, *file_problems]
    if problems:
        return {}, problems
    quorum = broker == "rabbitmq" and any(queue["type"] == "quorum" for queue in queues)
    return {
        "app": values["name"],
        "layout": layout,
        "user": values["user"],
        "group": values["group"],
        "broker": broker,
        "configuration": {
            "format": 1,
            "app": str(values["name"]),
            "broker": broker,
            "default_queue": str(values["default_queue"]),
            "exchange": str(values["exchange"]),
            # What else depends on it, a process decides when it starts: the first quorum queue restarts all.
            "quorum": quorum,
            "settings": configuration.settings,
            **once,
            # Without a rule the file stays as it was.
            **({"results": results} if results else {}),
        },
        # A file of its own, which restarts nobody.
        "queues": {
            "format": 1,
            "queues": queues,
            "routes": FROM_APP
            if values["routes"] == FROM_APP
            else [{"task": str(route["task"]), "queue": str(route["queue"])} for route in values["routes"]],
        },
        "environment": {
            "CELERY_LOADER": "celeryops_runtime.loader:Loader",
            "CELERYOPS_CONFIG": layout["settings"],
            "PYTHONPATH": ":".join([layout["runtime"], *map(str, values["python_path"])]),
        },
        "commands": commands,
        "files": files,
        "folders": [{"path": path, "state": "directory"} for path in folders(files, layout)],
        "record": f"{layout['config_dir']}/{NAME}",
        # Where the app's own routes may lead: a class consumes these, or whoever wrote celery_app_queues says who does.
        "consumed": [queue["name"] for queue in queues if queue["name"] != str(values["dead_letter_queue"])],
        "packages": system_packages(values["source"], [*map(str, values["system_packages"])], values["extra_packages"]),
        "needs": needs(values, quorum=quorum),
    }, []


def _account_problems(values: Mapping[str, Any]) -> Iterable[Problem]:
    for key in ("user", "group"):
        name, variable = values[key], f"celery_app_{key}"
        if not ACCOUNT.fullmatch(name):
            instead = "a lower-case letter, then a-z, 0-9, _ and -, 32 at most"
            yield Problem("not-an-account-name", variable, name, "is not an account name", instead)
        elif name in RESERVED_ACCOUNTS or name.startswith("systemd-"):
            reason = RIGHTS if name in PRIVILEGED_GROUPS else "belongs to the system"
            instead = "an account that only this app uses, for example celery-" + str(values["name"])
            yield Problem("belongs-to-the-system", variable, name, reason, instead)


def _once(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Return what the shared configuration says of tasks that run once per period: nothing, without a rule."""
    url = str(values["once_url"]).strip()
    redis = bool(url) or first_scheme(values["result_backend"]) in REDIS_BACKENDS
    rules, problems = once_rules(values["once"], redis=redis)
    configuration = {"once": {"prefix": str(values["key_prefix"]), "rules": rules}} if rules else {}
    return configuration, [*once_url_problems(url), *problems]


def _other_problems(values: Mapping[str, Any], broker: str) -> Iterable[Problem]:
    if not 1 <= int(values["prefetch_multiplier"]) <= MOST_PREFETCHED:
        reason = "is out of range"
        instead = f"how many messages per process, 1 to {MOST_PREFETCHED}"
        yield Problem("out-of-range", "celery_app_prefetch_multiplier", values["prefetch_multiplier"], reason, instead)
    # Without quotes 3.10 is 3.1, which is told as what YAML has made of it.
    if re.fullmatch(r"[0-9]+(\.[0-9]{2,}(\.[0-9]+)?)?", str(values["python"])):
        reason = "is a version, not a program"
        instead = f"python{values['python']}"
        yield Problem("version-in-place-of-program", "celery_app_python", values["python"], reason, instead)
    elif not _PYTHON.fullmatch(str(values["python"])):
        instead = "a program's name or its path, such as python3.12 or /opt/python/bin/python3"
        yield Problem("not-an-interpreter", "celery_app_python", values["python"], "is not an interpreter", instead)
    if int(values["keep_releases"]) < 1:
        instead = "how many releases stay, the current one included"
        yield Problem("less-than", "celery_app_keep_releases", values["keep_releases"], "is less than 1", instead)
    # The result backend of Celery 5.7 puts a _ behind a prefix that ends otherwise, the broker does not.
    if not re.fullmatch(r"[A-Za-z0-9_.-]*:", values["key_prefix"]):
        ends = re.search(r"[^:]:$", values["key_prefix"])
        reason = "holds more than letters, digits, dots, _ and -" if ends else "does not end in one colon"
        yield Problem("unsafe-characters", "celery_app_key_prefix", values["key_prefix"], reason, f"{values['name']}:")
    if not is_queue(values["exchange"]) or values["exchange"].startswith(CELERYS_QUEUES):
        reason = "is not an exchange name"
        instead = "letters, digits, _ and -, and none of Celery's own"
        yield Problem("not-an-exchange-name", "celery_app_exchange", values["exchange"], reason, instead)
    if broker == "rabbitmq" and not is_queue(values["dead_letter_queue"]):
        reason = "is not a queue name"
        instead = "dead-letters"
        yield Problem("not-a-queue-name", "celery_app_dead_letter_queue", values["dead_letter_queue"], reason, instead)
    for name in values["install_environment"]:
        if not VARIABLE.fullmatch(str(name)):
            reason = "is not a variable's name"
            instead = "letters, digits and _"
            yield Problem("not-a-variables-name", "celery_app_install_environment", name, reason, instead)
