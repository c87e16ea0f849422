# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passes passwords in URLs to git and pip so that no command line ever contains one. No I/O here.

Every account of a host can read the command lines of all processes (proc(5), ``cmdline``). git gives the address of
a remote to its helper (``git-remote-https URL``), also the one that ``url.<base>.insteadOf`` stands for; pip gives its
indexes, the pages of ``--find-links`` and its proxy to the second pip that installs what builds a package (``-i URL``;
pip/_internal/build_env.py, 25.1). So both get addresses without a user. git asks a credential helper, which reads its
own environment (gitcredentials(7)); pip looks into the file that ``NETRC`` names (requests, ``get_netrc_auth``), and
takes a proxy from ``http_proxy`` as well. uv keeps its indexes in its own process.

Runs on managed hosts as well.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ansible_collections.celeryops.stack.plugins.module_utils.masking import user_part
from ansible_collections.celeryops.stack.plugins.module_utils.releases.requirements import without_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: pip's variables whose addresses its second pip gets as arguments, and those of every program for a proxy.
_ADDRESSES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")
_PROXIES = ("http_proxy", "https_proxy")
#: The repository of a requirement that pip or uv reads with git.
_GIT_REQUIREMENT = re.compile(r"(?<=git\+)https?://[^\s#;\"']+", re.IGNORECASE)
#: What the helper is: it knows the number of its credentials, and the environment holds them.
HELPER = """\
# git runs this with "get" when a server asks who is there; what it prints goes through a pipe.
[ "$2" = get ] || exit 0
eval "user=\\$CELERYOPS_GIT_USER_$1 password=\\$CELERYOPS_GIT_PASSWORD_$1"
printf 'username=%s\\npassword=%s\\n' "$user" "$password"
"""


class CredentialError(ValueError):
    """Credentials that cannot be handed over; the text is for the user and shows none."""


def plain(url: str) -> tuple[str, tuple[str, str] | None]:
    """Return an HTTP address without its user part, and the user and the password, decoded; None where it has none.

    An address of another kind is returned as it is: to SSH the user is the name of an account.

    Arguments:
        url: as it was written.

    Raises:
        CredentialError: when git's protocol has no way to write one of them.
    """
    user, password = user_part(url)
    if not url.lower().startswith(("http://", "https://")) or (not user and password is None):
        return url, None
    scheme, _separator, rest = url.partition("://")
    written = user if password is None else f"{user}:{password}"
    found = unquote(user), unquote(password or "")
    if any(sign in part for part in found for sign in "\n\r\0"):
        raise CredentialError(f"the user or password of {scheme}://{rest[len(written) + 1 :]} holds a line break")
    return f"{scheme}://{rest[len(written) + 1 :]}", found


def plain_requirements(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return requirements whose repositories stand without a user, and those repositories as they were written.

    Arguments:
        lines: of a requirements file. An address of a file keeps its user: pip and uv fetch it themselves.
    """
    found: list[str] = []

    def strip(match: re.Match[str]) -> str:
        address, credentials = plain(match[0])
        if credentials:
            found.append(match[0])
        return address

    return [_GIT_REQUIREMENT.sub(strip, line) for line in lines], found


def for_git(urls: Sequence[str], helper: str, others: Sequence[str] = ()) -> tuple[str, dict[str, str]]:
    """Return a configuration for git and the environment that goes with it; two empty ones where no URL has a user.

    What is known of a server is asked for all of its repositories, since a submodule may be one of them, and for no
    other server, whoever names it. A second user of the same server is asked for his own repository alone.

    Arguments:
        urls: addresses with user and password, as they were written.
        helper: path of a file with :data:`HELPER`.
        others: paths of configurations that hold as well.
    """
    sections: dict[str, tuple[str, str]] = {}
    for url in urls:
        address, credentials = plain(url)
        if not credentials:
            continue
        parts = urlsplit(address)
        server = f"{parts.scheme}://{parts.netloc}"
        own = server if sections.get(server, credentials) == credentials else address.partition("@")[0]
        sections[own] = credentials
    if not sections:
        return "", {}
    lines = [line for path in others for line in ("[include]", f"\tpath = {_quoted(path)}")]
    environment: dict[str, str] = {}
    # What comes later and is more precise begins the list of helpers anew.
    for number, (scope, (user, password)) in enumerate(sorted(sections.items())):
        lines += [f"[credential {_quoted(scope)}]", "\thelper =", f"\thelper = {_quoted(f'!sh {helper} {number}')}"]
        environment[f"CELERYOPS_GIT_USER_{number}"] = user
        environment[f"CELERYOPS_GIT_PASSWORD_{number}"] = password
    return "\n".join([*lines, ""]), environment


def for_pip(environment: Mapping[str, str], netrc: str) -> tuple[dict[str, str], str]:
    """Return the environment for pip with addresses that have no user, and the text of the netrc file that has them.

    Arguments:
        environment: with pip's variables that hold addresses, as far as they are set.
        netrc: the path that the file will have; not named where there is nothing to write.

    Raises:
        CredentialError: when two indexes on one host have different users: such a file knows hosts only.
    """
    result = dict(environment)
    hosts: dict[str, tuple[str, str]] = {}
    if any(user_part(result.get("PIP_PROXY", ""))):
        # What the second pip inherits, and nobody else sees. Written small it wins, and pip ignores an empty variable.
        result |= {**dict.fromkeys(_PROXIES, result["PIP_PROXY"]), "PIP_PROXY": ""}
    for name in _ADDRESSES:
        addresses = []
        for url in result.get(name, "").split():
            address, credentials = plain(without_name(url))
            host = urlsplit(address).hostname or ""
            if credentials and hosts.setdefault(host, credentials) != credentials:
                raise CredentialError(
                    f"two indexes on {host} have different users, which pip cannot be told without showing them to "
                    "everyone on the host; write celery_app_installer: uv"
                )
            addresses.append(address)
        if addresses:
            result[name] = " ".join(addresses)
    if not hosts:
        return result, ""
    result["NETRC"] = netrc
    lines = [
        f"machine {host} login {_quoted(user)} password {_quoted(password)}" for host, (user, password) in hosts.items()
    ]
    return result, "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    """Return a text as git's configuration and Python's netrc (3.11) read it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
