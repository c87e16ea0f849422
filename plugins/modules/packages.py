# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: packages
short_description: Which Debian packages a host has, as a fact
version_added: 0.1.0
description:
  - Sets the fact C(celeryops_packages), the names of the installed packages.
  - Asking C(apt) whether a package is there opens its whole cache, which takes about a second; C(dpkg) knows in an
    instant. The roles skip C(apt) where this fact tells them that nothing is missing, and do without the fact when it
    is not there.
attributes:
  check_mode:
    description: Changes nothing, so it runs the same.
    support: full
author: celeryops.stack contributors
"""

EXAMPLES = r"""
- name: See what is installed
  celeryops.stack.packages:

- name: Install the server unless it is there
  ansible.builtin.apt:
    name: rabbitmq-server
  when: "'rabbitmq-server' not in ansible_facts['celeryops_packages']"
"""

RETURN = r"""
ansible_facts:
  description: The fact.
  type: dict
  returned: always
  contains:
    celeryops_packages:
      description: Names of the installed packages, without their architecture; empty where there is no C(dpkg).
      type: list
      elements: str
"""

from ansible.module_utils.basic import AnsibleModule


def installed(output: str) -> list[str]:
    """Return the names of the packages that are installed and configured.

    Arguments:
        output: lines of ``<status> <name>`` as dpkg-query(1) prints ``${db:Status-Abbrev}${Package}``, dpkg 1.21: the
            second letter of the status is what the package is, ``i`` for installed.
    """
    pairs = (line.split() for line in output.splitlines())
    return [pair[1] for pair in pairs if len(pair) == 2 and pair[0][1:2] == "i"]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    output = ""
    if module.get_bin_path("dpkg-query"):
        output = module.run_command(
            ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${Package}\\n"], check_rc=True
        )[1]
    module.exit_json(changed=False, ansible_facts={"celeryops_packages": installed(output)})


if __name__ == "__main__":
    main()
