# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""Rules about the files that an app wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.plugin_utils.app_files import BEAT, VARIABLE
from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import Problem, did_you_mean
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import Finding, Rule
from ansible_collections.celeryops.stack.plugins.plugin_utils.stack import CLASS_LEVELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.celeryops.stack.plugins.plugin_utils.deployment import Deployment

_REASONS = {"groups": "is no group of the inventory", "restarts": "is no worker class of the app, and not beat"}


def _for_nobody(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        known = {"groups": set(deployment.groups)}
        if not deployment.unusable & set(CLASS_LEVELS):
            known["restarts"] = {BEAT, *(worker.name for worker in app.classes), *deployment.unplaced}
        for entry in app.files:
            for key, names in known.items():
                for name in map(str, entry[key] or ()):
                    if name not in names:
                        variable = f"{VARIABLE}[{entry['number']}].{key}"
                        instead = did_you_mean(name, sorted(names))
                        yield Finding(Problem(variable, name, _REASONS[key], instead), name, app.name)


RULES = (
    Rule(
        "file-for-nobody",
        _for_nobody,
        "A file of `celery_app_files` for a group of hosts, or a worker class, that there is not.",
    ),
)
