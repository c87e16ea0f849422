# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the code of an app comes from: celery_app_source, and the packages that a build needs."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.releases.requirements import without_name
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import (
    Problem,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.requirements import (
    REQUIREMENT_EXAMPLE,
    file_problems,
    index_problems,
    is_requirement,
    package_problems,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: An option, or an address that makes git run a program (gitremote-helpers(7)); a line break is in none.
_NO_REPOSITORY = re.compile(r"-|[A-Za-z0-9+.-]+::|[^\n]*[\x00-\x1f\x7f]")
#: Pages of GitLab and GitHub, and a version behind the name of the repository, as pip has it.
_WITH_A_VERSION = re.compile(
    r"/-/(tree|blob)/|^https?://[^/]*github[^/]*/[^/]+/[^/]+/(tree|blob)/|\.git[@#][^/@:]+$", re.IGNORECASE
)
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


def _ssh_problems(source: Mapping[str, Any]) -> Iterable[Problem]:
    """Yield that a path stands where the content of a file belongs: people write what ``ssh -i`` takes."""
    key, lines = str(source.get("deploy_key") or ""), str(source.get("known_hosts") or "").splitlines()
    if "-----BEGIN " in key and len(key.strip().splitlines()) < 3:
        # As a variable of a CI job, or a text that YAML folds, hands it over.
        instead = "it behind a |, which keeps them, or as {{ lookup('ansible.builtin.file', '~/.ssh/shop') }}"
        reason = "has lost its line breaks"
        yield Problem("key-without-line-breaks", "celery_app_source.deploy_key", "(not shown)", reason, instead)
    elif key and "PRIVATE KEY" not in key:
        instead = "the key itself, from a vault or as {{ lookup('ansible.builtin.file', '~/.ssh/shop') }}"
        yield Problem(
            "no-private-key-of-ssh", "celery_app_source.deploy_key", NOT_SHOWN, "is not a private key of SSH", instead
        )
    if any(0 < len(line.split()) < 3 and not line.lstrip().startswith("#") for line in lines):
        instead = "lines as ssh-keyscan prints them, such as git.example.org ssh-ed25519 AAAA..."
        reason = "is not a line of known_hosts"
        yield Problem("no-line-of-known-hosts", "celery_app_source.known_hosts", source["known_hosts"], reason, instead)


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
        reason, instead = "is not an address, and no path on the host", _source_example("git")
    if reason:
        yield Problem("not-a-repository-address", "celery_app_source.repo", repository, reason, instead)


def source_problems(source: Mapping[str, Any]) -> Iterable[Problem]:
    kind = source["type"]
    needed, allowed = SOURCE_KEYS[kind]
    given = {str(key) for key, value in source.items() if key != "type" and value not in (None, "", [], False)}
    for key in sorted(needed - given):
        reason = f"is missing, and type {kind} needs it"
        yield Problem("missing-for-the-source-type", f"celery_app_source.{key}", None, reason, _source_example(kind))
    for key in sorted(given - needed - allowed):
        others = sorted(other for other, (a, b) in SOURCE_KEYS.items() if key in a | b)
        instead = f"it with type {' or '.join(others)} only, or leave it out" if others else "nothing there"
        value = NOT_SHOWN if key in ("deploy_key", "index_url", "extra_index_urls") else source[key]
        yield Problem(
            "key-of-another-source-type", f"celery_app_source.{key}", value, f"does not belong to type {kind}", instead
        )
    if kind == "pip" and not given & {"packages", "requirements"}:
        yield Problem(
            "installs-nothing", "celery_app_source", {"type": kind}, "installs nothing", _source_example(kind)
        )
    if kind == "wheel" and "path" in given and not str(source["path"]).endswith(".whl"):
        yield Problem("not-a-wheel", "celery_app_source.path", source["path"], "is not a wheel", _source_example(kind))
    elif kind == "wheel" and "path" in given and len(str(source["path"]).rpartition("/")[2].split("-")) not in (5, 6):
        reason = "does not have the name of a wheel, and installers refuse it"
        yield Problem("not-the-name", "celery_app_source.path", source["path"], reason, _source_example(kind))
    if kind == "virtualenv" and "path" in given and not str(source["path"]).startswith("/"):
        reason = "is not an absolute path on the host"
        yield Problem("not-an-absolute-path", "celery_app_source.path", source["path"], reason, _source_example(kind))
    for key in ("subdirectory", "requirements_file"):
        if key in given and (str(source[key]).startswith("/") or ".." in str(source[key]).split("/")):
            reason = "leads out of the source"
            instead = "a path relative to the source"
            yield Problem("leads-out-of-the-source", f"celery_app_source.{key}", source[key], reason, instead)
    yield from file_problems("celery_app_source.requirements_file", str(source.get("requirements_file") or ""))
    if "repo" in given and _NO_REPOSITORY.match(str(source["repo"])):
        yield Problem(
            "not-a-repository", "celery_app_source.repo", source["repo"], "is not a repository", _source_example("git")
        )
    if kind == "git":
        yield from [*_ssh_problems(source), *_repository_problems(str(source.get("repo") or ""))]
    if "repo" in given and re.match(r"(git\+)?ssh://[^/@]*:[^/@]*@", str(source["repo"]), re.IGNORECASE):
        reason = "has a password, which SSH takes from no address and shows to everyone on the host"
        instead = "ssh://user@host/path, and deploy_key"
        yield Problem("password-in-ssh-address", "celery_app_source.repo", NOT_SHOWN, reason, instead)
    if "version" in given and not re.fullmatch(r"[A-Za-z0-9][\w./+@-]*", str(source["version"])):
        reason = "is not a branch, tag or commit"
        yield Problem("not-a-git-reference", "celery_app_source.version", source["version"], reason, "one of these")
    for key in ("index_url", "extra_index_urls"):
        value = source.get(key) or ()
        yield from index_problems(f"celery_app_source.{key}", [value] if isinstance(value, str) else value)
    urls = [str(url) for url in source.get("extra_index_urls") or ()]
    names = Counter(url.removesuffix(without_name(url)).rstrip("=") for url in urls)
    for name in (name for name, times in names.items() if name and times > 1):
        reason = "is the name of several indexes, of which uv asks the first alone"
        instead = "a name of its own in front of each, or none"
        yield Problem("name-of-several-indexes", "celery_app_source.extra_index_urls", name, reason, instead)
    packages = source.get("packages") or ()
    yield from package_problems("celery_app_source.packages", packages, "options in requirements", "index_url")
    if (
        source.get("require_hashes")
        and not source.get("requirements_file")
        and "--hash" not in f"{source.get('requirements') or ''} {source.get('packages') or ''}"
    ):
        reason = "but no requirement has a hash"
        instead = "--hash=sha256:... behind each"
        yield Problem("no-hash-in-requirements", "celery_app_source.require_hashes", True, reason, instead)


def override_problems(values: Mapping[str, Any]) -> Iterable[Problem]:
    """Say which overrides cannot be followed."""
    variable, overrides = "celery_app_source.overrides", values["source"].get("overrides") or ()
    for line in map(str, overrides):
        found = [*package_problems(variable, [line], "requirements there only", "index_url")]
        if not found and not is_requirement(line):
            found = [Problem("not-a-requirement", variable, line, "is not a requirement", REQUIREMENT_EXAMPLE)]
        yield from found
    if overrides and values.get("installer") == "pip":
        reason = "needs uv: pip follows what every package asks for"
        yield Problem(
            "overrides-need-uv", variable, [*map(str, overrides)], reason, "celery_app_installer: uv, or leave it out"
        )


def _source_example(kind: str) -> str:
    return {
        "pip": '{type: pip, packages: ["acme-shop==1.4.2+acme"]}',
        "wheel": "{type: wheel, path: dist/shop-1.4.2-py3-none-any.whl}",
        "path": '{type: path, path: "{{ playbook_dir }}/../shop"}',
        "git": '{type: git, repo: "https://git.example.org/shop.git", version: v1.4.2}',
        "virtualenv": "{type: virtualenv, path: /srv/shop/venv}",
    }[kind]
