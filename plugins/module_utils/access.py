# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who could write to a file or directory of this host."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import struct

from ansible_collections.celeryops.stack.plugins.module_utils.account import group_ids

#: Kinds of entries of an access list (linux/posix_acl.h).
_ACL_USER, _ACL_GROUP_OBJ, _ACL_GROUP = 0x02, 0x04, 0x08


def writable_by(path: str, user: str, group: str) -> bool:
    """Return whether an account could write to a file or directory.

    Arguments:
        path: the file or directory; what is not there cannot be written to.
        user: the account. One that is still to come can do what everybody can, and its groups.
        group: its primary group, which it may still have to get; empty when it stays as it is.
    """
    groups, uid = [], -1
    with contextlib.suppress(KeyError):
        groups.append(grp.getgrnam(group).gr_gid)
    try:
        status = os.stat(path)
    except OSError:
        return False
    with contextlib.suppress(KeyError):
        account = pwd.getpwnam(user)
        uid = account.pw_uid
        groups += group_ids(user, account.pw_gid)
    if uid == status.st_uid or status.st_mode & 0o002:
        return True
    # With an access list the bits of the group are the most that it gives to anybody but the owner and all others.
    named = _access_list(path)
    by_group = {(_ACL_GROUP, gid) for gid in groups}
    writers = {(tag, number) for tag, rights, number in named if rights & 2} if named else {(_ACL_GROUP, status.st_gid)}
    return bool(status.st_mode & 0o020 and writers & {(_ACL_USER, uid), *by_group})


def _access_list(path: str) -> list[tuple[int, int, int]]:
    """Return a file's POSIX access list as (kind, rights, number of the account or group); empty without one.

    Its form is that of linux/posix_acl_xattr.h: the version, then three numbers for each entry, all little-endian. The
    owning group's entry gets its number, which the list leaves out.
    """
    try:
        value = os.getxattr(path, "system.posix_acl_access")
        owning = os.stat(path).st_gid
    except OSError:
        return []
    entries = struct.iter_unpack("<HHI", value[4:])
    return [
        (_ACL_GROUP, rights, owning) if tag == _ACL_GROUP_OBJ else (tag, rights, number)
        for tag, rights, number in entries
    ]
