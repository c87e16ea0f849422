# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: declare
short_description: Declare an app's queues and delayed exchanges on its broker
version_added: 0.1.0
description:
  - Runs C(python -m celeryops_runtime declare) in the app's current release, as the account of the app, with the
    variables of its environment file. The broker's password is in that environment only, never in argv or output.
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
attributes:
  check_mode:
    description: Only looks at what is there.
    support: full
  diff_mode:
    description: Lists what was missing.
    support: full
author: celeryops.stack contributors
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
"""

import grp
import json
import os
import pwd
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils.release import parse_environment, tail

#: Connecting, then a few milliseconds for each object, on a busy host.
RUN_TIMEOUT = 120


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "current": {"type": "path", "required": True},
            "environment_file": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    python = f"{module.params['current']}/bin/python"
    environment_file = module.params["environment_file"]
    if module.check_mode and not (os.path.exists(python) and os.path.exists(environment_file)):
        module.exit_json(changed=True, missing=[], msg="nothing is installed yet; the queues would be declared")
    try:
        account = pwd.getpwnam(module.params["user"])
        with open(environment_file, encoding="utf-8") as stream:
            variables = parse_environment(stream.read())
    except (KeyError, OSError) as error:
        module.fail_json(msg=str(error))
    groups = [entry.gr_gid for entry in grp.getgrall() if account.pw_name in entry.gr_mem]
    command = [python, "-m", "celeryops_runtime", "declare", "--json", "--timeout", str(module.params["timeout"])]
    if module.check_mode:
        command.append("--check")
    try:
        outcome = subprocess.run(
            command,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": account.pw_dir, **variables},
            cwd="/", user=account.pw_uid, group=account.pw_gid, extra_groups=groups, umask=0o077,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=RUN_TIMEOUT, check=False, start_new_session=True,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg=f"{python} -m celeryops_runtime declare: {error}")
    try:
        report: dict[str, Any] = json.loads(outcome.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        said = tail(outcome.stdout + outcome.stderr, list(variables.values()))
        module.fail_json(msg=f"{python} -m celeryops_runtime declare ended with {outcome.returncode}:\n{said}")
    missing = [str(name) for name in report.get("missing", [])]
    if report.get("failed") or outcome.returncode != 0:
        module.fail_json(msg=str(report.get("message")), missing=missing)
    diff = {"before": "", "after": "".join(f"{name}\n" for name in missing)}
    module.exit_json(
        changed=bool(missing), missing=missing, objects=report.get("objects", 0), msg=report.get("message"), diff=diff
    )


if __name__ == "__main__":
    main()
