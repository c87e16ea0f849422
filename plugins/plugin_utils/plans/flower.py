# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of role flower: the web interface of an app. It holds none of the role's secrets."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.endpoints import each_address, scheme_of, server_of
from ansible_collections.celeryops.stack.plugins.module_utils.masking import hidden
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.app_servers import address_problems
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.flower_api import flower_api
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import (
    Problem,
    UnreadableError,
    did_you_mean,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.shapes import Process, Unit
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.kernel_limits import LONGEST, size
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.sandbox import sandbox
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.units import (
    ACCOUNT,
    START_AFTER,
    check_host,
    command_line,
    read_duration,
    target_unit,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.layout import app_layout
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.passwords import SHORTEST, weakness
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import parse_size
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.requirements import (
    index_problems,
    package_problems,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SMALLEST_MEMORY = 128 * 1024**2

#: Flower's options (flower/options.py, 2.2.0) that a user may set as they are.
OPTIONS = {
    "auto_refresh", "ca_certs", "debug", "enable_events", "inspect_timeout", "max_workers", "natural_time",
    "task_runtime_metric_buckets", "tasks_columns", "xheaders",
}  # fmt: skip
#: Those that have a variable of the role; None means that there is none on purpose.
_OWN_OPTIONS: dict[str, str | None] = {
    "port": "flower_port",
    "address": "flower_address",
    "unix_socket": None,
    "auth": None,
    "auth_provider": None,
    "basic_auth": "flower_basic_auth",
    "max_tasks": "flower_max_tasks",
    "db": None,
    "persistent": None,
    "state_save_interval": "flower_state_save_interval",
    "broker_api": "flower_broker_api",
    "certfile": "flower_tls_certificate",
    "keyfile": "flower_tls_key",
    "purge_offline_workers": "flower_purge_offline_workers",
    "cookie_secret": "flower_cookie_secret",
    "conf": None,
    "url_prefix": "flower_url_prefix",
    "read_only": "flower_read_only",
    "logging": "flower_log_level",
    "unauthenticated_api": None,
}
_USER = re.compile(r"[\x21-\x2b\x2d-\x39\x3b-\x7e]{1,64}")
_PASSWORD = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
_PYTHON = re.compile(r"/?[A-Za-z0-9._+-]+(/[A-Za-z0-9._+-]+)*")
_PATH = re.compile(r"/[A-Za-z0-9_./+@-]*")
_PREFIX = re.compile(r"/?[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*/?")


class Plan(Process, total=False):
    """What the tasks and templates of the role read.

    ``service`` is what its unit is rendered from, ``release`` what is installed.
    """

    present: bool
    unit: str
    base: str
    config_dir: str
    environment_file: str
    address: str
    release: dict[str, Any]
    service: dict[str, Any]


def plan(variables: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Plan, list[Problem]]:
    """Return what the unit is rendered from, and every mistake in the variables.

    Arguments:
        variables: the role's variables.
        facts: facts of the host; empty when only the inventory is checked.
    """
    try:
        layout = app_layout(variables["flower_app"])
    except UnreadableError as error:
        return {}, [error.of("flower_app", variables["flower_app"])]
    app = layout["app"]
    present = variables["flower_state"] == "present"
    problems = check_host(facts)
    times: dict[str, int] = {}
    for name, minimum in (("state_save_interval", 10), ("purge_offline_workers", 60), ("watchdog", 0)):
        times[name], found = read_duration(variables, f"flower_{name}", minimum)
        problems += found
    memory_max, found = _memory(variables)
    problems += found
    lines, found = sandbox(variables["flower_hardening"], "flower_hardening")
    problems += found
    if present:
        problems += _check_access(variables)
        problems += _check_broker(variables)
    problems += package_problems(
        "flower_packages", variables["flower_packages"], "requirements there only", "flower_index_url"
    )
    problems += index_problems("flower_index_url", [variables["flower_index_url"]])
    options, found = _options(variables["flower_options"])
    problems += [*found, *_interpreter(variables)]

    base = layout["flower_base"]
    state = f"celeryops/{app}-flower"
    shared = variables["flower_shared_configuration"]
    tls = bool(variables["flower_tls_certificate"])
    restart_on = [f"{base}/current", f"{base}/flowerconfig.py", layout["flower_environment"]]
    restart_on += [str(variables["flower_tls_certificate"]), str(variables["flower_tls_key"])] if tls else []
    restart_on += [layout["settings"], f"{layout['runtime']}/celeryops_runtime"] if shared else []
    environment = {
        "FLOWER_CONF": f"{base}/flowerconfig.py",
        "FLOWER_ADDRESS": str(variables["flower_address"]),
        "FLOWER_PORT": str(variables["flower_port"]),
        "FLOWER_PERSISTENT": "true",
        "FLOWER_DB": f"/var/lib/{state}/flower",
        "FLOWER_STATE_SAVE_INTERVAL": str(times["state_save_interval"] * 1000),
        "FLOWER_MAX_TASKS": str(variables["flower_max_tasks"]),
        "FLOWER_PURGE_OFFLINE_WORKERS": str(times["purge_offline_workers"]),
        "FLOWER_READ_ONLY": "true" if variables["flower_read_only"] else "false",
        "FLOWER_LOGGING": str(variables["flower_log_level"]).lower(),
        **options,
    }
    if variables["flower_url_prefix"]:
        environment["FLOWER_URL_PREFIX"] = str(variables["flower_url_prefix"]).strip("/")
    if tls:
        environment["FLOWER_CERTFILE"] = str(variables["flower_tls_certificate"])
        environment["FLOWER_KEYFILE"] = str(variables["flower_tls_key"])
    if variables["flower_open_pages"]:
        environment["CELERYOPS_FLOWER_OPEN"] = " ".join(variables["flower_open_pages"])
    if shared:
        environment["CELERY_LOADER"] = "celeryops_runtime.loader:Loader"
        environment["CELERYOPS_CONFIG"] = layout["settings"]
        environment["PYTHONPATH"] = layout["runtime"]
        # Flower imports what these settings name before it starts (flower/app.py, 2.2.0). They are modules of the app,
        # of which its environment has nothing, and it needs none: it knows tasks by what workers say.
        environment["CELERYOPS_SETTINGS"] = json.dumps({"imports": [], "include": []})
    running: Unit = {"enabled": True, "state": "started"}
    return {
        "app": app,
        "present": present,
        "unit": layout["flower_unit"],
        "base": base,
        "config_dir": layout["config_dir"],
        "environment_file": layout["flower_environment"],
        "target": {"name": layout["target"], "content": target_unit(app)},
        "release": {
            "name": f"{app}-flower",
            "source": {
                "type": "pip",
                "packages": [str(package) for package in variables["flower_packages"]],
            },
        },
        "service": {
            "app": app,
            "user": f"{app}-flower",
            "command": command_line([f"{base}/current/bin/celery", "flower"]),
            "environment": environment,
            "environment_file": layout["flower_environment"],
            # Of all accounts, the key is open to those of this group.
            "groups": [str(variables["flower_tls_group"])] if tls else [],
            "target": layout["target"],
            "start_after": START_AFTER,
            "state_directory": state,
            "memory_max": memory_max,
            "watchdog": times["watchdog"],
            "sandbox": lines,
        },
        "units": [
            {"name": layout["target"], **running},
            {"name": layout["flower_unit"], **running, "restart_on": restart_on},
        ]
        if present
        else [],
        "prune": {"glob": layout["flower_unit"], "markers": ["role flower"]},
    }, problems


def _check_access(variables: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the mistakes in who may look, and from where."""
    address = str(variables["flower_address"])
    try:
        local = ipaddress.ip_address(address).is_loopback
    except ValueError:
        instead = "one such as 127.0.0.1 or 10.0.0.5"
        yield Problem("not-an-ip-address", "flower_address", address, "is not an IP address", instead)
        local = True
    if not 1024 <= int(variables["flower_port"]) <= 65535:
        instead = "1024 to 65535; a web server in front can have 443"
        yield Problem("out-of-range", "flower_port", variables["flower_port"], "is out of range", instead)
    prefix = str(variables["flower_url_prefix"])
    if prefix and not _PREFIX.fullmatch(prefix):
        yield Problem("not-a-path", "flower_url_prefix", prefix, "is not a path", "one such as flower")
    users = variables["flower_basic_auth"]
    if not users:
        reason = "leaves Flower open to everyone"
        instead = "at least one {user: password}"
        yield Problem("leaves-flower-open-to-everyone", "flower_basic_auth", users, reason, instead)
    for name, password in users.items():
        where = f"flower_basic_auth.{name}"
        if not _USER.fullmatch(str(name)):
            instead = "ASCII without space, comma and colon"
            yield Problem("cannot-be-a-users-name", where, name, "cannot be a user's name", instead)
        if not isinstance(password, str) or not _PASSWORD.fullmatch(password):
            instead = "text of ASCII without space and comma"
            yield Problem("cannot-be-a-password", where, NOT_SHOWN, "cannot be a password", instead)
        elif not local and (weak := weakness(password, name)):
            reason = f"{weak}, and on {address} others can guess"
            instead = f"at least {SHORTEST} random characters"
            yield Problem("guessable-password", where, NOT_SHOWN, reason, instead)
    credentials = ",".join(f"{name}:{password}" for name, password in users.items())
    if size("FLOWER_BASIC_AUTH", credentials) > LONGEST:
        reason = f"is longer than the {LONGEST} bytes that the kernel hands to a process"
        instead = "fewer users, or shorter passwords"
        yield Problem("too-long-in-bytes", "flower_basic_auth", NOT_SHOWN, reason, instead)
    if len(str(variables["flower_cookie_secret"])) < 32:
        reason = "is too short to sign cookies"
        instead = "at least 32 random characters, or leave it out"
        yield Problem("cookie-secret-too-short", "flower_cookie_secret", NOT_SHOWN, reason, instead)
    certificate, key = str(variables["flower_tls_certificate"]), str(variables["flower_tls_key"])
    for name, path in (("flower_tls_certificate", certificate), ("flower_tls_key", key)):
        if path and not _PATH.fullmatch(path):
            reason = "is not an absolute path"
            yield Problem("not-an-absolute-path", name, path, reason, "a file on the host")
    group = str(variables["flower_tls_group"])
    if key and (group == "root" or not ACCOUNT.fullmatch(group)):
        reason = "cannot be the group of the key"
        yield Problem("cannot-be-the-group", "flower_tls_group", group, reason, "one such as ssl-cert")
    if bool(certificate) != bool(key):
        name = "flower_tls_key" if certificate else "flower_tls_certificate"
        reason = "is missing: TLS needs both files"
        yield Problem("missing-tls-file", name, None, reason, "the path of the other file")
    if not local and not certificate and not variables["flower_allow_cleartext"]:
        reason = "sends passwords over the network in clear text"
        instead = "flower_tls_certificate and flower_tls_key, or flower_allow_cleartext: true behind a proxy with TLS"
        yield Problem("lets-passwords-cross-the-network", "flower_address", address, reason, instead)


def _check_broker(variables: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the mistakes in what Flower connects to."""
    url = str(variables["flower_broker_url"])
    if not url.strip():
        # The playbook knows the brokers of the inventory; of another one it does not know what account is Flower's.
        instead = (
            'the address of the broker with an account for Flower, or "{{ celery_app_broker_url }}" for the app\'s own'
        )
        yield Problem("missing", "flower_broker_url", None, "is missing", instead)
    elif not all(server_of(scheme_of(address)) for address in each_address(url)):
        instead = "an address such as amqp://watcher:password@127.0.0.1:5672/shop"
        reason = "is not the URL of a RabbitMQ or Redis broker"
        yield Problem("not-a-broker-url", "flower_broker_url", hidden(url), reason, instead)
    else:
        wrong = [
            problem for address in each_address(url) for problem in address_problems("flower_broker_url", url, address)
        ]
        yield from wrong
        if not wrong and scheme_of(url) == "sentinel" and not variables["flower_shared_configuration"]:
            reason = "names Sentinels, and which Redis they are asked for stands in the app's configuration"
            instead = "flower_shared_configuration: true"
            yield Problem("sentinel-without-configuration", "flower_broker_url", hidden(url), reason, instead)
    api = str(variables["flower_broker_api"])
    if not all(re.fullmatch(r"https?://\S+/api/", address) for address in each_address(api)):
        instead = "one such as http://watcher:password@127.0.0.1:15672/api/, with the slash at its end"
        reason = "is not the URL of RabbitMQ's management API"
        yield Problem("not-a-management-api-url", "flower_broker_api", hidden(api), reason, instead)
    elif server_of(scheme_of(url)) == "rabbitmq":
        # Of another broker Flower does not ask it.
        yield from flower_api(api, url)[1]


def _interpreter(variables: Mapping[str, Any]) -> list[Problem]:
    value = str(variables["flower_python"])
    if _PYTHON.fullmatch(value):
        return []
    instead = "a program's name or its path, such as python3.12 or /opt/python/bin/python3"
    return [Problem("not-an-interpreter", "flower_python", value, "is not an interpreter", instead)]


def _memory(variables: Mapping[str, Any]) -> tuple[int, list[Problem]]:
    value = variables["flower_memory_max"]
    try:
        size = parse_size(value)
    except UnreadableError as error:
        return SMALLEST_MEMORY, [error.of("flower_memory_max", value)]
    if size < SMALLEST_MEMORY:
        reason = "is too little for Flower to start in"
        return size, [Problem("too-little-for-flower", "flower_memory_max", value, reason, "128M or more")]
    return size, []


def _options(options: Mapping[Any, Any]) -> tuple[dict[str, str], list[Problem]]:
    """Return the user's own options as environment variables, and the mistakes in them."""
    result: dict[str, str] = {}
    problems: list[Problem] = []
    for name, value in options.items():
        where = f"flower_options.{name}"
        text = ",".join(str(entry) for entry in value) if isinstance(value, list) else str(value)
        if name in _OWN_OPTIONS:
            instead = _OWN_OPTIONS[name] or "nothing: the role decides it"
            problems.append(Problem("set-by-the-role-itself", where, NOT_SHOWN, "is set by the role itself", instead))
        elif name not in OPTIONS:
            reason = "is not an option of Flower 2.2"
            problems.append(Problem("no-option-of-flower", where, value, reason, did_you_mean(str(name), OPTIONS)))
        elif not isinstance(value, (str, int, float, list)) or "\n" in text:
            reason = "is not a text, number, boolean or list"
            problems.append(Problem("not-an-option-value", where, value, reason, "one of these"))
        else:
            result[f"FLOWER_{str(name).upper()}"] = text.lower() if isinstance(value, bool) else text
    return result, problems
