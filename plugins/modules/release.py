# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Install one version of an app into an environment of its own and switch to it
version_added: 0.1.0
description:
  - A release is a virtual environment below C(/opt/celeryops/<app>/releases), owned by root, named after everything
    that decides its content, and never changed once it is complete. The link C(current) leads to the one in use.
  - The link is switched in one step, and only after the packages are in, Celery and kombu are recent enough, and the
    app could be imported by the account that will run it. Whatever fails before that leaves nothing behind.
  - The account is a system user without a password, a login shell or a home of its own. One that could become root, or
    that a person logs in with, is refused before anything is changed.
  - What an aborted run left incomplete is removed and built again.
  - When nothing is to be done this is one remote call. Debian packages and, for the types V(wheel) and V(path), the
    content are brought over only when a release is built.
  - None of its arguments appears in the host's log or in its result, and secrets are hidden in what it says. They are
    not marked as C(no_log), since Ansible then stars out each value of O(environment), be it a C(1), wherever it
    occurs, such as in the name of the release.
extends_documentation_fragment: [celeryops.stack.attributes, celeryops.stack.attributes.action]
options:
  name:
    description: The app's short name.
    type: str
    required: true
  import:
    description: What C(celery -A) takes.
    type: str
    required: true
  user:
    description: The account that the app runs as; it imports the app for the check.
    type: str
    required: true
  account:
    description: >-
      How the account is provided. Without this it must be there.
    type: dict
    suboptions:
      group:
        description: Its primary group.
        type: str
        required: true
      home:
        description: Its home directory, which is not made.
        type: str
        required: true
      manage:
        description: Whether the account is created and corrected, or only checked.
        type: bool
        default: true
  directories:
    description: What the app may write to. Made for its account before it is imported, where they are not there.
    type: list
    elements: str
    default: []
  source:
    description: Where the app comes from, as described for C(celery_app_source).
    type: dict
    required: true
  extra_packages:
    description: >-
      Requirements that every release gets beside the app's own, which are installed first and win where the two
      contradict each other.
    type: list
    elements: str
    default: []
  broker:
    description: The broker that the workers speak to, since not every kombu and redis-py work together there.
    type: str
    choices: [rabbitmq, redis]
    default: rabbitmq
  needs:
    description: >-
      What the configuration counts on. A release with an older version is not taken into use.
    type: list
    elements: dict
    default: []
    suboptions:
      package:
        description: The name of a package.
        type: str
        required: true
      since:
        description: The first version that has what is needed.
        type: str
        required: true
      says:
        description: How the need is called in a message.
        type: str
        required: true
      instead:
        description: What to write when the release has an older version.
        type: str
        required: true
  role:
    description: Whose variables a message names.
    type: str
    choices: [celery_app, flower]
    default: celery_app
  system_packages:
    description: Debian packages that must be there; installed when they are not.
    type: list
    elements: str
    default: []
  python:
    description: The interpreter of the release, a name or a path on the host.
    type: str
    default: python3
  installer:
    description: What installs the packages.
    type: str
    choices: [uv, pip]
    default: uv
  uv_package:
    description: The requirement by which uv itself is installed.
    type: str
    default: uv
  install_environment:
    description: Variables for pip, uv and git, such as C(PIP_CERT) or C(HTTPS_PROXY).
    type: dict
    default: {}
  environment:
    description: Variables that the app needs to be imported.
    type: dict
    default: {}
  verify:
    description: Whether the app is imported before the switch.
    type: bool
    default: true
  keep:
    description: How many releases stay. The current one, and those that a process still runs from, always do.
    type: int
    default: 3
  configuration:
    description: >-
      Files, written as in M(celeryops.stack.files), that will be placed after this call. The app is imported with them,
      laid beside those in use, and again when one of them or the environment has changed.
    type: list
    elements: dict
    default: []
  hold:
    description: >-
      Do everything but the switch and the removal of old releases, so that it is known of every host that it can follow
      before the first one does. What is left is done by O(take).
    type: bool
    default: false
  take:
    description: The release that an earlier call with O(hold) has verified and that is now taken into use.
    type: str
    default: ""
  after:
    description: >-
      With O(take), note that something is left to be done once the units run the release, until
      M(celeryops.stack.commands) has done it.
    type: bool
    default: false
  switch:
    description:
      - Whether the release is taken into use.
      - Without, it is only built beside the one in use and verified, with what the following options say.
    type: bool
    default: true
  select:
    description:
      - A release that is on the host already, to be verified in place of building O(source); V(previous) is the one
        that was in use before the present one, and with O(hold) V(current) is that one.
    type: str
    default: ""
  expected:
    description: >-
      Files, written as in M(celeryops.stack.files), that have to be on the host as they are here. When one is not,
      nothing is done: a release is verified with the configuration that it will run with. Not with O(switch=true).
    type: list
    elements: dict
    default: []
  running:
    description: The units that run the app here.
    type: list
    elements: dict
    default: []
    suboptions:
      unit:
        description: Name of the unit.
        type: str
        required: true
      report:
        description: Of a worker, the file that it writes.
        type: str
  consumed:
    description:
      - With a configuration by which the app's own routes hold, the queues that they may lead to. A release with a
        route or a task that leads elsewhere is not taken into use.
    type: list
    elements: str
    default: []
  decided:
    description:
      - Names of Celery's settings that the inventory has outright. No warning says what the app has in their place.
    type: list
    elements: str
    default: []
  accept_missing_tasks:
    description: Names of tasks, or patterns, that the running workers have and the new release need not have.
    type: list
    elements: str
    default: []
  content:
    description: Internal; a digest of the wheel or the tree on the control machine.
    type: str
  archive:
    description: Internal; where on the host the wheel is, or an archive of the tree.
    type: str
  contents:
    description: Internal; the contents of O(configuration), which are brought over when the app is to be imported.
    type: list
    elements: dict
