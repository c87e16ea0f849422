# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: files
short_description: Place all of a role's files, directories and links in one remote call
version_added: 0.1.0
description:
  - Templates are rendered on the control machine and see only the variables named here.
  - All new contents are written beside their targets and validated first; then each replaces its target atomically.
    When one fails its validation, none is replaced.
  - Secret contents appear in no output and no diff.
  - Before it replaces a file that it did not write, it keeps a copy once, as C(<path>.before-celeryops~)
    with its owner and no wider mode, and warns. It recognises files of this collection by their first lines, by
    their name or by a record on the host (C(/var/lib/celeryops/.placed)).
  - With O(units) the same call also checks the units that read the files, and reports whether they are as
    they should be. It changes no unit; a task with M(celeryops.stack.units) does that, unless nothing is left to do.
extends_documentation_fragment:
  - celeryops.stack.units
  - celeryops.stack.servers
  - celeryops.stack.attributes
  - celeryops.stack.attributes.action
options:
  files:
    description: What to place, in this order.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path on the host. With O(files[].each), C(${key}) is a key of the current element.
        type: str
        required: true
      state:
        description: The state of the path. V(only) is used internally for O(files[].tree).
        type: str
        choices: [file, directory, link, absent, only]
        default: file
      template:
        description: A Jinja2 template below the role's C(templates/).
        type: str
      vars:
        description: The variables that the template sees.
        type: dict
      each:
        description: Render O(files[].template) once for each of these dictionaries, whose keys are variables too.
        type: list
        elements: dict
      tree:
        description: A directory below the role's C(files/), placed inside O(files[].path) with all of its text files.
        type: str
      content:
        description: The content.
        type: str
      secret_content:
        description: Internal; the content of a file with O(files[].secret).
        type: str
      secret:
        description: Whether to hide the content.
        type: bool
        default: false
      owner:
        description: The owning user.
        type: str
        default: root
      group:
        description: The owning group.
        type: str
        default: root
      mode:
        description: Octal permissions, by default C(0644), or C(0755) for a directory.
        type: str
      target:
        description: The target of a link.
        type: str
      validate:
        description:
          - A command that must succeed for the new content; C(%s) is replaced by its temporary path, and the word C(%*)
            by those of all new files with this command.
        type: str
      environment_file:
        description: A file of variables for the command; its secrets are not shown if the command fails.
        type: path
      create_only:
        description: Do not change the content of an existing file.
        type: bool
        default: false
      backup:
        description: Keep a copy of a replaced file beside it.
        type: bool
        default: false
      pristine:
        description: A regular expression for contents that a package creates, of which no copy is kept.
        type: str
      src:
        description: The content as a file on the control machine, absolute or relative to the inventory directory.
        type: str
      own:
        description: Whether it is a file of the app, and so part of O(record).
        type: bool
        default: false
      keep:
        description: Internal; the relative names that belong in a tree.
        type: list
        elements: str
      part_of:
        description: Internal; the tree that a file belongs to. A diff has its name and a digest, not its text.
        type: str
  record:
    description:
      - Path of the record of files with O(files[].own). A recorded file that is no longer among them stays in place,
        with one warning. M(celeryops.stack.remove) removes such files if they are unchanged.
    type: path
  units:
    description: The units that read the files, to be checked only. The same as in M(celeryops.stack.units).
  servers:
    description:
      - The servers among O(units). Their contents are read before a file that makes them restart is replaced,
        while they still run with the old one.
  prune:
    description: Unit files that should not exist. The same as in M(celeryops.stack.units).
  receipt:
    description:
      - Internal; a digest of what the task asks for. The module leaves it on the host, with what it has seen there,
        so that M(celeryops.stack.facts) can tell in the next run that nothing is to be done.
    type: str
attributes:
  check_mode:
    details: Reports what would change; validation commands do not run.
  diff_mode:
    details:
      - Shows the difference of contents that are not secret, and of owners and modes.
      - For a tree, which is code, it shows the version and the names of the files.
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Place the configuration
  celeryops.stack.files:
    files:
      - {path: /etc/shop, state: directory}
      - {path: /etc/shop/shop.conf, template: shop.conf.j2, vars: {port: 8080}}
      - {path: /etc/shop/token, content: "{{ shop_token }}", secret: true, mode: "0600"}
  register: __shop_files
"""

RETURN = r"""
changed_paths:
  description: The paths that were changed, or would be in check mode.
  type: list
  elements: str
  returned: success
kept:
  description: The paths of the copies of files that others wrote, or that would be kept in check mode.
  type: list
  elements: str
  returned: success
left:
  description: The files of O(record) that are no longer among O(files), since this run.
  type: list
  elements: str
  returned: with O(record)
held:
  description: The contents of each server of O(servers) before one of its files was replaced, by its unit.
  type: dict
  returned: success
