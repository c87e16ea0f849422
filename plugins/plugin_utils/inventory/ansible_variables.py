# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each host's variables as in a play, with Ansible's own precedence.

``hostvars`` knows nothing of a play: what stands in its ``vars`` and ``vars_files``, or in those of the
``import_playbook`` that led to it, is missing there. Ansible has no public interface that works them out for another
host than the task's own, so what is used of it besides stands here alone, and is tried with each ansible-core that the
collection supports (tests/unit/plugins/test_ansible_variables.py, scripts/run_control_nodes.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: What Ansible says of a play, the same for each of its hosts.
_OF_THE_PLAY = ("ansible_play_batch", "ansible_play_hosts", "ansible_play_hosts_all", "groups", "play_hosts")


def in_play_of(task: Any, hostvars: Any) -> Callable[[str], dict[str, Any]]:
    """Return what returns the untemplated variables that a host has in the play of a task.

    They are those that each play of the same ``import_playbook`` starts from; what a later play, a role or a task adds
    is not known yet. From ansible-core 2.18 to 2.21 that is ``VariableManager.get_vars``
    (ansible/vars/manager.py), to which ``HostVars`` leads by two attributes that are not public; it
    has its loader in a third one.

    Arguments:
        task: an Ansible task, as an action plugin has it.
        hostvars: the variable of this name that it was given.
    """
    play = task.get_play()
    manager, inventory = hostvars._variable_manager, hostvars._inventory

    loader = manager._loader
    same: dict[str, Any] = {}

    def of(host: str) -> dict[str, Any]:
        manager._loader = _ReadsOnce(loader)
        try:
            known = manager.get_vars(play=play, host=inventory.get_host(host), include_hostvars=False)
        finally:
            manager._loader = loader
        # Else each of a thousand hosts keeps several lists of all thousand, and once more in its ``vars``.
        shared = {name: same.setdefault(name, known[name]) for name in _OF_THE_PLAY if name in known}
        for variables in (known, known.get("vars") or {}):
            variables.update(shared)
        return {**known, "hostvars": hostvars}

    return of


class _ReadsOnce:
    """Ansible's loader of files; of ``vars_files`` Ansible itself keeps only vaulted ones, and reads all others anew.

    Arguments:
        loader: an Ansible DataLoader.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def load_from_file(self, *arguments: Any, **options: Any) -> Any:
        """Return what is in a file, the same object for all hosts."""
        return self._loader.load_from_file(*arguments, **{**options, "cache": "all"})
