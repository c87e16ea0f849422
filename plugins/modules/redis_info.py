# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: redis_info
short_description: Inspect Redis and Valkey on a host in one call, and refuse an unsafe change of engine
version_added: 0.1.0
description:
  - Reads only. It returns, in one remote call, what the role C(redis) must know before it changes anything - which
    packages are missing, whether data of the other engine would be abandoned, which kernel settings are too low
    and can be written, and whether the running server has the users of its ACL file.
  - Fails if the other engine is set up on the host, or has data, unless O(start_empty) is set. Until the
    role has set the server up, it warns of a manual configuration, which is not read any more.
extends_documentation_fragment: [celeryops.stack.attributes.reads, celeryops.stack.redis_engine]
options:
  start_empty:
    description: Whether the other engine's data may be abandoned.
    type: bool
    default: false
  kernel:
    description: Kernel settings to check.
    type: list
    elements: dict
    default: []
    suboptions:
      key:
        description: Its name, as sysctl writes it.
        type: str
        required: true
      value:
        description: The required value.
        type: int
        required: true
      minimum:
        description: Whether a higher value is accepted.
        type: bool
        default: false
  place:
    description: Where the other servers find this one, if it is one of several with the same data.
    type: dict
    suboptions:
      host:
        description: An IP address.
        type: str
        required: true
      port:
        description: The port.
        type: int
        required: true
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Gather facts of the host
  celeryops.stack.redis_info:
    engine: valkey
    username: admin
    password: "{{ redis_admin_password }}"
  register: __redis_host
"""

RETURN = r"""
missing_packages:
  description: The engine's packages that are not installed.
  type: list
  elements: str
  returned: success
acl:
  description:
    - V(loaded) if the server has the users of its ACL file, V(stale) if not, V(denied) if it refuses the
      password, V(down) if no server of this role runs.
  type: str
  returned: success
kernel_pending:
  description: Kernel settings to apply, as C(key=value), without those that are read-only on the host.
  type: list
  elements: str
  returned: success
replication:
  description:
    - What the server is among several, with O(place). C(host) and C(port) are those of O(place), C(established) is
      whether the role has set it up, C(data) whether it has data, C(role) V(primary), V(replica) or empty if it does
      not answer, C(primary) the C(host) and C(port) that it follows, C(link) whether it is connected to that, and
      C(followers) how many replicas it has.
  type: dict
  returned: with O(place)
retired_units:
  description:
    - The unit of the other engine, if this role set it up and it must not run any more, in the form of
      M(celeryops.stack.units).
  type: list
  elements: dict
  returned: success
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils.debian_packages import missing_packages
from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import (
    ENGINES,
    OPTIONS,
    PLACE,
    Client,
    Engine,
    ServerError,
    acl_stamp,
    engine_names,
    kernel_pending,
    leaves_behind,
    other_engine,
    refusal,
    replication,
)
from ansible_collections.celeryops.stack.plugins.module_utils.redis_found import hand_made, has_data, holdings, server

#: Where a hand's configuration has its place from then on.
_INTO = "redis_settings, redis_users and the other variables of the role redis"


def writable_kernel_settings(keys: list[str]) -> dict[str, int]:
    """Return the values of the settings that this host lets us write (a container's /proc/sys is read-only)."""
    values = {}
    for key in keys:
        path = "/proc/sys/" + key.replace(".", "/")
        if os.access(path, os.W_OK):
            with open(path, encoding="ascii") as stream:
                values[key] = int(stream.read().split()[0])
    return values


def acl_state(names: Engine, username: str, password: str) -> str:
    """Return ``loaded``, ``stale``, ``denied`` or ``down`` (see RETURN)."""
    try:
        with Client(names["socket"]) as client:
            client.call("AUTH", username, password)
            listed = client.call("ACL", "LIST")
        with open(names["acl"], "rb") as acl_file, open(names["acl_stamp"], encoding="utf-8") as stamp:
            return "loaded" if stamp.read() == acl_stamp(acl_file.read(), listed) else "stale"
    except ServerError:
        return "denied"
    except FileNotFoundError as error:
        return "down" if error.filename is None else "stale"
    except OSError:
        return "down"


def replicated(module: AnsibleModule, names: Engine, held: dict[str, Any]) -> dict[str, Any]:
    """Return what the server is among several (see RETURN)."""
    other = server(names["engine"], lambda command: str(module.run_command(list(command))[1]))
    found = {**module.params["place"], "established": held["established"], "data": has_data(held, other)}
    try:
        with Client(names["socket"]) as client:
            client.call("AUTH", module.params["username"], module.params["password"])
            told = replication(client.call("INFO", "replication"))
    except (OSError, ServerError):
        told = replication("")
    return {**found, **{key: told[key] for key in ("role", "primary", "link", "followers")}}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **OPTIONS,
            "start_empty": {"type": "bool", "default": False},
            "kernel": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    # "key" is the name of a kernel setting here.
                    "key": {"type": "str", "required": True, "no_log": False},
                    "value": {"type": "int", "required": True},
                    "minimum": {"type": "bool", "default": False},
                },
            },
            "place": {"type": "dict", "options": PLACE},
        },
        supports_check_mode=True,
    )
    engine, kernel = module.params["engine"], module.params["kernel"]
    names = engine_names(engine)
    held = {name: holdings(name) for name in ENGINES}
    problem = refusal(engine, held, start_empty=module.params["start_empty"])
    if problem:
        reason, instead = problem
        module.fail_json(msg=f"redis_implementation: {engine!r} {reason}; nothing was changed; write {instead}")
    given = hand_made(engine, lambda command: str(module.run_command(list(command))[1]))
    if given:
        module.warn(
            f"{given} is not as the package has it, and is not read any more: what you need of it goes into {_INTO}"
        )
    other = other_engine(engine)
    retire = leaves_behind(engine, held) and held[other]["managed"]
    module.exit_json(
        changed=False,
        **({"replication": replicated(module, names, held[engine])} if module.params["place"] else {}),
        missing_packages=missing_packages(names["packages"]),
        acl=acl_state(names, module.params["username"], module.params["password"]),
        kernel_pending=kernel_pending(kernel, writable_kernel_settings([setting["key"] for setting in kernel])),
        retired_units=[{"name": engine_names(other)["unit"], "state": "stopped", "enabled": False}] if retire else [],
    )


if __name__ == "__main__":
    main()
