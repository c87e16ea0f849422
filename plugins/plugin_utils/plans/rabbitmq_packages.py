# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages of RabbitMQ and Erlang: versions, pins, and the repository that they come from."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils.masking import user_part
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import (
    holds_password,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq_variables import CONFIG_DIR, Variables

PRIVATE_FILE = "50-celeryops.conf"
#: Where a signing key from a URL is kept, in ASCII armour and as it is; apt goes by the end of the name.
_KEY_FILES = ("/etc/apt/keyrings/celeryops-rabbitmq.asc", "/etc/apt/keyrings/celeryops-rabbitmq.gpg")


def _install_environment(given: Variables) -> None:
    """Refuse passwords: Ansible puts a task's environment into the command line that it runs on the host."""
    for name, value in given.values["install_environment"].items():
        if holds_password(value):
            reason = "holds a password, which everybody on the host could read in the list of processes"
            instead = "an address without one, and the password in a file of /etc/apt/apt.conf.d on the host"
            given.problem("password-in-the-environment", f"install_environment.{name}", NOT_SHOWN, reason, instead)


def packages_of(given: Variables) -> list[str]:
    _install_environment(given)
    version = given.values["version"]
    erlang = given.values["erlang_version"]
    for name, value in (("version", version), ("erlang_version", erlang)):
        if value and not re.fullmatch(r"[0-9][A-Za-z0-9.+:~*-]*", value):
            reason = "is not a package version"
            given.problem("not-a-package-version", name, value, reason, 'a version or a pattern such as "4.0.5-*"')
    packages = [f"rabbitmq-server={version}" if version else "rabbitmq-server"]
    if erlang:
        packages.insert(0, f"erlang-base={erlang}")
    return packages


def pins_of(given: Variables) -> list[dict[str, str]]:
    pins = []
    for name, packages in (("version", "rabbitmq-server"), ("erlang_version", "/^erlang(-.*)?$/")):
        if given.values[name]:
            pins.append({"packages": packages, "pin": f"version {given.values[name]}"})
    return pins


def repository_of(given: Variables) -> dict[str, Any]:
    repository = given.values["repository"]
    if not repository:
        return {}
    for name in ("uris", "suites", "key"):
        if not repository.get(name):
            instead = "it, or leave the repository out"
            given.problem("missing", f"repository.{name}", repository.get(name), "is missing", instead)
            return {}
    uris = repository["uris"]
    for uri in uris:
        if not re.match(r"(https?|file|copy|mirror\+https?)://?", uri):
            reason = "is not the address of a repository"
            given.problem("not-the-address", "repository.uris", uri, reason, "a URL such as https://host/path")
        elif any(user_part(uri)):
            reason = "holds a login, and every account may read the list of repositories"
            instead = "it without, and the login in a file of /etc/apt/auth.conf.d"
            given.problem("login-in-the-address", "repository.uris", uri, reason, instead)
    key = repository["key"]
    if not (key.startswith(("/", "https://")) or "BEGIN PGP PUBLIC KEY BLOCK" in key):
        instead = "an https URL, a path on the host, or the key itself in ASCII armour"
        given.problem("not-a-signing-key", "repository.key", key, "is not a signing key", instead)
    suites = repository["suites"]
    components = repository.get("components") or []
    if not components and not all(suite.endswith("/") for suite in suites):
        instead = "components such as [main], or suites that end in /"
        given.problem("empty", "repository.components", components, "is empty", instead)
    signed_by = _key_file(key) or key
    if "\n" in signed_by:
        # A field of several lines: each is indented, and an empty one is a dot (deb822(5)).
        signed_by = "\n" + "\n".join(f" {line.rstrip() or '.'}" for line in key.strip().splitlines())
    fields = {
        "Types": "deb",
        "URIs": " ".join(uris),
        "Suites": " ".join(suites),
        "Components": " ".join(components),
        "Signed-By": signed_by,
    }
    return {
        "fields": [{"name": name, "value": value} for name, value in fields.items() if value],
        "key_url": key if _key_file(key) else "",
        "key_file": _key_file(key),
    }


def stale_files(given: Variables) -> list[str]:
    """Return what an earlier run may have written and these variables do not ask for."""
    stale = []
    if not pins_of(given):
        stale.append("/etc/apt/preferences.d/celeryops-rabbitmq.pref")
    repository = given.values["repository"]
    if not repository:
        stale.append("/etc/apt/sources.list.d/celeryops-rabbitmq.sources")
    stale += [path for path in _KEY_FILES if path != _key_file(str(repository.get("key") or ""))]
    if not given.values["secret_config"]:
        stale.append(f"{CONFIG_DIR}/conf.d/{PRIVATE_FILE}")
    return stale


def _key_file(key: str) -> str:
    """Return where a signing key that is given as a URL is kept on the host; nothing for another kind of key."""
    return _KEY_FILES[key.endswith(".gpg")] if key.startswith("https://") else ""
