# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the units of an app have in common: the target, command lines and environments."""

from __future__ import annotations

import posixpath
import re
import shlex
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.account import PRIVILEGED_GROUPS, RIGHTS
from ansible_collections.celeryops.stack.plugins.module_utils.masking import looks_like_a_secret
from ansible_collections.celeryops.stack.plugins.module_utils.paths import PROGRAMS, RUN_COMMAND
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN, named_like_a_secret
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import (
    Problem,
    UnreadableError,
    holds_password,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import quote_systemd_word
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.kernel_limits import environment_problems
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import DURATION_HELP, parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: Imports an app as its workers and its scheduler do, in one line of Python.
IMPORT_APP = (
    "import sys; from celery.app.utils import find_app; app = find_app(sys.argv[1]); "
    "app.loader.import_default_modules(); app.finalize()"
)
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_./:=,@+%-]+")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: An import path: package.module, or package.module:attribute.
IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)?")
#: A Linux account, as useradd accepts it.
ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
#: Where code, configuration and units are: what may be written there may run with other rights tomorrow.
_CODE = ("/bin", "/boot", "/etc", "/lib", "/lib64", PROGRAMS, "/root", "/sbin", "/usr")
#: A program by its name or by its absolute path.
_COMMAND = re.compile(r"(/[A-Za-z0-9_.+-]+)+|[A-Za-z0-9_][A-Za-z0-9_.+-]*")
#: Programs that change the account or its rights; a worker has its unit's account.
_OTHER_ACCOUNT = frozenset({"sudo", "su", "runuser", "setpriv", "doas", "pkexec", "chroot", "unshare", "nsenter"})
_ABSOLUTE_PATH = re.compile(r"/[^\s:\"'\\%$]*")

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

#: Local servers that must be up first, and go down last. A unit that does not exist is ignored in After=.
START_AFTER = "network-online.target rabbitmq-server.service redis-server.service valkey-server.service"


def target_unit(app: str) -> str:
    """Return the target that holds all units of ``app``.

    The same text comes from three roles (workers, beat, Flower), whichever a host has, so that none undoes another's.
    """
    return "\n".join(
        [
            "# Managed by celeryops.stack (roles celery_worker, celery_beat, flower). Local changes are overwritten.",
            "[Unit]",
            f"Description=All Celery units of {app}",
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        ]
    )


def command_line(words: Iterable[object]) -> str:
    """Return ``words`` as the value of ExecStart=; only what needs quotes gets them."""
    return " ".join(
        str(word).replace("%", "%%") if _PLAIN_WORD.fullmatch(str(word)) else quote_systemd_word(word) for word in words
    )


def read_at_start(layout: Mapping[str, Any]) -> list[str]:
    """Return what a process of an app reads when it starts, beside its unit and its release: a newer one restarts it.

    Arguments:
        layout: the app's paths (``layout.app_layout``).
    """
    return [
        layout["settings"],
        layout["environment"],
        f"{layout['runtime']}/celeryops_runtime",
    ]


def with_environment(environment: Mapping[str, Any], words: Sequence[object]) -> list[object]:
    """Return the words of a command that gets ``environment`` on top of the app's.

    env(1) sets it and becomes the command, since a variable of EnvironmentFile= wins over one of Environment=, whatever
    their order (systemd.exec(5), version 257), and what is said of one class has to win over what is said of the app.
    """
    return (
        ["/usr/bin/env", *(f"{name}={value}" for name, value in environment.items()), *words]
        if environment
        else [*words]
    )


def trial(app: str, current: str, environment: Mapping[str, Any], program: str, arguments: Sequence[str]) -> str:
    """Return the command that runs Python as the app does, before a unit that has changed replaces the one in use.

    Without the app, which another role brings, there is nothing to try: that is told when the unit is started.

    Arguments:
        app: the app's name.
        current: the link to its release in use.
        environment: what the unit sets on top of the app's.
        program: in Python; what it raises is told.
        arguments: of the program.
    """
    words = [RUN_COMMAND, app, *with_environment(environment, [f"{current}/bin/python"])]
    shell = ["sh", "-c", '[ ! -x "$0" ] || exec "$0" "$@"']
    return shlex.join([*shell, *map(str, words), "-c", program, *arguments])