attributes:
  check_mode:
    details: Says which release would be built and switched to.
  diff_mode:
    details: Shows the old and the new release.
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Install the release
  celeryops.stack.release:
    name: shop
    import: shop.celery:app
    user: shop
    account: {group: shop, home: /var/lib/celeryops/shop, manage: true}
    source: {type: pip, packages: ["acme-shop==1.4.2+acme"]}
    extra_packages: ["celery[redis]"]
    system_packages: [python3-venv]
"""

RETURN = r"""
release:
  description: Name of the release that is current afterwards; the path for an existing virtual environment.
  type: str
  returned: success
previous:
  description: What was current before; empty when nothing was.
  type: str
  returned: success
switches:
  description: Whether another release was in use before this call.
  type: bool
  returned: success
due:
  description: Whether an earlier run switched to this release, and ended before what O(after) speaks of was done.
  type: bool
  returned: when O(hold=true) or O(switch=false)
actions:
  description: What was done, or would be in check mode.
  type: list
  elements: str
  returned: success
moved:
  description: Whether the host has to change to run the release, in its link or in one of O(running).
  type: bool
  returned: when O(switch=false)
fresh:
  description: Whether the release was never in use on the host.
  type: bool
  returned: when O(switch=false)
kept:
  description: The other complete releases of the host, the one that was in use last first.
  type: list
  elements: str
  returned: when O(switch=false)
missing_tasks:
  description: The accepted tasks that the running workers have and the release has not.
  type: list
  elements: str
  returned: when O(switch=false)
held:
  description: Whether something is left for O(take).
  type: bool
  returned: when O(hold=true)
replaced:
  description:
    - What the app itself says of settings that the configuration decides, where the two differ. Each has C(setting),
      C(app) (what the app says) and C(here) (what holds).
  type: list
  elements: dict
  returned: when the app was imported
versions:
  description: The versions of Celery and kombu in the release.
  type: dict
  returned: when the release is there
"""

import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any, cast

from ansible_collections.celeryops.stack.plugins.module_utils.account import AccountError
from ansible_collections.celeryops.stack.plugins.module_utils.quiet_module import QuietModule
from ansible_collections.celeryops.stack.plugins.module_utils.releases.lock import LockError, locked
from ansible_collections.celeryops.stack.plugins.module_utils.releases.procedure import Procedure
from ansible_collections.celeryops.stack.plugins.module_utils.releases.programs import ReleaseError

if TYPE_CHECKING:
    from ansible_collections.celeryops.stack.plugins.module_utils.releases.request import Request

_TEXT: dict[str, Any] = {"type": "str", "required": True}
_TEXTS: dict[str, Any] = {"type": "list", "elements": "str", "default": []}
_DICTS: dict[str, Any] = {"type": "list", "elements": "dict", "default": []}
OPTIONS: dict[str, Any] = {
    "name": _TEXT,
    "import": _TEXT,
    "user": _TEXT,
    "account": {
        "type": "dict",
        "options": {"group": _TEXT, "home": _TEXT, "manage": {"type": "bool", "default": True}},
    },
    "directories": _TEXTS,
    "source": {"type": "dict", "required": True},
    "extra_packages": _TEXTS,
    "broker": {"type": "str", "choices": ["rabbitmq", "redis"], "default": "rabbitmq"},
    "needs": {**_DICTS, "options": {"package": _TEXT, "since": _TEXT, "says": _TEXT, "instead": _TEXT}},
    "role": {"type": "str", "choices": ["celery_app", "flower"], "default": "celery_app"},
    "system_packages": _TEXTS,
    "python": {"type": "str", "default": "python3"},
    "installer": {"type": "str", "choices": ["uv", "pip"], "default": "uv"},
    "uv_package": {"type": "str", "default": "uv"},
    "install_environment": {"type": "dict", "default": {}},
    "environment": {"type": "dict", "default": {}},
    "verify": {"type": "bool", "default": True},
    "keep": {"type": "int", "default": 3},
    "configuration": _DICTS,
    "hold": {"type": "bool", "default": False},
    "take": {"type": "str", "default": ""},
    "after": {"type": "bool", "default": False},
    "switch": {"type": "bool", "default": True},
    "select": {"type": "str", "default": ""},
    "expected": _DICTS,
    "running": {**_DICTS, "options": {"unit": _TEXT, "report": {"type": "str"}}},
    "consumed": _TEXTS,
    "decided": _TEXTS,
    "accept_missing_tasks": _TEXTS,
    "content": {"type": "str"},
    "archive": {"type": "str"},
    "contents": {"type": "list", "elements": "dict"},
}


def main() -> None:
    """Run the module."""
    module = QuietModule(argument_spec=OPTIONS, supports_check_mode=True)
    request = cast("Request", dict(module.params))
    request["source"] = {key: value for key, value in request["source"].items() if value is not None}
    os.umask(0o022)
    procedure = Procedure(module, request, tempfile.mkdtemp(prefix="celeryops-", dir=module.tmpdir))
    try:
        with locked(request["name"]):
            result = procedure.run()
    except (AccountError, LockError, ReleaseError) as error:
        module.fail_json(msg=str(error), actions=procedure.actions)
    finally:
        shutil.rmtree(procedure.programs.work, ignore_errors=True)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
