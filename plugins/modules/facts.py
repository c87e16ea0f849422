# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: facts
short_description: Gather the facts of a host that the roles need, in one short remote call
version_added: 0.1.0
description:
  - Sets the few facts that the roles read, with Ansible's own names and values, and some additional ones.
  - M(ansible.builtin.setup) reads all mounts, disks and processors for what this module reads from 3 files, and does
    not report installed packages. Asking C(apt) for that opens its whole cache, which takes about a second;
    C(dpkg) answers at once. The roles skip C(apt) if nothing is missing.
  - >-
    Fails before anything is changed if the login is not root; the roles then need C(become).
extends_documentation_fragment: [celeryops.stack.attributes.reads, celeryops.stack.attributes.action]
options:
  accounts:
    description: Accounts to look up in addition to those in C(/etc/passwd), in any user database.
    type: list
    elements: str
    default: []
  groups:
    description: Groups to look up in addition to those in C(/etc/group).
    type: list
    elements: str
    default: []
  receipts:
    description:
      - Internal; a key of this run. With it the facts have which calls of M(celeryops.stack.files),
        M(celeryops.stack.release), M(celeryops.stack.workers) and M(celeryops.stack.declare) would find nothing to do.
    type: str
attributes:
  facts:
    description: Returns facts in C(ansible_facts).
    support: full
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Gather facts of the host
  celeryops.stack.facts:

- name: Install the server if it is missing
  ansible.builtin.apt:
    name: rabbitmq-server
  when: "'rabbitmq-server' not in ansible_facts['celeryops_packages']"
"""

RETURN = r"""
ansible_facts:
  description: The facts.
  type: dict
  returned: always
  contains:
    distribution:
      description: The name, such as C(Debian).
      type: str
    distribution_major_version:
      description: The number, or the name of a Debian in development.
      type: str
    distribution_release:
      description: The name of the release, such as C(trixie).
      type: str
    os_family:
      description: V(Debian) for Debian and its derivatives, otherwise the name of the distribution.
      type: str
    service_mgr:
      description: V(systemd) if it runs, otherwise V(service).
      type: str
    hostname:
      description: The host's own name up to the first dot.
      type: str
    nodename:
      description: The host's full own name, which its Celery workers use.
      type: str
    processor_vcpus:
      description: Number of processors of the host.
      type: int
    memtotal_mb:
      description: Memory in MiB.
      type: int
    celeryops_packages:
      description: Names of the installed packages, without their architecture; empty without C(dpkg).
      type: list
      elements: str
    celeryops_rabbitmq:
      description:
        - RabbitMQ data on the host with their node name and directory, and the enabled plugins; empty
          without any.
      type: dict
    celeryops_redis:
      description: Data of Redis and Valkey on the host, and how a server that others set up stores them.
      type: dict
    celeryops_disks:
      description: The size in bytes of the file system that has, or will have, a data directory.
      type: dict
    celeryops_machine:
      description: >-
        What may conflict, and what earlier runs left. C(accounts), C(groups), C(listeners) (sockets with their
        process and unit), C(directories), C(ours) (apps with their units, and the names of passwords in use),
        C(schedulers) (Celery schedulers that the collection did not start), C(id), the machine id, and with
        O(receipts) those that hold.
      type: dict
"""

import contextlib
import os
import platform
import pwd
import time
from typing import TYPE_CHECKING, Any

from ansible.module_utils import distro
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.sys_info import (
    get_distribution,
    get_distribution_codename,
    get_distribution_version,
)

from ansible_collections.celeryops.stack.plugins.module_utils import (
    host_paths,
    listeners,
    ours,
    rabbitmq_found,
    receipts,
    redis_found,
    schedulers,
)
from ansible_collections.celeryops.stack.plugins.module_utils.systemd import parse_show
from ansible_collections.celeryops.stack.plugins.module_utils.text_files import text_of
from ansible_collections.celeryops.stack.plugins.module_utils.unit_state import outlook, show_command
from ansible_collections.celeryops.stack.plugins.module_utils.workers import ask, shared

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ansible_collections.celeryops.stack.plugins.module_utils.systemd import Status

#: Directories whose servers set a limit that follows from the size of their disk.
DATA = ("/var/lib/rabbitmq",)


def installed(output: str) -> list[str]:
    """Return the names of the packages that are installed and configured.

    Arguments:
        output: lines of ``<status> <name>`` as dpkg-query(1) prints ``${db:Status-Abbrev}${Package}``, dpkg 1.21: the
            second letter of the status is what the package is, ``i`` for installed.
    """
    pairs = (line.split() for line in output.splitlines())
    return [pair[1] for pair in pairs if len(pair) == 2 and pair[0][1:2] == "i"]


def memory(meminfo: str) -> int:
    """Return the memory in MiB from the text of /proc/meminfo, whose "kB" are KiB (proc_meminfo(5)); 0 without it."""
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return 0


def disk(path: str) -> int:
    """Return the size in bytes of the file system of ``path``, or of its nearest parent that exists."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    status = os.statvfs(path)
    return status.f_frsize * status.f_blocks


def servers(run: Callable[[Sequence[str]], str]) -> dict[str, Any]:
    """Return what the host holds of the servers that the roles set up, and the disks where it is.

    Arguments:
        run: runs a command and returns what it prints.
    """
    rabbitmq = rabbitmq_found.found(platform.node().split(".")[0], platform.node(), run)
    places = dict.fromkeys([*DATA, *filter(None, [rabbitmq.get("data")])])
    return {
        "celeryops_rabbitmq": rabbitmq,
        "celeryops_redis": redis_found.found(run),
        "celeryops_disks": {path: disk(path) for path in places},
    }


