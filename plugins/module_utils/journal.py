# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last log lines of a unit, to find out why it does not run.

An app that does not start logs a traceback, which quotes lines of its files and may quote its environment.
Runs on managed hosts.
"""

from __future__ import annotations

import glob
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.module_utils import masking, ours, paths, secret_files
from ansible_collections.celeryops.stack.plugins.module_utils.environment_file import parse_environment
from ansible_collections.celeryops.stack.plugins.module_utils.text_files import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LINES = 20


def last_lines(run: Callable[[list[str]], Sequence[object]], unit: str) -> str:
    """Return the end of a unit's journal, without the secrets of the app that it is a unit of.

    Arguments:
        run: runs a command and returns its status, its output and its errors.
        unit: its name.
    """
    journal = ["journalctl", "--no-pager", "--output=cat", f"--lines={LINES}", "--unit", unit]
    app = ours.app_of_unit(unit)
    secrets = _secrets(paths.AppPaths(app).config) if app else []
    return masking.tail(str(run(journal)[1]), secrets, LINES, public=[app] if app else [])


def _secrets(folder: str) -> list[str]:
    """Return what must not be shown of an app whose configuration is in ``folder``."""
    found = secret_files.secrets_placed(f"{folder}/{paths.FILES_RECORD}")
    for path in sorted(glob.glob(f"{glob.escape(folder)}/*.env")):
        found += masking.secrets_of(parse_environment(text_of(path)))
    return found