def check_environment(environment: Mapping[Any, Any], variable: str) -> tuple[dict[str, str], list[Problem]]:
    """Return the environment of a unit as text, and its mistakes.

    A unit file can be read by everyone on the host, and systemd shows it over D-Bus, so nothing secret may be in it.

    Arguments:
        environment: name -> value.
        variable: name of the variable that it comes from.
    """
    problems: list[Problem] = []
    result: dict[str, str] = {}
    for name, value in environment.items():
        where = f"{variable}.{name}"
        if not isinstance(name, str) or not _ENVIRONMENT_NAME.fullmatch(name):
            reason = "is not a name of an environment variable"
            problems.append(Problem("not-a-name", where, name, reason, "letters, digits and _"))
        elif name == "C_FORCE_ROOT":
            instead = "nothing here: nothing runs as root"
            problems.append(Problem("lets-celery-run-as-root", where, value, "runs Celery as root", instead))
        elif name == "REMAP_SIGTERM":
            reason = "would end running tasks without the time that a stop gives them"
            instead = "nothing here: stop_timeout is that time"
            problems.append(Problem("ends-running-tasks", where, value, reason, instead))
        elif name.startswith(("CELERY_", "CELERYOPS_", "NOTIFY_", "WATCHDOG_")) or name == "PYTHONPATH":
            reason = "belongs to the shared configuration"
            instead = "it with role celery_app"
            problems.append(Problem("belongs-to-the-shared-configuration", where, NOT_SHOWN, reason, instead))
        elif named_like_a_secret(name) or holds_password(value) or looks_like_a_secret(str(value)):
            reason = "looks like a secret, and everyone on the host can read a unit file"
            problems.append(Problem("looks-like-a-secret", where, NOT_SHOWN, reason, "it into celery_app_environment"))
        elif not isinstance(value, (str, int, float)) or "\n" in str(value):
            reason = "is not one line of text"
            problems.append(Problem("not-one-line-of-text", where, value, reason, "a text or a number"))
        else:
            result[str(name)] = directive_value(value) if isinstance(value, bool) else str(value)
    return result, [*problems, *environment_problems(variable, result)]


def check_prefix(words: Sequence[str], variable: str) -> list[Problem]:
    """Return the mistakes in a command that a worker is started through.

    Arguments:
        words: the command and its arguments; nothing when there is none.
        variable: where it is written.
    """
    problems: list[Problem] = []
    if not words:
        return problems
    command = words[0]
    if not _COMMAND.fullmatch(command) or ".." in command.split("/"):
        instead = "a program of the app's environment such as ddtrace-run, or an absolute path"
        problems.append(Problem("not-a-command", variable, command, "is not a command", instead))
    elif posixpath.basename(command) in _OTHER_ACCOUNT:
        reason = "would run the worker as another account, or with other rights"
        instead = "celery_worker_user, or nothing: the unit has the account"
        problems.append(Problem("runs-as-another-account", variable, command, reason, instead))
    for word in words[1:]:
        if named_like_a_secret(word.partition("=")[0]) or holds_password(word) or looks_like_a_secret(word):
            reason = "would be readable by everyone on the host"
            instead = "it into celery_app_environment"
            problems.append(Problem("readable-by-everyone", variable, NOT_SHOWN, reason, instead))
    return problems


def started_through(prefix: Sequence[str], directory: str, words: Sequence[object]) -> list[object]:
    """Return the words of a command that is started through another one.

    Arguments:
        prefix: the other one and its arguments; nothing when there is none.
        directory: of the release; a program without a path is one of its environment.
        words: the command.
    """
    if not prefix:
        return [*words]
    program = prefix[0] if prefix[0].startswith("/") else f"{directory}/bin/{prefix[0]}"
    return [program, *prefix[1:], *words]


