# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the environment file of an app as the role writes it. No I/O here."""

from __future__ import annotations

import re

_ENVIRONMENT_LINE = re.compile(r'^([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"$', re.DOTALL | re.MULTILINE)


def parse_environment(text: str) -> dict[str, str]:
    """Return the variables of an environment file as the role writes it: every value in double quotes."""
    return {
        match.group(1): re.sub(r"\\(.)", r"\1", match.group(2), flags=re.DOTALL)
        for match in _ENVIRONMENT_LINE.finditer(text)
    }
