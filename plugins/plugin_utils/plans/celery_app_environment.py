# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment of an app's processes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN, named_like_a_secret
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import (
    Problem,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.kernel_limits import environment_problems
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.yaml_altered_text import altered

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
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


def unit_environment_problems(environment: Mapping[str, Any], python_path: Iterable[Any]) -> Iterable[Problem]:
    """Say which variables cannot stand in the environment file; their values may be secrets and are not shown."""
    for raw, value in environment.items():
        name, variable = str(raw), f"celery_app_environment.{raw}"
        if not VARIABLE.fullmatch(name):
            instead = "letters, digits and _, no digit first"
            yield Problem("not-a-variables-name", variable, NOT_SHOWN, "is not a variable's name", instead)
        elif name in OWNED_ENVIRONMENT or name.startswith("CELERYOPS_"):
            instead = OWNED_ENVIRONMENT.get(name, "another name")
            yield Problem("reserved-environment", variable, NOT_SHOWN, "is reserved", instead)
        elif isinstance(value, bool):
            instead = 'what the app reads, in quotes: "1" or "true"'
            yield Problem("yaml-boolean", variable, value, "is true or false, and variables are text", instead)
        elif value is None or isinstance(value, (Mapping, list, tuple)):
            yield Problem("not-text", variable, NOT_SHOWN, "is not text", "text or a number")
        elif any(
            (ord(character) < 32 and character not in "\n\t") or ord(character) == 127 for character in str(value)
        ):
            yield Problem(
                "control-character", variable, NOT_SHOWN, "contains a control character, which systemd refuses", "text"
            )
        # A fraction in an environment is what it looks like, unless it is written otherwise (number_slips).
        elif not isinstance(value, float) and (named_like_a_secret(name) or not isinstance(value, str)):
            yield from filter(None, [altered(variable, value, lines=True)])
    yield from environment_problems("celery_app_environment", environment)
    for entry in python_path:
        if not str(entry).startswith("/") or ":" in str(entry):
            instead = "a directory on the host, such as /srv/shop"
            yield Problem("not-an-absolute-path", "celery_app_python_path", entry, "is not an absolute path", instead)
