# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an app's configuration requires of Celery and kombu, to compare with the built release.

Requirements often leave the version open, and what an app's packages ask for stands in no inventory: then only what was
installed says it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.celery_versions import (
    DELAYS_WITH_KOMBU,
    SETTINGS,
    text,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.worker_arguments import newer_options
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.requirements import in_force, lines_of, rules_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.worker_classes import WorkerClass

Need = dict[str, str]


def needs(values: Mapping[str, Any], *, quorum: bool) -> list[Need]:
    """Return what a release has to be new enough for.

    Arguments:
        values: the variables of the role celery_app, without its prefix.
        quorum: whether any queue is a quorum queue, of RabbitMQ.
    """
    accepted = {str(entry) for entry in values.get("accept") or ()}
    found = [
        _need("celery", text(SETTINGS[name]), f"celery_app_settings.{name}: a setting", "nothing there")
        for name in map(str, values["settings"])
        if name in SETTINGS and not {"newer-setting", f"newer-setting:{name}"} & accepted
    ]
    options = values.get("worker_options")
    for option in options if isinstance(options, (list, tuple)) else ():
        says = f"{option['variable']}: {option['word']}, an option of workers"
        found.append(_need("celery", str(option["since"]), says, "nothing there"))
    lines = in_force(lines_of(values.get("source"), values.get("extra_packages") or ()))
    told = any(rules_out(line, "kombu", DELAYS_WITH_KOMBU) for _variable, line in lines)
    meant = {"eta-in-worker", f"eta-in-worker:{values.get('name')}"} & accepted
    if quorum and not told and not meant:
        since = text(DELAYS_WITH_KOMBU)
        instead = f"kombu<{since} into celery_app_source.constraints, and the timeouts follow: workers hold them then"
        says = "the consumer timeout counts on delayed tasks that wait in RabbitMQ, which kombu does"
        found.append(_need("kombu", since, says, instead))
    return found


def worker_options(classes: Iterable[WorkerClass]) -> list[Need]:
    """Return the options of workers that not every supported Celery has.

    Arguments:
        classes: those of all hosts of an app.
    """
    found: list[Need] = []
    for one in classes:
        for word, since in newer_options(one.extra_arguments):
            entry = {"variable": one.where("extra_arguments"), "word": word, "since": text(since)}
            if entry not in found:
                found.append(entry)
    return found


def _need(package: str, since: str, says: str, instead: str) -> Need:
    instead = f"{instead}, or {package}>={since} into celery_app_source.overrides"
    return {"package": package, "since": since, "says": f"{says} from {package} {since} on", "instead": instead}