def system() -> dict[str, Any]:
    """Return what is known of the host without asking a program."""
    name = get_distribution() or platform.system()
    version = get_distribution_version() or ""
    with open("/proc/meminfo", encoding="ascii") as stream:
        meminfo = stream.read()
    ancestors = {distro.id(), *distro.like().split()}
    return {
        "distribution": name,
        "distribution_major_version": version.split(".")[0],
        "distribution_release": get_distribution_codename() or "",
        "os_family": "Debian" if "debian" in ancestors else name,
        # sd_booted(3)
        "service_mgr": "systemd" if os.path.isdir("/run/systemd/system") else "service",
        "hostname": platform.node().split(".")[0],
        # What Celery puts in the place of %h (socket.gethostname(), celery/utils/nodenames.py, 5.7.0).
        "nodename": platform.node(),
        "processor_vcpus": os.cpu_count() or 1,
        "memtotal_mb": memory(meminfo),
    }


def machine(accounts: list[str], groups: list[str]) -> dict[str, Any]:
    """Return what may be in the way of the roles, and what earlier runs left."""
    return {
        "accounts": host_paths.accounts(accounts),
        "groups": host_paths.groups(groups),
        "listeners": listeners.look(),
        "directories": host_paths.directories(),
        "ours": ours.look(),
        "schedulers": schedulers.look(),
        "id": machine_id(),
    }


def receipts_held(module: AnsibleModule, key: str) -> dict[str, Any]:
    """Return the calls whose receipts hold, by their proof, as ``held_now`` does.

    Arguments:
        module: asks systemd, once.
        key: of this run.
    """
    held = receipts.valid(tidy=not module.check_mode)
    names = {unit["name"] for one in held for unit in one.get("units") or []}
    names |= {worker["unit"] for one in held for worker in one.get("answers", {}).get("workers", [])}
    found = {}
    # Whatever cannot be read here is the matter of the call that the receipt is of, which is made then.
    with contextlib.suppress(Exception):
        statuses = statuses_of(sorted(names), lambda command: module.run_command(list(command))[1])
        for one in held:
            with contextlib.suppress(Exception):
                found[receipts.proof(key, one["asked"])] = held_now(one, statuses)
    return {name: state for name, state in found.items() if state}


def statuses_of(names: Sequence[str], run: Callable[[Sequence[str]], str]) -> dict[str, Status]:
    """Return what systemd says of units.

    Arguments:
        names: of the units.
        run: runs a command and returns what it prints.

    Raises:
        ValueError: it does not tell of all of them.
    """
    return parse_show(names, run(show_command(names))) if names else {}


def held_now(receipt: dict[str, Any], statuses: dict[str, Status]) -> dict[str, Any]:
    """Return ``result`` of a receipt, whether its units are ``settled``, and which of them would be restarted.

    Nothing where only the call itself can tell.

    Arguments:
        receipt: one whose state holds.
        statuses: of the units.
    """
    result = answers_of(receipt["answers"], statuses) if "answers" in receipt else receipt.get("result")
    if receipt.get("unproven") or ("answers" in receipt and result is None):
        return {}
    ahead = outlook(receipt.get("units") or [], receipt.get("prune"), [], statuses)
    return {"result": result, "settled": ahead.settled, "restarts": ahead.actions.restart}


def answers_of(given: dict[str, Any], statuses: dict[str, Status]) -> dict[str, Any] | None:
    """Return what the module workers would return; None when it would have to wait or to fail.

    Arguments:
        given: its arguments ``workers``, ``settings`` and ``queues``.
        statuses: of the units.
    """
    try:
        told = shared(given["settings"], given["queues"])
    except (OSError, ValueError):
        return None
    pids = {name: status.pid for name, status in statuses.items()}
    answers = ask(given["workers"], pids, told, time.time())
    return None if answers.silent or answers.found else answers.result(told)


def machine_id(path: str = "/etc/machine-id") -> str:
    """Return the number by which a machine is told from others, whatever its names (machine-id(5)); empty without."""
    return text_of(path).strip()


def named(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts under the names that M(ansible.builtin.setup) gives them, which C(ansible_facts) then shortens.

    Ansible's default is to make a variable of every fact as well (INJECT_FACTS_AS_VARS), which wins over the inventory:
    a bare ``hostname`` would replace a user's own variable of that name for the rest of the run.
    """
    return {name if name.startswith("celeryops_") else f"ansible_{name}": value for name, value in facts.items()}


def main() -> None:
    """Run the module."""
    names: dict[str, Any] = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={"accounts": names, "groups": names, "receipts": {"type": "str", "no_log": True}},
        supports_check_mode=True,
    )
    if os.geteuid() != 0:
        who = pwd.getpwuid(os.geteuid()).pw_name
        module.fail_json(msg=f"ansible_become: the roles need root on this host, and this is {who}; write true")
    output = ""
    if module.get_bin_path("dpkg-query"):
        output = module.run_command(
            ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${Package}\\n"], check_rc=True
        )[1]
    found = {
        **system(),
        **servers(lambda command: str(module.run_command(list(command))[1])),
        "celeryops_packages": installed(output),
        "celeryops_machine": machine(module.params["accounts"], module.params["groups"]),
    }
    if module.params["receipts"]:
        found["celeryops_machine"]["receipts"] = receipts_held(module, module.params["receipts"])
    module.exit_json(changed=False, ansible_facts=named(found))


if __name__ == "__main__":
    main()