def check_identity(prefix: str, variables: Mapping[str, Any]) -> list[Problem]:
    """Return the mistakes in the variables that name the app, its import path, its user and its group.

    Arguments:
        prefix: the role's prefix, such as ``celery_worker``.
        variables: the role's variables.
    """
    problems: list[Problem] = []
    target = variables.get(f"{prefix}_import")
    if target is not None and not IMPORT_PATH.fullmatch(str(target)):
        instead = "one such as shop.celery:app (what -A takes)"
        problems.append(Problem("not-an-import-path", f"{prefix}_import", target, "is not an import path", instead))
    for kind in ("user", "group"):
        name = variables.get(f"{prefix}_{kind}")
        if name is None:
            continue
        if str(name) in PRIVILEGED_GROUPS:
            instead = "an account that only this app uses"
            problems.append(Problem("privileged-account", f"{prefix}_{kind}", name, RIGHTS, instead))
        elif not ACCOUNT.fullmatch(str(name)):
            reason = "is not an account name"
            problems.append(Problem("not-an-account-name", f"{prefix}_{kind}", name, reason, "one such as shop"))
    return problems


def check_writable_paths(paths: Iterable[Any], variable: str) -> tuple[list[str], list[Problem]]:
    """Return the extra directories that a unit may write to, and the mistakes among them."""
    good: list[str] = []
    problems: list[Problem] = []
    for position, path in enumerate(paths):
        text = str(path)
        where = f"{variable}[{position}]"
        if not _ABSOLUTE_PATH.fullmatch(text) or ".." in text.split("/"):
            reason = "is not an absolute path"
            problems.append(Problem("not-an-absolute-path", where, path, reason, "a directory such as /srv/media"))
        elif _holds_code(text):
            reason = "holds code or configuration, which no worker may write to"
            problems.append(Problem("writable-code", where, path, reason, "a directory that holds data only"))
        else:
            good.append(text)
    return good, problems


def check_platform(facts: Mapping[str, Any]) -> list[Problem]:
    """Return why a host cannot carry an app: Debian 12 or newer can, and Ubuntu, whose packages have the same names.

    Nothing is said about a host whose facts are not known.
    """
    if "distribution" not in facts:
        return []
    name, major = str(facts["distribution"]), str(facts.get("distribution_major_version", ""))
    if name in ("Debian", "Ubuntu") and not (name == "Debian" and major.isdigit() and int(major) < 12):
        return []
    host = f"{name} {major}".rstrip()
    reason = "is not supported"
    return [Problem("not-supported", "ansible_facts['distribution']", host, reason, "a host with Debian 12 or newer")]


def check_host(facts: Mapping[str, Any]) -> list[Problem]:
    """Return why a host cannot carry the units; nothing is said about a host whose facts are not known."""
    problems, manager = check_platform(facts), facts.get("service_mgr")
    if manager is not None and manager != "systemd":
        reason = "cannot run the units"
        instead = "a host with systemd"
        problems.append(Problem("cannot-run-the-units", "ansible_facts['service_mgr']", manager, reason, instead))
    return problems


def read_duration(variables: Mapping[str, Any], name: str, minimum: int) -> tuple[int, list[Problem]]:
    """Return the variable ``name`` in seconds, and what is wrong with it."""
    value = variables[name]
    try:
        seconds = parse_duration(value)
    except UnreadableError as error:
        return minimum, [error.of(name, value)]
    if seconds < minimum:
        return minimum, [Problem("too-short", name, value, f"is shorter than {minimum}s", DURATION_HELP)]
    return seconds, []


def _holds_code(path: str) -> bool:
    """Whether a directory is one of code or configuration, lies in one or holds one."""
    clean = "/" + posixpath.normpath(path).strip("/")
    return clean == "/" or any(_within(clean, one) or _within(one, clean) for one in _CODE)


def _within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory + "/")


def directive_value(value: Any) -> str:
    """Return ``value`` as it stands behind the ``=`` of a directive."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
