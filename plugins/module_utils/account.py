# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The system account of an app: without a password, a login shell or its own home.

An account that could become root, or that a person logs in with, is refused before anything is changed. That is
why ``ansible.builtin.user`` is not used, which takes over any account of that name.
"""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Debian's groups whose members can become root or read what only root should (base-passwd), and those that hold a
#: daemon that runs as root. An account of such a name is as good as one.
PRIVILEGED_GROUPS = frozenset({
    "root", "sudo", "wheel", "admin", "adm", "disk", "shadow", "kmem", "systemd-journal",
    "docker", "lxd", "incus-admin", "libvirt", "microk8s",
})  # fmt: skip
RIGHTS = "amounts to root"
#: Accounts below it are the system's (login.defs(5), SYS_UID_MAX); a directory service has others.
FIRST_PERSON = 1000
NO_LOGIN = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false")


def refusal(name: str, uid: int, shell: str, groups: list[str], manage: bool) -> str | None:
    """Return why an existing account must not run an app, or nothing."""
    if uid == 0:
        return f"the account {name} has uid 0, so the app would run as root; choose another celery_app_user"
    privileged = sorted(PRIVILEGED_GROUPS & set(groups))
    if privileged:
        told = f"the account {name} is in the group {', '.join(privileged)}, which {RIGHTS}"
        return f"{told}; choose another celery_app_user"
    if manage and shell not in NO_LOGIN and uid >= FIRST_PERSON:
        return (
            f"the account {name} (uid {uid}, shell {shell}) looks like a person's; choose another celery_app_user, "
            "or set celery_app_user_manage to false to use it as it is"
        )
    return None


def complaint(name: str, group: str, known: Mapping[str, Any] | None, has_group: bool, *, manage: bool) -> str | None:
    """Return why an app cannot have an account and a group, or nothing.

    Arguments:
        name: the user.
        group: its primary group.
        known: ``uid``, ``shell`` and ``groups`` of the account; None where there is none.
        has_group: whether the group is there.
        manage: whether the account may be created and corrected; otherwise it must be there.
    """
    reason = refusal(name, known["uid"], known["shell"], known["groups"], manage) if known else None
    if reason or manage:
        return reason
    if not known:
        return f"there is no account {name}, and celery_app_user_manage is false"
    return None if has_group else f"there is no group {group}, and celery_app_user_manage is false"


class AccountError(Exception):
    """The account cannot be used, or not be made; the text is for the user."""


@dataclass
class Account:
    """What an account lacks.

    Arguments:
        before: what is there and will be changed, one text each.
        after: what will be there instead.
        commands: what has to be run, in this order.
    """

    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)

    @property
    def creates(self) -> bool:
        """Whether the account is not there yet."""
        return any(command[0] == "useradd" for command in self.commands)

    def provide(self) -> None:
        """Create or correct the account.

        Raises:
            AccountError: when a command fails.
        """
        path = f"/usr/sbin:/sbin:{os.environ.get('PATH', '/usr/bin:/bin')}"
        for command in self.commands:
            # pylint: disable-next=ansible-bad-function
            outcome = subprocess.run(
                command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
            )
            if outcome.returncode != 0:
                raise AccountError(f"{' '.join(command)}: {outcome.stderr.strip() or outcome.stdout.strip()}")
        self.commands = []


def take_over(paths: Iterable[str], name: str) -> None:
    """Give a new account what an earlier one of its name left, which belongs to root or to no name since then.

    Arguments:
        paths: directories; what is not there is passed over.
        name: the account, which owned nothing until now.
    """
    account = pwd.getpwnam(name)
    for top in paths:
        entries = [
            os.path.join(folder, entry) for folder, folders, names in os.walk(top) for entry in (*folders, *names)
        ]
        # What it left belongs to whom its own directory belongs to.
        before = _earlier(os.lstat(top).st_uid) if os.path.isdir(top) else 0
        for path in [top, *entries] if os.path.isdir(top) else ():
            if not os.path.islink(top) and os.lstat(path).st_uid in (0, before):
                os.lchown(path, account.pw_uid, account.pw_gid)


def _earlier(uid: int) -> int:
    """Return the owner of a directory, when it can be that of an earlier account; root for any other.

    A number without a name may be a person's whose directory service does not answer: only one from the range of the
    system's own accounts, which nobody else gives, is an account that is gone.
    """
    if not 0 < uid < FIRST_PERSON:
        return 0
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return uid
    return 0


def examine(name: str, group: str, home: str, *, manage: bool) -> Account:
    """Return what the account lacks.

    Arguments:
        name: the user.
        group: its primary group.
        home: what the account database names as home; not created.
        manage: whether the account may be created and corrected; otherwise it must be there and is only checked.

    Raises:
        AccountError: when the account must not run an app, or is not there and may not be created.
    """
    found = Account()
    account = _user(name)
    known = None
    if account is not None:
        groups = group_names(name, account.pw_gid)
        primary = groups[-1]
        known = {"uid": account.pw_uid, "shell": account.pw_shell, "groups": groups}
    reason = complaint(name, group, known, _has_group(group), manage=manage)
    if reason:
        raise AccountError(reason)
    if account is not None:
        if manage and account.pw_shell not in NO_LOGIN:
            found.before.append(f"shell {account.pw_shell}")
            found.after.append(f"shell {NO_LOGIN[0]}")
            found.commands.append(["usermod", "--shell", NO_LOGIN[0], "--", name])
        if manage and primary != group:
            found.before.append(f"group {primary}")
            found.after.append(f"group {group}")
            found.commands.append(["usermod", "--gid", group, "--", name])
    else:
        found.after.append(f"user {name}")
        options = ["--system", "--no-create-home", "--home-dir", home, "--shell", NO_LOGIN[0]]
        found.commands.append(["useradd", *options, "--gid", group, "--comment", f"Celery app {name}", "--", name])
    if not _has_group(group):
        found.after.append(f"group {group}")
        found.commands.insert(0, ["groupadd", "--system", "--", group])
    return found


def group_ids(name: str, gid: int) -> list[int]:
    """Return the groups of a process of an account, its primary one among them.

    The service that knows the account is asked: one such as LDAP's lists no members when all groups are read.

    Arguments:
        name: the account.
        gid: its primary group.
    """
    return os.getgrouplist(name, gid)


def group_names(name: str, gid: int) -> list[str]:
    """Return the names of an account's groups, or their numbers where they have none; the primary one is the last."""
    return [*(group_name(other) for other in group_ids(name, gid) if other != gid), group_name(gid)]


def _user(name: str) -> Any | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def group_name(gid: int) -> str:
    """Return the name of a group, or its number where the host knows none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