settled:
  description: Whether M(celeryops.stack.units) would have nothing to do.
  type: bool
  returned: when O(units) were given
restarts:
  description: The units that M(celeryops.stack.units) would restart.
  type: list
  elements: str
  returned: when O(units) were given
receipt:
  description: True if no call was made, since the facts of this run say that it would find nothing to do.
  type: bool
  returned: if so
"""

import os
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils import receipts, server_contents
from ansible_collections.celeryops.stack.plugins.module_utils.file_placer import Placer
from ansible_collections.celeryops.stack.plugins.module_utils.foreign import RECORD, SUFFIX
from ansible_collections.celeryops.stack.plugins.module_utils.quiet_module import QuietModule
from ansible_collections.celeryops.stack.plugins.module_utils.unit_state import OPTIONS, look

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def look_of(files: list[dict[str, Any]], record: str) -> dict[str, Any]:
    """Return how everything looks on the host that decides what is to be done.

    Arguments:
        files: the module's.
        record: its other record; empty without.
    """
    made = [entry for entry in files if entry["state"] in ("file", "directory")]
    return receipts.seen(
        dict.fromkeys([*(entry["path"] for entry in files), *([record] if record else [])]),
        trees=[entry["path"] for entry in files if entry["state"] == "only"],
        users=sorted({entry["owner"] for entry in made}),
        groups=sorted({entry["group"] for entry in made}),
        # All roles write into it.
        lines={RECORD: [entry["path"] for entry in files]},
    )


def leave_receipt(module: AnsibleModule, state: dict[str, Any], *, changed: bool) -> None:
    """Leave a receipt. What was changed is looked at once more: it may be somebody else's by now.

    Arguments:
        module: with its arguments.
        state: how the host looked before the files were compared.
        changed: whether anything was changed since then.
    """
    files = module.params["files"]
    if changed:
        state = look_of(files, module.params["record"] or "")
        again = Placer(module, check_mode=True)
        again.run(files)
        if again.changes.paths:
            return
    checks = {"units": module.params["units"], "prune": module.params["prune"]}
    receipts.write(module.params["receipt"], state, checks)


def main() -> None:
    """Run the module."""
    module = QuietModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "str", "required": True},
                    "state": {
                        "type": "str",
                        "choices": ["file", "directory", "link", "absent", "only"],
                        "default": "file",
                    },
                    # Those that the control machine makes contents of (plugins/action/files.py).
                    "template": {"type": "str"},
                    "vars": {"type": "dict"},
                    "each": {"type": "list", "elements": "dict"},
                    "tree": {"type": "str"},
                    "src": {"type": "str"},
                    "secret": {"type": "bool", "default": False, "no_log": False},
                    "content": {"type": "str"},
                    "secret_content": {"type": "str", "no_log": True},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "mode": {"type": "str"},
                    "target": {"type": "str"},
                    "validate": {"type": "str"},
                    "environment_file": {"type": "path"},
                    "create_only": {"type": "bool", "default": False},
                    "backup": {"type": "bool", "default": False},
                    "pristine": {"type": "str"},
                    "keep": {"type": "list", "elements": "str", "no_log": False},
                    "part_of": {"type": "str"},
                    "own": {"type": "bool", "default": False},
                },
            },
            "record": {"type": "path"},
            "units": OPTIONS["units"],
            "servers": server_contents.OPTION,
            "prune": OPTIONS["prune"],
            "receipt": {"type": "str"},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    wants_receipt = bool(module.params["receipt"]) and not module.check_mode
    state = look_of(module.params["files"], module.params["record"] or "") if wants_receipt else {}
    placer = Placer(module)
    placer.run(module.params["files"])
    changes, owners = placer.changes, placer.owners
    result: dict[str, Any] = {"changed_paths": changes.paths, "diff": changes.diff}
    result |= {"kept": owners.kept, "held": placer.held}
    if owners.kept:
        names = ", ".join(path[: -len(SUFFIX)] for path in owners.kept)
        module.warn(f"not written by celeryops.stack and replaced, with a copy beside it ({SUFFIX}): {names}")
    if module.params["record"]:
        result["left"] = owners.note_own()
        if result["left"]:
            module.warn(
                f"celery_app_files does not have {', '.join(result['left'])} any more; what was placed there stays, "
                "since the app may still read it: remove it by hand, or put it back into celery_app_files"
            )
    if wants_receipt:
        leave_receipt(module, state, changed=bool(changes.paths))
    if module.params["units"] is not None:
        outlook = look(module, module.params["units"], module.params["prune"], changes.paths)
        result |= {"settled": outlook.settled, "restarts": outlook.actions.restart}
    module.exit_json(changed=bool(changes.paths), **result)


if __name__ == "__main__":
    main()
