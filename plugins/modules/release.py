# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Install one version of an app into its own environment and switch to it
version_added: 0.1.0
description:
  - A release is a virtual environment below C(/opt/celeryops/<app>/releases), owned by root, named after everything
    that determines its content, and never changed once it is complete. The link C(current) points to the one in use.
  - The link is switched in one step, after the packages are installed, Celery and kombu are recent enough, and the
    app's account could import the app. A failure before that leaves nothing behind.
  - The account is a system user without a password, a login shell or its own home. One that could become root, or
    that a person uses to log in, is refused before anything is changed.
  - A release that an aborted run left incomplete is removed and rebuilt.
  - If nothing is to be done this is one remote call. Debian packages and, for the types V(wheel) and V(path), the
    content are transferred only when a release is built.
  - None of its arguments appears in the host's log or in its result, and its messages hide secrets. They are
    not marked as C(no_log), since Ansible would then hide each value of O(environment), even a C(1), wherever it
    occurs, such as in the name of the release.
extends_documentation_fragment: [celeryops.stack.attributes, celeryops.stack.attributes.action]
options:
  name:
    description: The app's short name.
    type: str
    required: true
  import:
    description: Import path of the app for C(celery -A).
    type: str
    required: true
  user:
    description: The account that the app runs as; it imports the app for the check.
    type: str
    required: true
  account:
    description: >-
      How to create the account. Without this it must exist.
    type: dict
    suboptions:
      group:
        description: Its primary group.
        type: str
        required: true
      home:
        description: Its home directory, which is not created.
        type: str
        required: true
      manage:
        description: Whether to create and correct the account, or only check it.
        type: bool
        default: true
  directories:
    description: Directories that the app may write to. Created for its account before the import, if missing.
    type: list
    elements: str
    default: []
  source:
    description: Where the app comes from, as described for C(celery_app_source).
    type: dict
    required: true
  extra_packages:
    description: >-
      Requirements in addition to the app's own, which are installed first and win if the two
      conflict.
    type: list
    elements: str
    default: []
  broker:
    description: The broker of the workers, since not every kombu and redis-py work together there.
    type: str
    choices: [rabbitmq, redis]
    default: rabbitmq
  needs:
    description: >-
      What the configuration requires. A release with an older version is not activated.
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
        description: Name of the requirement in a message.
        type: str
        required: true
      instead:
        description: What to write if the release has an older version.
        type: str
        required: true
  role:
    description: The role whose variables a message names.
    type: str
    choices: [celery_app, flower]
    default: celery_app
  system_packages:
    description: Debian packages to install if they are missing.
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
    description: The requirement that installs uv itself.
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
    description: How many releases to keep. The current one, and those that a process still runs from, are always kept.
    type: int
    default: 3
  configuration:
    description: >-
      Files, in the form of M(celeryops.stack.files), to be placed after this call. The app is imported with them,
      placed beside those in use, and again if one of them or the environment has changed.
    type: list
    elements: dict
    default: []
  hold:
    description: >-
      Do everything except the switch and the removal of old releases, so that every host is known to be ready
      before the first one switches. O(take) does the rest.
    type: bool
    default: false
  take:
    description: The release to switch to, which an earlier call with O(hold) has verified.
    type: str
    default: ""
  after:
    description: >-
      With O(take), record that commands must run once the units run the release, until
      M(celeryops.stack.commands) has run them.
    type: bool
    default: false
  switch:
    description:
      - Whether to switch to the release.
      - If V(false), it is only built beside the one in use and verified, as the following options say.
    type: bool
    default: true
  select:
    description:
      - A release on the host, to be verified instead of building O(source). V(previous) is the one
        that was in use before the current one. With O(hold), V(current) is the current one.
    type: str
    default: ""
  expected:
    description: >-
      Files, in the form of M(celeryops.stack.files), that must be on the host unchanged. If one is not,
      nothing is done, since a release is verified with its future configuration. Not with O(switch=true).
    type: list
    elements: dict
    default: []
  running:
    description: The units that run the app on this host.
    type: list
    elements: dict
    default: []
    suboptions:
      unit:
        description: Name of the unit.
        type: str
        required: true
      report:
        description: For a worker, its report file.
        type: str
  consumed:
    description:
      - If the app's own routes apply, the queues that they may name. A release with a
        route or a task to another queue is not activated.
    type: list
    elements: str
    default: []
  decided:
    description:
      - Names of Celery settings that the inventory sets explicitly. No warning reports the app's values of these.
    type: list
    elements: str
    default: []
  accept_missing_tasks:
    description: Names or patterns of tasks that the running workers have and the new release need not have.
    type: list
    elements: str
    default: []
  content:
    description: Internal; a digest of the wheel or the tree on the control machine.
    type: str
  archive:
    description: Internal; path on the host of the wheel, or of an archive of the tree.
    type: str
  contents:
    description: Internal; the contents of O(configuration), which are transferred when the app is imported.
    type: list
    elements: dict
  receipt:
    description: Internal; a digest of what the task asks for, as in M(celeryops.stack.files).
    type: str
attributes:
  check_mode:
    details: Reports which release would be built and switched to.
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
  description: Name of the current release afterwards, or the path of an existing virtual environment.
  type: str
  returned: success
previous:
  description: The release that was current before; empty if there was none.
  type: str
  returned: success
switches:
  description: Whether another release was in use before this call.
  type: bool
  returned: success
due:
  description: Whether an earlier run switched to this release, but ended before the commands of O(after) had run.
  type: bool
  returned: when O(hold=true) or O(switch=false)
actions:
  description: What was done, or would be in check mode.
  type: list
  elements: str
  returned: success
moved:
  description: Whether the host's link or one of O(running) must change to run the release.
  type: bool
  returned: when O(switch=false)
built:
  description: Whether this call built the release.
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
  description: The accepted tasks that the running workers have and the release does not have.
  type: list
  elements: str
  returned: when O(switch=false)
held:
  description: Whether something is left for O(take).
  type: bool
  returned: when O(hold=true)
replaced:
  description:
    - Settings for which the app and the configuration have different values. Each has C(setting),
      C(app) (the app's value) and C(here) (the value in force).
  type: list
  elements: dict
  returned: when the app was imported
versions:
  description: The versions of Celery and kombu in the release.
  type: dict
  returned: when the release exists
receipt:
  description: True if no call was made, since the facts of this run say that it would find nothing to do.
  type: bool
  returned: if so
"""

import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any, cast

from ansible_collections.celeryops.stack.plugins.module_utils import receipts
from ansible_collections.celeryops.stack.plugins.module_utils.account import AccountError
from ansible_collections.celeryops.stack.plugins.module_utils.quiet_module import QuietModule
from ansible_collections.celeryops.stack.plugins.module_utils.releases import receipt
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
    "receipt": {"type": "str"},
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
            state = receipt.look_of(request) if request["receipt"] else {}
            result = procedure.run()
            if receipt.may_be_left(request, result) and not (module.check_mode or procedure.warned):
                receipts.write(str(request["receipt"]), state, {"result": result})
    except (AccountError, LockError, ReleaseError) as error:
        module.fail_json(msg=str(error), actions=procedure.actions)
    finally:
        shutil.rmtree(procedure.programs.work, ignore_errors=True)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
