# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the variables of the role celery_app mean: paths, accounts, and the shared Celery configuration."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from ansible_collections.celeryops.stack.plugins.module_utils import celery_versions
from ansible_collections.celeryops.stack.plugins.module_utils.account import PRIVILEGED_GROUPS, RIGHTS
from ansible_collections.celeryops.stack.plugins.module_utils.placed import NAME
from ansible_collections.celeryops.stack.plugins.module_utils.releases.requirements import without_name
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN, named_like_a_secret
from ansible_collections.celeryops.stack.plugins.plugin_utils.app_files import app_files, folders
from ansible_collections.celeryops.stack.plugins.plugin_utils.app_servers import (
    PACKAGED_BACKENDS,
    REDIS_BACKENDS,
    SOCKET_BACKEND,
    backend_problems,
    broker_kind,
    broker_problems,
    first_scheme,
    length_problems,
    once_url_problems,
    sentinel_problems,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery_needs import needs
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery_settings import (
    BOOL_OR_DICT,
    KINDS,
    MOST_PREFETCHED,
    TEXT_OR_DICT,
    TEXT_OR_NUMBER,
    number_fault,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.kernel_limits import environment_problems
from ansible_collections.celeryops.stack.plugins.plugin_utils.layout import app_layout
from ansible_collections.celeryops.stack.plugins.plugin_utils.once import once_rules
from ansible_collections.celeryops.stack.plugins.plugin_utils.patterns import pattern_problems
from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import (
    Problem,
    UnreadableError,
    closest,
    holds_password,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.quantities import DURATION_HELP, parse_duration
from ansible_collections.celeryops.stack.plugins.plugin_utils.queue_names import QUEUE_HELP, is_queue
from ansible_collections.celeryops.stack.plugins.plugin_utils.release_commands import release_commands
from ansible_collections.celeryops.stack.plugins.plugin_utils.requirements import (
    REQUIREMENT_EXAMPLE,
    file_problems,
    index_problems,
    is_requirement,
    package_problems,
    text_problems,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.results import result_rules
from ansible_collections.celeryops.stack.plugins.plugin_utils.secret_text import altered
from ansible_collections.celeryops.stack.plugins.plugin_utils.serializers import (
    DEFAULTS,
    serializer_problems,
    unread_problems,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.service_units import ACCOUNT, IMPORT_PATH, check_platform
from ansible_collections.celeryops.stack.plugins.plugin_utils.setting_values import value_problems

NEWEST = celery_versions.text(celery_versions.NEWEST)

#: Accounts and groups that Debian (base-passwd), its packages or this collection's other services own.
RESERVED_ACCOUNTS = PRIVILEGED_GROUPS | {
    "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy", "www-data", "backup", "list",
    "irc", "gnats", "nobody", "nogroup", "tty", "dialout", "fax", "voice", "cdrom", "floppy", "tape", "audio", "dip",
    "operator", "src", "utmp", "video", "sasl", "plugdev", "staff", "users", "_apt", "sshd", "messagebus", "systemd",
    "systemd-network", "systemd-resolve", "systemd-timesync", "polkitd", "rabbitmq", "redis", "valkey", "postgres",
    "mysql",
}  # fmt: skip
#: An option, or an address that makes git run a program (gitremote-helpers(7)); a line break is in none.
_NO_REPOSITORY = re.compile(r"-|[A-Za-z0-9+.-]+::|[^\n]*[\x00-\x1f\x7f]")
#: Pages of GitLab and GitHub, and a version behind the name of the repository, as pip has it.
_WITH_A_VERSION = re.compile(
    r"/-/(tree|blob)/|^https?://[^/]*github[^/]*/[^/]+/[^/]+/(tree|blob)/|\.git[@#][^/@:]+$", re.IGNORECASE
)
_PYTHON = re.compile(r"/?[A-Za-z0-9._+-]+(/[A-Za-z0-9._+-]+)*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

#: In place of the list of routes: the app's own hold.
FROM_APP = "from-app"

#: Celery keeps queues of its own on the same virtual host.
_CELERYS_QUEUES = ("amq.", "celery_delayed", "celeryev", "celery.pidbox", "reply.")

#: Settings that another variable decides: what to write instead.
OWNED_SETTINGS = {
    **dict.fromkeys(
        [
            "broker_url",
            "broker_read_url",
            "broker_write_url",
            "broker_host",
            "broker_port",
            "broker_user",
            "broker_password",
            "broker_vhost",
            "broker_transport",
        ],
        "celery_app_broker_url",
    ),
    **dict.fromkeys(
        [
            "result_backend",
            "database_url",
            "cache_backend",
            "redis_host",
            "redis_port",
            "redis_db",
            "redis_username",
            "redis_password",
        ],
        "celery_app_result_backend",
    ),
    **dict.fromkeys(
        ["task_default_queue_type", "task_create_missing_queue_type", "broker_native_delayed_delivery_queue_type"],
        "celery_app_queue_type",
    ),
    **dict.fromkeys(["task_default_exchange", "task_default_exchange_type"], "celery_app_exchange"),
    **dict.fromkeys(["task_default_queue", "task_default_routing_key"], "celery_app_default_queue"),
    "task_create_missing_queue_exchange_type": "nothing: delayed delivery needs the topic exchange that the role sets",
    "task_queues": "celery_app_queues",
    "task_routes": "celery_app_routes",
    "worker_concurrency": "concurrency in celery_worker_classes",
    "worker_pool": "pool in celery_worker_classes",
    "worker_max_tasks_per_child": "max_tasks_per_child in celery_worker_classes",
    "worker_max_memory_per_child": "max_memory_per_child in celery_worker_classes",
    **dict.fromkeys(
        ["worker_soft_shutdown_timeout", "worker_enable_soft_shutdown_on_idle"],
        "stop_timeout in celery_worker_classes, which is what a soft shutdown waits for",
    ),
    "worker_state_db": "nothing: a file of one Python stops a worker of the next one from starting",
    "beat_schedule_filename": "nothing: the role celery_beat places it in the state directory",
    "result_expires": "celery_app_result_expires",
}


def place_of(setting: str) -> str:
    """Return the variable in which another value of a setting is written, or why there is none."""
    return OWNED_SETTINGS.get(setting, f"celery_app_settings.{setting}")


#: The same for keys inside a setting.
OWNED_KEYS = {
    ("broker_transport_options", "visibility_timeout"): "celery_app_visibility_timeout",
    ("broker_transport_options", "global_keyprefix"): "celery_app_key_prefix",
    ("result_backend_transport_options", "global_keyprefix"): "celery_app_key_prefix",
    ("result_backend_transport_options", "visibility_timeout"): (
        "nothing: with Redis as the broker celery_app_visibility_timeout says it"
    ),
}
_ELSEWHERE = "nothing: the playbook knows the servers of the inventory, and {} is for one elsewhere"
#: Variables of the environment file that the role writes itself, and those that must not be set at all.
OWNED_ENVIRONMENT = {
    "CELERY_BROKER_URL": _ELSEWHERE.format("celery_app_broker_url"),
    "CELERY_BROKER_READ_URL": _ELSEWHERE.format("celery_app_broker_url"),
    "CELERY_BROKER_WRITE_URL": _ELSEWHERE.format("celery_app_broker_url"),
    "CELERY_RESULT_BACKEND": _ELSEWHERE.format("celery_app_result_backend"),
    "CELERY_LOADER": "nothing: the loader is what applies the shared configuration",
    "CELERY_CONFIG_MODULE": "celery_app_settings",
    "PYTHONPATH": "celery_app_python_path",
    "C_FORCE_ROOT": "nothing: no process of the app may run as root",
    "REMAP_SIGTERM": "nothing: running tasks get the stop_timeout of their class, then go back to the queue",
    "NOTIFY_SOCKET": "nothing: systemd sets it",
    "WATCHDOG_USEC": "nothing: systemd sets it",
    "WATCHDOG_PID": "nothing: systemd sets it",
}

#: Which keys of celery_app_source belong to which type. The first entry holds those that the type cannot do without.
_INSTALL_KEYS = {
    "requirements", "constraints", "overrides", "require_hashes", "index_url", "extra_index_urls", "build",
}  # fmt: skip
_TREE_KEYS = {"extras", "subdirectory", "requirements_file", "install_as"}
SOURCE_KEYS: dict[str, tuple[set[str], set[str]]] = {
    "pip": (set(), {"packages", *_INSTALL_KEYS}),
    "wheel": ({"path"}, {"extras", "packages", *_INSTALL_KEYS}),
    "path": ({"path"}, {"exclude", "packages", *_TREE_KEYS, *_INSTALL_KEYS}),
    "git": ({"repo", "version"}, {"deploy_key", "known_hosts", "packages", *_TREE_KEYS, *_INSTALL_KEYS}),
    "virtualenv": ({"path"}, set()),
}

#: Durations that cannot be nothing, and why.
_NO_ZERO = {
    "longest_task": "is no time at all",
    "result_expires": "would keep every result for ever",
    "visibility_timeout": "would hand out every task again at once",
}

#: A dead TCP connection is noticed after this time: longer than any pause of a healthy server, shorter than patience.
SOCKET_TIMEOUT = 30
#: The same where a caller of delay() waits for it: before a task is sent, its result is subscribed to.
RESULT_TIMEOUT = 10
CONNECT_TIMEOUT = 10
HEALTH_CHECK_INTERVAL = 10
#: Celery hands its result backend's connections to Sentinels no time of their own (backends/redis.py,
#: ``_get_sentinel_instance``, 5.4 to 5.7), and redis-py before 8 has none: one that is frozen, or whose host lost
#: its power, is waited for, and the others are not asked.
_SENTINEL_TIMES = {"socket_timeout": RESULT_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT}
#: kombu looks for unacknowledged messages every 100 s; nothing is returned before the timeout and this margin.
VISIBILITY_MARGIN = 600


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


def plan(variables: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Plan, list[Problem]]:
    """Return the plan of the role celery_app and the mistakes in its variables.

    Arguments:
        variables: the role's variables, complete.
        facts: facts of the host; empty when no host was asked.
    """
    values = {name.removeprefix("celery_app_"): value for name, value in variables.items()}
    problems: list[Problem] = [*check_platform(facts)]
    try:
        layout = app_layout(values["name"])
    except UnreadableError as error:
        problems.append(error.of("celery_app_name", values["name"]))
        layout = app_layout("app")
    problems += _account_problems(values)
    problems += [*_source_problems(values["source"]), *_override_problems(values)]
    place = os.path.normpath(str(values["source"].get("path") or ""))
    if values["source"]["type"] == "virtualenv" and f"{place}/".startswith(f"{layout['base']}/"):
        reason = "is the app's own: its releases are removed, and the link to the one in use would lead to itself"
        instead = "an environment that somebody else looks after"
        problems.append(Problem("celery_app_source.path", values["source"]["path"], reason, instead))
    for key in ("requirements", "constraints"):
        content = str(values["source"].get(key) or "")
        problems += text_problems(f"celery_app_source.{key}", content, str(values.get("installer")))
    for number, package in enumerate(map(str, values["system_packages"])):
        if re.search(r"[\s,]", package.strip()):
            instead = f"an entry for each: [{', '.join(filter(None, re.split(r'[ ,]+', package.strip())))}]"
            problems.append(
                Problem(f"celery_app_system_packages[{number}]", package, "is no name of a package", instead)
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
        problems.append(
            Problem(
                "celery_app_import",
                values["import"],
                "is not what celery -A takes",
                "a module and an attribute: shop.celery:app",
            )
        )
    broker, unreachable = broker_kind(values["broker_url"]), broker_problems(values["broker_url"])
    problems += [*unreachable, *backend_problems(values["result_backend"])]
    if not unreachable and values["broker"] not in ("", broker):
        reason = f"is not where celery_app_broker_url leads to, which is {broker}"
        problems.append(Problem("celery_app_broker", values["broker"], reason, f"{broker}, or leave it out"))
    queues, queue_problems = queues_of(values, broker)
    tasks = (str(route["task"]) for route in listed_routes(values))
    problems += [*queue_problems, *pattern_problems("celery_app_routes", tasks, "route")]
    times, duration_problems = durations(values)
    problems += [*duration_problems, *_other_problems(values, broker)]
    problems += [*_settings_problems(values, broker), *sentinel_problems(values)]
    problems += _environment_problems(values["environment"], values["python_path"])
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
            "settings": merged_settings(base_settings(values, broker, times), values["settings"]),
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


def base_settings(values: Mapping[str, Any], broker: str, durations: Mapping[str, int]) -> dict[str, Any]:
    """Return the Celery settings that follow from the role's variables.

    Arguments:
        values: the variables, without the role's prefix.
        broker: ``rabbitmq`` or ``redis``.
        durations: the variables that are durations, in seconds.
    """
    settings: dict[str, Any] = {
        **DEFAULTS,
        # A task is the broker's until it is done, also when its process was killed under it.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # The broker hands out a late-acknowledged task again when the connection is lost: the first copy must end.
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "worker_prefetch_multiplier": int(values["prefetch_multiplier"]),
        # A class's stop_timeout is over when Celery's cold shutdown comes: nothing is waited for a second time.
        "worker_soft_shutdown_timeout": 0.0,
        # A broker that is away is waited for. Celery gives up after 100 attempts otherwise, and stays alive, silent.
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": CONNECT_TIMEOUT,
        "task_default_queue": str(values["default_queue"]),
        "task_default_exchange": str(values["exchange"]),
        "task_default_routing_key": str(values["default_queue"]),
        "result_expires": durations["result_expires"],
        "task_store_errors_even_if_ignored": True,
        # RabbitMQ may deny queues that are neither durable nor exclusive. Celery before 5.6 knows no other.
        "control_queue_exclusive": True,
        "event_queue_exclusive": True,
        "broker_transport_options": _broker_transport_options(values, broker, durations),
    }
    if broker == "rabbitmq":
        settings |= {
            "task_default_exchange_type": "topic",
            "task_default_queue_type": str(values["queue_type"]),
            "task_create_missing_queue_type": str(values["queue_type"]),
            "task_create_missing_queue_exchange_type": "topic",
            "worker_detect_quorum_queues": True,
            "broker_native_delayed_delivery_queue_type": "quorum",
        }
    scheme = first_scheme(values["result_backend"])
    if scheme in REDIS_BACKENDS or scheme == SOCKET_BACKEND:
        settings |= {
            # A result is stored when Redis is back, not lost.
            "result_backend_always_retry": True,
            # What stores a result tries again anyway (result_backend_always_retry).
            "redis_socket_timeout": RESULT_TIMEOUT,
            "redis_socket_connect_timeout": CONNECT_TIMEOUT,
            # redis-py 8.1 knows no such argument of a Unix socket, and every connection would fail.
            **({} if scheme == SOCKET_BACKEND else {"redis_socket_keepalive": True}),
            "redis_retry_on_timeout": False,
            "redis_backend_health_check_interval": HEALTH_CHECK_INTERVAL,
            "result_backend_transport_options": {
                "global_keyprefix": str(values["key_prefix"]),
                **({"sentinel_kwargs": dict(_SENTINEL_TIMES)} if scheme == "sentinel" else {}),
            },
        }
    return settings


def _broker_transport_options(values: Mapping[str, Any], broker: str, durations: Mapping[str, int]) -> dict[str, Any]:
    if broker == "rabbitmq":
        return {
            # Without it 15 of 2861 "sent" messages were lost over three restarts of the broker; with it none.
            "confirm_publish": True,
            "read_timeout": SOCKET_TIMEOUT,
            "write_timeout": SOCKET_TIMEOUT,
        }
    return {
        "visibility_timeout": durations["visibility_timeout"]
        or visibility_timeout(durations["longest_eta"], durations["longest_task"]),
        "global_keyprefix": str(values["key_prefix"]),
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_INTERVAL,
    }


def visibility_timeout(longest_eta: int, longest_task: int) -> int:
    """Return for how long Redis may wait for an acknowledgement before the message is given to another worker.

    The worker holds an ETA task until it is due, then the task may wait for a process that runs another one, then it
    runs itself; it is acknowledged last. A shorter timeout runs such a task twice.
    """
    return longest_eta + 2 * longest_task + VISIBILITY_MARGIN


def merged_settings(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the user's settings on top; dictionaries of transport options are merged, not replaced."""
    merged = dict(base)
    for raw, value in own.items():
        name, plain = str(raw), _plain(value)
        if name.endswith("_transport_options") and isinstance(plain, dict):
            below = merged.get(name, {})
            for key in plain.keys() & below.keys():
                if isinstance(plain[key], dict) and isinstance(below[key], dict):
                    plain[key] = {**below[key], **plain[key]}
            plain = {**below, **plain}
        merged[name] = plain
    return merged


def system_packages(source: Mapping[str, Any], extra: list[str], extra_packages: Iterable[object] = ()) -> list[str]:
    """Return the Debian packages that a release needs, each once.

    Arguments:
        source: the role's ``celery_app_source``.
        extra: what the user names.
        extra_packages: Python packages that every release gets; like the source's own they may be in repositories.
    """
    if source["type"] == "virtualenv":
        return list(dict.fromkeys(extra))
    lines = [source.get("requirements"), *extra_packages]
    lines += [line for key in ("packages", "overrides") for line in source.get(key) or ()]
    requirements = "\n".join(str(line or "") for line in lines)
    is_git = source["type"] == "git"
    by_ssh = is_git and not re.match(r"(https?|file|git)://|/", str(source.get("repo") or ""))
    packages = ["python3-venv"]
    if is_git or "git+" in requirements:
        packages += ["git", "ca-certificates"]
    if by_ssh or "git+ssh:" in requirements:
        packages.append("openssh-client")
    return list(dict.fromkeys([*packages, *extra]))


def _account_problems(values: Mapping[str, Any]) -> Iterable[Problem]:
    for key in ("user", "group"):
        name, variable = values[key], f"celery_app_{key}"
        if not ACCOUNT.fullmatch(name):
            yield Problem(
                variable, name, "is not an account name", "a lower-case letter, then a-z, 0-9, _ and -, 32 at most"
            )
        elif name in RESERVED_ACCOUNTS or name.startswith("systemd-"):
            reason = RIGHTS if name in PRIVILEGED_GROUPS else "belongs to the system"
            yield Problem(
                variable, name, reason, "an account that only this app uses, for example celery-" + str(values["name"])
            )


def _ssh_problems(source: Mapping[str, Any]) -> Iterable[Problem]:
    """Yield that a path stands where the content of a file belongs: people write what ``ssh -i`` takes."""
    key, lines = str(source.get("deploy_key") or ""), str(source.get("known_hosts") or "").splitlines()
    if "-----BEGIN " in key and len(key.strip().splitlines()) < 3:
        # As a variable of a CI job, or a text that YAML folds, hands it over.
        instead = "it behind a |, which keeps them, or as {{ lookup('ansible.builtin.file', '~/.ssh/shop') }}"
        yield Problem("celery_app_source.deploy_key", "(not shown)", "has lost its line breaks", instead)
    elif key and "PRIVATE KEY" not in key:
        instead = "the key itself, from a vault or as {{ lookup('ansible.builtin.file', '~/.ssh/shop') }}"
        yield Problem("celery_app_source.deploy_key", NOT_SHOWN, "is no private key of SSH", instead)
    if any(0 < len(line.split()) < 3 and not line.lstrip().startswith("#") for line in lines):
        instead = "lines as ssh-keyscan prints them, such as git.example.org ssh-ed25519 AAAA..."
        yield Problem("celery_app_source.known_hosts", source["known_hosts"], "is no line of known_hosts", instead)


def _repository_problems(repository: str) -> Iterable[Problem]:
    """Yield what git on the host does not take for an address, although people or other programs write it so."""
    reason = instead = ""
    if not repository or _NO_REPOSITORY.match(repository):
        return
    if re.match(r"git\+(https?|file)://", repository, re.IGNORECASE):
        reason, instead = "begins as pip has it, which git does not know", "it without git+"
    elif _WITH_A_VERSION.search(repository):
        reason, instead = "names a version as well", "the address alone, and version beside it"
    elif "://" not in repository and not re.match(r"/|[^/]+:", repository):
        reason, instead = "is no address, and no path on the host", _source_example("git")
    if reason:
        yield Problem("celery_app_source.repo", repository, reason, instead)


def _source_problems(source: Mapping[str, Any]) -> Iterable[Problem]:
    kind = source["type"]
    needed, allowed = SOURCE_KEYS[kind]
    given = {str(key) for key, value in source.items() if key != "type" and value not in (None, "", [], False)}
    for key in sorted(needed - given):
        yield Problem(f"celery_app_source.{key}", None, f"is missing, and type {kind} needs it", _source_example(kind))
    for key in sorted(given - needed - allowed):
        others = sorted(other for other, (a, b) in SOURCE_KEYS.items() if key in a | b)
        instead = f"it with type {' or '.join(others)} only, or leave it out" if others else "nothing there"
        value = NOT_SHOWN if key in ("deploy_key", "index_url", "extra_index_urls") else source[key]
        yield Problem(f"celery_app_source.{key}", value, f"does not belong to type {kind}", instead)
    if kind == "pip" and not given & {"packages", "requirements"}:
        yield Problem("celery_app_source", {"type": kind}, "installs nothing", _source_example(kind))
    if kind == "wheel" and "path" in given and not str(source["path"]).endswith(".whl"):
        yield Problem("celery_app_source.path", source["path"], "is not a wheel", _source_example(kind))
    elif kind == "wheel" and "path" in given and len(str(source["path"]).rpartition("/")[2].split("-")) not in (5, 6):
        reason = "has not the name of a wheel, which says what is in it: installers refuse it"
        yield Problem("celery_app_source.path", source["path"], reason, _source_example(kind))
    if kind == "virtualenv" and "path" in given and not str(source["path"]).startswith("/"):
        yield Problem(
            "celery_app_source.path", source["path"], "is not an absolute path on the host", _source_example(kind)
        )
    for key in ("subdirectory", "requirements_file"):
        if key in given and (str(source[key]).startswith("/") or ".." in str(source[key]).split("/")):
            yield Problem(
                f"celery_app_source.{key}", source[key], "leads out of the source", "a path relative to the source"
            )
    yield from file_problems("celery_app_source.requirements_file", str(source.get("requirements_file") or ""))
    if "repo" in given and _NO_REPOSITORY.match(str(source["repo"])):
        yield Problem("celery_app_source.repo", source["repo"], "is not a repository", _source_example("git"))
    if kind == "git":
        yield from [*_ssh_problems(source), *_repository_problems(str(source.get("repo") or ""))]
    if "repo" in given and re.match(r"(git\+)?ssh://[^/@]*:[^/@]*@", str(source["repo"]), re.IGNORECASE):
        reason = "has a password, which SSH takes from no address and shows to everyone on the host"
        yield Problem("celery_app_source.repo", NOT_SHOWN, reason, "ssh://user@host/path, and deploy_key")
    if "version" in given and not re.fullmatch(r"[A-Za-z0-9][\w./+@-]*", str(source["version"])):
        yield Problem("celery_app_source.version", source["version"], "is not a branch, tag or commit", "one of these")
    for key in ("index_url", "extra_index_urls"):
        value = source.get(key) or ()
        yield from index_problems(f"celery_app_source.{key}", [value] if isinstance(value, str) else value)
    urls = [str(url) for url in source.get("extra_index_urls") or ()]
    names = Counter(url.removesuffix(without_name(url)).rstrip("=") for url in urls)
    for name in (name for name, times in names.items() if name and times > 1):
        reason = "is the name of several indexes, of which uv asks the first alone"
        yield Problem("celery_app_source.extra_index_urls", name, reason, "a name of its own in front of each, or none")
    packages = source.get("packages") or ()
    yield from package_problems("celery_app_source.packages", packages, "options in requirements", "index_url")
    if (
        source.get("require_hashes")
        and not source.get("requirements_file")
        and "--hash" not in f"{source.get('requirements') or ''} {source.get('packages') or ''}"
    ):
        yield Problem(
            "celery_app_source.require_hashes", True, "but no requirement has a hash", "--hash=sha256:... behind each"
        )


def _override_problems(values: Mapping[str, Any]) -> Iterable[Problem]:
    """Say which overrides cannot be followed."""
    variable, overrides = "celery_app_source.overrides", values["source"].get("overrides") or ()
    for line in map(str, overrides):
        found = [*package_problems(variable, [line], "requirements there only", "index_url")]
        if not found and not is_requirement(line):
            found = [Problem(variable, line, "is not a requirement", REQUIREMENT_EXAMPLE)]
        yield from found
    if overrides and values.get("installer") == "pip":
        reason = "needs uv: pip follows what every package asks for"
        yield Problem(variable, [*map(str, overrides)], reason, "celery_app_installer: uv, or leave it out")


def _source_example(kind: str) -> str:
    return {
        "pip": '{type: pip, packages: ["acme-shop==1.4.2+acme"]}',
        "wheel": "{type: wheel, path: dist/shop-1.4.2-py3-none-any.whl}",
        "path": '{type: path, path: "{{ playbook_dir }}/../shop"}',
        "git": '{type: git, repo: "https://git.example.org/shop.git", version: v1.4.2}',
        "virtualenv": "{type: virtualenv, path: /srv/shop/venv}",
    }[kind]


def _once(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Return what the shared configuration says of tasks that run once per period: nothing, without a rule."""
    url = str(values["once_url"]).strip()
    redis = bool(url) or first_scheme(values["result_backend"]) in REDIS_BACKENDS
    rules, problems = once_rules(values["once"], redis=redis)
    configuration = {"once": {"prefix": str(values["key_prefix"]), "rules": rules}} if rules else {}
    return configuration, [*once_url_problems(url), *problems]


def listed_routes(values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the routes of the inventory; none where the app's own hold."""
    routes = values.get("routes") or ()
    return () if routes == FROM_APP else routes


def queues_of(values: Mapping[str, Any], broker: str) -> tuple[list[dict[str, str]], list[Problem]]:
    """Return every queue of the app, the default queue first, and what is wrong with them."""
    problems: list[Problem] = []
    default_type = str(values["queue_type"])
    types: dict[str, str] = {str(values["default_queue"]): default_type}
    declared: dict[str, str] = {}
    named = [("celery_app_default_queue", values["default_queue"])]
    for entry in values["queues"]:
        if isinstance(entry, Mapping):
            problems += [
                Problem(f"celery_app_queues.{key}", entry[key], "is not a key of a queue", "name and type only")
                for key in entry
                if key not in ("name", "type")
            ]
            if "name" not in entry:
                problems.append(Problem("celery_app_queues", entry, "has no name", "{name: feeds, type: quorum}"))
                continue
            kind = str(entry.get("type", default_type))
            if kind not in ("quorum", "classic"):
                problems.append(
                    Problem(f"celery_app_queues.{entry['name']}.type", kind, "is not a queue type", "quorum or classic")
                )
            name = entry["name"]
        else:
            name, kind = entry, default_type
        if declared.setdefault(str(name), kind) != kind:
            reason = f"is there twice, as {declared[str(name)]} and as {kind}"
            problems.append(Problem("celery_app_queues", name, reason, "one of the two"))
        types[str(name)] = kind
        named.append(("celery_app_queues", name))
    for route in listed_routes(values):
        types.setdefault(str(route["queue"]), default_type)
        named.append((f"celery_app_routes ({route['task']})", route["queue"]))
    dead_letters = str(values["dead_letter_queue"])
    #: queue -> where it is written first
    places: dict[str, str] = {}
    for variable, name in named:
        if str(name) not in places:
            places[str(name)] = variable
            problems += _queue_name_problems(variable, name, dead_letters, broker)
    if broker == "rabbitmq":
        problems += _suffix_problems({dead_letters: "celery_app_dead_letter_queue", **places})
    if broker == "redis":
        return [{"name": name} for name in types], problems
    # Declared like the others, so that it is there before the first message is given up; no worker class consumes it.
    types.setdefault(str(values["dead_letter_queue"]), default_type)
    return [{"name": name, "type": kind} for name, kind in types.items()], problems


_REDIS_DEAD_LETTERS = "dead-letters"
"""The list on which the runtime keeps what no worker can take (malformed.py there); a queue is a list too."""


def _queue_name_problems(variable: str, name: Any, dead_letter_queue: str, broker: str) -> Iterable[Problem]:
    if not is_queue(name):
        yield Problem(variable, name, "is not a queue name", QUEUE_HELP)
    elif name.startswith(_CELERYS_QUEUES):
        yield Problem(variable, name, "is a name that RabbitMQ or Celery itself uses", "a name of your own")
    elif broker == "redis" and name == _REDIS_DEAD_LETTERS:
        yield Problem(variable, name, "is the list of the messages that no worker can take", "another name")
    elif name == dead_letter_queue:
        yield Problem(
            variable, name, "is the dead-letter queue", "another name, or another celery_app_dead_letter_queue"
        )


def _suffix_problems(places: Mapping[str, str]) -> Iterable[Problem]:
    """Delayed delivery binds a queue to ``#.<name>``, which also matches the names that end in ``.<name>``.

    Arguments:
        places: queue -> the variable that names it.
    """
    for longer, place in places.items():
        for shorter in places:
            if longer.endswith("." + shorter):
                yield Problem(
                    place,
                    longer,
                    f"ends in the name of the queue {shorter}, which would get a copy of every task sent to it",
                    longer.replace(".", "-") + " or another name without that ending",
                )


def durations(values: Mapping[str, Any]) -> tuple[dict[str, int], list[Problem]]:
    """Return the variables that are durations, in seconds, and which of them cannot be read (0 then)."""
    read: dict[str, int] = {}
    problems = []
    for name in ("longest_eta", "longest_task", "result_expires", "visibility_timeout"):
        try:
            # An empty visibility timeout is derived from the others.
            read[name] = 0 if values[name] == "" and name == "visibility_timeout" else parse_duration(values[name])
        except UnreadableError as error:
            problems.append(error.of(f"celery_app_{name}", values[name]))
            read[name] = 0
        else:
            if not read[name] and values[name] != "" and name in _NO_ZERO:
                problems.append(Problem(f"celery_app_{name}", values[name], _NO_ZERO[name], DURATION_HELP))
    return read, problems


def _other_problems(values: Mapping[str, Any], broker: str) -> Iterable[Problem]:
    if not 1 <= int(values["prefetch_multiplier"]) <= MOST_PREFETCHED:
        yield Problem(
            "celery_app_prefetch_multiplier",
            values["prefetch_multiplier"],
            "is out of range",
            f"how many messages per process, 1 to {MOST_PREFETCHED}",
        )
    # Without quotes 3.10 is 3.1, which is told as what YAML has made of it.
    if re.fullmatch(r"[0-9]+(\.[0-9]{2,}(\.[0-9]+)?)?", str(values["python"])):
        yield Problem("celery_app_python", values["python"], "is a version, not a program", f"python{values['python']}")
    elif not _PYTHON.fullmatch(str(values["python"])):
        instead = "a program's name or its path, such as python3.12 or /opt/python/bin/python3"
        yield Problem("celery_app_python", values["python"], "is not an interpreter", instead)
    if int(values["keep_releases"]) < 1:
        yield Problem(
            "celery_app_keep_releases",
            values["keep_releases"],
            "is less than 1",
            "how many releases stay, the current one included",
        )
    # The result backend of Celery 5.7 puts a _ behind a prefix that ends otherwise, the broker does not.
    if not re.fullmatch(r"[A-Za-z0-9_.-]*:", values["key_prefix"]):
        ends = re.search(r"[^:]:$", values["key_prefix"])
        reason = "holds more than letters, digits, dots, _ and -" if ends else "does not end in one colon"
        yield Problem("celery_app_key_prefix", values["key_prefix"], reason, f"{values['name']}:")
    if not is_queue(values["exchange"]) or values["exchange"].startswith(_CELERYS_QUEUES):
        yield Problem(
            "celery_app_exchange",
            values["exchange"],
            "is not an exchange name",
            "letters, digits, _ and -, and none of Celery's own",
        )
    if broker == "rabbitmq" and not is_queue(values["dead_letter_queue"]):
        yield Problem(
            "celery_app_dead_letter_queue", values["dead_letter_queue"], "is not a queue name", "dead-letters"
        )
    for name in values["install_environment"]:
        if not _VARIABLE.fullmatch(str(name)):
            yield Problem("celery_app_install_environment", name, "is not a variable's name", "letters, digits and _")


def _settings_problems(values: Mapping[str, Any], broker: str) -> Iterable[Problem]:
    """Say which of the user's Celery settings are unknown, decided elsewhere, secret, or cannot be what they are."""
    settings: Mapping[str, Any] = values["settings"]
    extra = {str(name) for name in values["extra_setting_names"]}
    for name in sorted(extra & OWNED_SETTINGS.keys()):
        yield Problem(
            "celery_app_extra_setting_names", name, "is a setting that this collection decides", OWNED_SETTINGS[name]
        )
    for raw, value in settings.items():
        name, variable = str(raw), f"celery_app_settings.{raw}"
        # Which of Django's caches: a name, no address.
        of_django = name == "cache_backend" and str(values["result_backend"]) in PACKAGED_BACKENDS
        if name in OWNED_SETTINGS and not of_django:
            shown = NOT_SHOWN if named_like_a_secret(name) or "url" in name or name == "result_backend" else value
            yield Problem(variable, shown, "is decided by another variable", OWNED_SETTINGS[name])
            continue
        if name not in KINDS and name not in extra:
            # A setting of something else: what it is, nobody knows here.
            shown = value if isinstance(value, (bool, int, float)) else NOT_SHOWN
            yield Problem(variable, shown, f"is not a setting of Celery {NEWEST}", _known_setting(name))
            continue
        if _secret_path(name, value):
            yield Problem(
                f"celery_app_settings.{_secret_path(name, value)}",
                NOT_SHOWN,
                "looks like a secret, and every process on the host may read the shared configuration",
                "it in celery_app_environment, and let the app read it from there",
            )
            continue
        wrong_kind = list(_kind_problems(variable, name, value))
        yield from wrong_kind or serializer_problems(variable, name, value)
        yield from () if wrong_kind else value_problems(variable, name, value, broker)
        if isinstance(value, Mapping):
            for key in value:
                if (name, str(key)) in OWNED_KEYS:
                    yield Problem(
                        f"{variable}.{key}", value[key], "is decided by another variable", OWNED_KEYS[name, str(key)]
                    )
    yield from unread_problems(settings)


def _known_setting(name: str) -> str:
    """Return what an unknown setting was meant to be; the old upper-case names are tried as well."""
    close = closest(name.lower().removeprefix("celery_"), KINDS, 0.85)
    if close:
        return f"{close} (did you mean that?)"
    return (
        "a setting's lower-case name, or list a setting of your app or an extension in celery_app_extra_setting_names"
    )


def _secret_path(name: str, value: Any) -> str:
    """Return the path of the first key in ``value`` that is named like a secret and is set, or nothing."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            found = _secret_path(str(key), entry)
            if found:
                return f"{name}.{found}"
        return ""
    if isinstance(value, (list, tuple)):
        return next((f"{name}.{found}" for entry in value if (found := _secret_path("", entry))), "")
    if isinstance(value, str) and value and (named_like_a_secret(name) or holds_password(value)):
        return name
    return ""


def _kind_problems(variable: str, name: str, value: Any) -> Iterable[Problem]:
    """Say when a value cannot be what Celery expects; text in place of a truth value would always be true."""
    kind = KINDS.get(name, "any")
    if value is None:
        return
    if kind == "bool" and not isinstance(value, bool) and not (name in BOOL_OR_DICT and isinstance(value, Mapping)):
        yield Problem(variable, value, "is not true or false", "true or false, without quotes")
    elif kind in ("int", "float") and (isinstance(value, (bool, str)) or not isinstance(value, (int, float))):
        yield Problem(variable, value, "is not a number", "a number without quotes (Celery counts time in seconds)")
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and any(number_fault(name, value)):
        yield Problem(variable, value, *number_fault(name, value))
    elif kind in ("string", "str", "bytes") and not (
        isinstance(value, str)
        or (name in TEXT_OR_NUMBER and isinstance(value, (int, float)) and not isinstance(value, bool))
        or (name in TEXT_OR_DICT and isinstance(value, Mapping))
    ):
        yield Problem(variable, value, "is not text", "text, in quotes if it looks like something else")
    elif kind == "dict" and not isinstance(value, Mapping):
        yield Problem(variable, value, "is not a dictionary", "key: value pairs")
    elif kind in ("list", "tuple") and not isinstance(value, (list, tuple)):
        yield Problem(variable, value, "is not a list", "a list such as [a, b]")
    elif not _is_json(value):
        yield Problem(
            variable,
            value,
            "cannot be written as JSON",
            "text, numbers, true, false, null, lists and dictionaries of these",
        )


def _is_json(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_json(entry) for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_json(entry) for entry in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (str, bool, int))


def _plain(value: Any) -> Any:
    """Return ``value`` built from plain types: Ansible's own string types are no business of the renderer."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, bool) or value is None:
        return value
    return next((kind(value) for kind in (str, int, float) if isinstance(value, kind)), value)


def _environment_problems(environment: Mapping[str, Any], python_path: Iterable[Any]) -> Iterable[Problem]:
    """Say which variables cannot stand in the environment file; their values may be secrets and are not shown."""
    for raw, value in environment.items():
        name, variable = str(raw), f"celery_app_environment.{raw}"
        if not _VARIABLE.fullmatch(name):
            yield Problem(variable, NOT_SHOWN, "is not a variable's name", "letters, digits and _, no digit first")
        elif name in OWNED_ENVIRONMENT or name.startswith("CELERYOPS_"):
            yield Problem(variable, NOT_SHOWN, "is not the app's to set", OWNED_ENVIRONMENT.get(name, "another name"))
        elif isinstance(value, bool):
            yield Problem(
                variable,
                value,
                "is true or false, and variables are text",
                'what the app reads, in quotes: "1" or "true"',
            )
        elif value is None or isinstance(value, (Mapping, list, tuple)):
            yield Problem(variable, NOT_SHOWN, "is not text", "text or a number")
        elif any(
            (ord(character) < 32 and character not in "\n\t") or ord(character) == 127 for character in str(value)
        ):
            yield Problem(variable, NOT_SHOWN, "contains a control character, which systemd refuses", "text")
        # A fraction in an environment is what it looks like, unless it is written otherwise (number_slips).
        elif not isinstance(value, float) and (named_like_a_secret(name) or not isinstance(value, str)):
            yield from filter(None, [altered(variable, value, lines=True)])
    yield from environment_problems("celery_app_environment", environment)
    for entry in python_path:
        if not str(entry).startswith("/") or ":" in str(entry):
            yield Problem(
                "celery_app_python_path", entry, "is not an absolute path", "a directory on the host, such as /srv/shop"
            )
