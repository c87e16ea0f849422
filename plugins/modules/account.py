# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: account
short_description: Provide the system account that an app runs as
version_added: 0.1.0
description:
  - Creates a system user and its group, without a password, without a login shell, without a home of its own.
  - Refuses an account that could become root, and one that a person logs in with, before anything is changed. That is
    why the role does not use C(ansible.builtin.user), which takes over whatever account carries the name.
options:
  name:
    description: The user.
    type: str
    required: true
  group:
    description: Its primary group.
    type: str
    required: true
  home:
    description: What the account database names as home; not created.
    type: path
    required: true
  manage:
    description: Whether to create the account and to set its shell; otherwise it must be there and is only checked.
    type: bool
    default: true
attributes:
  check_mode:
    description: Says what would be created.
    support: full
  diff_mode:
    description: Shows what would be created or corrected.
    support: full
author: celeryops.stack contributors
"""

EXAMPLES = r"""
- name: Provide the account
  celeryops.stack.account:
    name: shop
    group: shop
    home: /var/lib/celeryops/shop
"""

RETURN = r"""
uid:
  description: The user's number.
  type: int
  returned: when the user is there
"""

import grp
import os
import pwd
from typing import Any

from ansible.module_utils.basic import AnsibleModule

#: Membership lets a process become root, or read what only root should.
PRIVILEGED_GROUPS = {
    "root",
    "sudo",
    "wheel",
    "admin",
    "docker",
    "lxd",
    "disk",
    "shadow",
    "kmem",
    "libvirt",
    "incus-admin",
    "adm",
    "systemd-journal",
}
NO_LOGIN = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false")


def refusal(name: str, uid: int, shell: str, groups: list[str], manage: bool) -> str | None:
    """Return why an existing account must not run an app, or nothing."""
    if uid == 0:
        return f"the account {name} has uid 0, so the app would run as root; choose another celery_app_user"
    privileged = sorted(PRIVILEGED_GROUPS & set(groups))
    if privileged:
        return (
            f"the account {name} is in the group {', '.join(privileged)}, which can become root or read what only root "
            "should; choose another celery_app_user"
        )
    if manage and shell not in NO_LOGIN and uid >= 1000:
        return (
            f"the account {name} (uid {uid}, shell {shell}) looks like a person's; choose another celery_app_user, "
            "or set celery_app_user_manage to false to use it as it is"
        )
    return None


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "group": {"type": "str", "required": True},
            "home": {"type": "path", "required": True},
            "manage": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    name, group, manage = module.params["name"], module.params["group"], module.params["manage"]
    account: Any | None = _user(name)
    before, after, commands = [], [], []
    if account is not None:
        groups = [entry.gr_name for entry in grp.getgrall() if name in entry.gr_mem]
        primary = _group_name(account.pw_gid)
        reason = refusal(name, account.pw_uid, account.pw_shell, [*groups, primary], manage)
        if reason:
            module.fail_json(msg=reason)
        if manage and account.pw_shell not in NO_LOGIN:
            before.append(f"shell {account.pw_shell}")
            after.append(f"shell {NO_LOGIN[0]}")
            commands.append(["usermod", "--shell", NO_LOGIN[0], "--", name])
        if manage and primary != group:
            before.append(f"group {primary}")
            after.append(f"group {group}")
            commands.append(["usermod", "--gid", group, "--", name])
    elif not manage:
        module.fail_json(msg=f"there is no account {name}, and celery_app_user_manage is false")
    else:
        after.append(f"user {name}")
        options = ["--system", "--no-create-home", "--home-dir", module.params["home"], "--shell", NO_LOGIN[0]]
        commands.append(["useradd", *options, "--gid", group, "--comment", f"Celery app {name}", "--", name])
    if not _has_group(group):
        if not manage:
            module.fail_json(msg=f"there is no group {group}, and celery_app_user_manage is false")
        after.append(f"group {group}")
        commands.insert(0, ["groupadd", "--system", "--", group])
    if not module.check_mode:
        for command in commands:
            # The module's run_command would drop nothing here; PATH needs the sbin directories for useradd.
            code, output, errors = module.run_command(command, path_prefix="/usr/sbin:/sbin")
            if code != 0:
                module.fail_json(msg=f"{' '.join(command)}: {errors.strip() or output.strip()}", rc=code)
    account = _user(name)
    result: dict[str, Any] = {} if account is None else {"uid": account.pw_uid}
    diff = {"before": "".join(f"{line}\n" for line in before), "after": "".join(f"{line}\n" for line in after)}
    module.exit_json(changed=bool(commands), diff=diff, **result)


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


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


if __name__ == "__main__":
    os.umask(0o022)
    main()
