# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: declare
short_description: Declare an app's queues and delayed exchanges on its broker
version_added: 0.1.0
description:
  - Runs C(python -m celeryops_runtime declare) in the app's current release, as the account of the app, with the
    variables of its environment file. The broker's password is in that environment only, never in argv or output.
extends_documentation_fragment: [celeryops.stack.attributes, celeryops.stack.attributes.action]
options:
  current:
    description: The link to the app's current release.
    type: path
    required: true
  environment_file:
    description: The app's environment file, which only root can read.
    type: path
    required: true
  user:
    description: The account to run as.
    type: str
    required: true
  timeout:
    description: How many seconds the broker may take to accept a connection.
    type: int
    default: 10
  vhost:
    description: >-
      The app's virtual host. In the playbooks of this collection no call is made if it is as it was before a call that
      found nothing missing.
    type: str
  receipt:
    description: Internal; a digest of what the task asks for, as in M(celeryops.stack.files).
    type: str
attributes:
  check_mode: {details: Only reads what exists.}
  diff_mode: {details: Lists what was missing.}
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Declare the queues
  celeryops.stack.declare:
    current: /opt/celeryops/shop/current
    environment_file: /etc/celeryops/shop/celery.env
    user: shop
"""

RETURN = r"""
missing:
  description: The exchanges, queues and bindings that were missing.
  type: list
  elements: str
  returned: success
objects:
  description: How many objects were compared.
  type: int
  returned: when the broker was asked
receipt:
  description: True if no call was made, since the facts of this run say that it would find nothing to do.
  type: bool
  returned: if so
"""

import glob
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils import receipts
from ansible_collections.celeryops.stack.plugins.module_utils.paths import AppPaths
from ansible_collections.celeryops.stack.plugins.module_utils.runtime import CommandError, run_runtime

#: Connecting, then a few milliseconds for each object, on a busy host.
RUN_TIMEOUT = 120


def look_of(current: str, environment_file: str) -> dict[str, Any]:
    """Return how everything looks on the host that decides what the app needs on its broker.

    Arguments:
        current: the link to the release in use.
        environment_file: of the app.
    """
    own = AppPaths(os.path.basename(os.path.dirname(current)))
    packages = glob.glob(f"{glob.escape(os.path.realpath(current))}/lib/python3*/site-packages")
    return receipts.seen(
        [current, environment_file, own.settings, own.queues], trees=[own.runtime], folders=sorted(packages)
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "current": {"type": "path", "required": True},
            "environment_file": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 10},
            "vhost": {"type": "str"},
            "receipt": {"type": "str"},
        },
        supports_check_mode=True,
    )
    python = f"{module.params['current']}/bin/python"
    environment_file = module.params["environment_file"]
    if module.check_mode and not (os.path.exists(python) and os.path.exists(environment_file)):
        module.exit_json(changed=True, missing=[], msg="nothing is installed yet; the queues would be declared")
    state = look_of(module.params["current"], environment_file)
    words = ["declare", "--timeout", str(module.params["timeout"])]
    if module.check_mode:
        words.append("--check")
    try:
        report = run_runtime(
            module.params["current"], environment_file, module.params["user"], words, timeout=RUN_TIMEOUT
        )
    except CommandError as error:
        module.fail_json(msg=str(error))
    missing = [str(name) for name in report.get("missing", [])]
    if report["failed"]:
        module.fail_json(msg=str(report.get("message")), missing=missing)
    diff = {"before": "", "after": "".join(f"{name}\n" for name in missing)}
    result = {"missing": missing, "objects": report.get("objects", 0), "msg": report.get("message"), "diff": diff}
    if module.params["receipt"] and not (missing or module.check_mode):
        # Bindings are made anew without a word: what the broker had before this call may have lacked one. Only when it
        # has the same once more, nothing was to be done.
        again = any(one["asked"] == module.params["receipt"] for one in receipts.valid(tidy=False))
        receipts.write(module.params["receipt"], state, {"result": result, "unproven": not again})
    module.exit_json(changed=bool(missing), **result)


if __name__ == "__main__":
    main()
