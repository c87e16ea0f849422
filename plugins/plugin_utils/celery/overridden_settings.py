# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The warning about settings of an app that the role overrides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.celery_app_settings import place_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def told(app: str, replaced: Sequence[Mapping[str, str]], decided: Iterable[object]) -> str:
    """Return one warning for all settings of an app, or an empty text.

    Arguments:
        app: what ``celery -A`` takes.
        replaced: ``setting``, ``app`` and ``here`` of each (``celeryops_runtime.own.replaced``).
        decided: settings that ``celery_app_settings`` has: whoever wrote them there knows that they win.
    """
    known = {str(name) for name in decided}
    #: Of routes there is a second answer.
    places = {"task_routes": f"{place_of('task_routes')} (from-app keeps the app's own)"}
    lines = [
        f"- {entry['setting']}: the app says {entry['app']}, here {entry['here']} holds; "
        f"write {places.get(entry['setting'], place_of(entry['setting']))} to have another value"
        for entry in sorted(replaced, key=lambda entry: entry["setting"])
        if entry["setting"] not in known
    ]
    if not lines:
        return ""
    head = f"{app} has settings of its own that do not hold, since the inventory or the role decides them"
    return "\n".join([f"{head} (docs/settings.md has all of these):", *lines])
