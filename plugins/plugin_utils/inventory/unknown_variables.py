# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables with names similar to a role's variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.setting_kinds import KINDS
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, closest
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.class_keys import KEYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_CLOSE = 0.87
#: What an inventory may say to the collection as a whole: the roles' defaults and the playbooks read these.
SHARED = (
    "celeryops_backup_fetch",
    "celeryops_deploy_accept_missing_tasks",
    "celeryops_deploy_at_once",
    "celeryops_deploy_drain_timeout",
    "celeryops_deploy_mode",
    "celeryops_deploy_probe",
    "celeryops_deploy_probe_timeout",
    "celeryops_deploy_producer_units",
    "celeryops_drain",
    "celeryops_install_environment",
    "celeryops_leave_messages",
    "celeryops_look_at_all_hosts",
    "celeryops_no_other_scheduler",
    "celeryops_plan_dir",
    "celeryops_recover_without",
    "celeryops_remove_app",
    "celeryops_remove_data",
    "celeryops_remove_everything",
    "celeryops_remove_messages",
    "celeryops_remove_node",
    "celeryops_restart_at_once",
    "celeryops_restart_beat",
    "celeryops_restart_classes",
    "celeryops_restart_drain_timeout",
    "celeryops_restart_mode",
    "celeryops_restore_over",
    "celeryops_restore_rabbitmq",
    "celeryops_restore_redis",
    "celeryops_rollback_at_once",
    "celeryops_rollback_drain_timeout",
    "celeryops_rollback_mode",
    "celeryops_rollback_probe",
    "celeryops_rollback_probe_timeout",
    "celeryops_rollback_producer_units",
    "celeryops_rollback_to",
    "celeryops_rotate_secrets",
    "celeryops_secrets_dir",
    "celeryops_show_plan",
)
_WHAT = "(a variable)"


def misspelt(role: str, known: Iterable[str], present: Iterable[str]) -> list[Problem]:
    """Return a problem for each variable that carries the role's prefix and nearly is one of its variables.

    Only near misses count: a team may well have a ``redis_exporter_port`` of its own beside this collection.

    Arguments:
        role: the role's name, which is the prefix of its variables.
        known: the variables of the role.
        present: the names of all variables of a host.
    """
    names = sorted(known)
    problems = []
    for name in sorted(str(entry) for entry in present):
        if not name.startswith(f"{role}_") or name in names:
            continue
        instead = closest(name, names, _CLOSE) or _belongs(role, name.removeprefix(f"{role}_"))
        if instead:
            problems.append(Problem("not-a-variable", name, _WHAT, f"is not a variable of the role {role}", instead))
    return problems


def _belongs(role: str, rest: str) -> str:
    """Return where a key of a class or a setting of Celery has to be that is written as a variable."""
    if role == "celery_worker" and rest in KEYS:
        return f"{rest} in celery_worker_defaults or in a class of celery_worker_classes"
    if role in ("celery_app", "celery_worker") and rest in KINDS:
        return f"{rest} in celery_app_settings"
    return ""


def misspelt_prefixes(roles: Mapping[str, Iterable[str]], present: Iterable[str]) -> list[Problem]:
    """Return a problem for each variable that nearly is one of a role's or one for all roles, but for its beginning.

    Arguments:
        roles: role -> its variables.
        present: the names of all variables of all hosts.
    """
    prefixes = tuple(f"{role}_" for role in roles)
    initials = {role[0] for role in roles}
    known = {name: f"of the role {role}" for role, names in roles.items() for name in names}
    known |= dict.fromkeys(SHARED, "of the collection")
    problems = []
    for name in sorted(set(map(str, present))):
        if name[:1] not in initials or "_" not in name or name.startswith(prefixes) or name in known:
            continue
        close = closest(name, known, _CLOSE)
        if close:
            problems.append(Problem("not-a-variable", name, _WHAT, f"is not a variable {known[close]}", close))
    return problems
