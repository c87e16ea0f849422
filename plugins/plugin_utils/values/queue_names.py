# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Valid names of queues, for apps, classes and routes alike."""

from __future__ import annotations

import re

QUEUE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
QUEUE_HELP = "letters, digits, _ and -, in parts joined by dots, 100 at most"


def is_queue(name: object) -> bool:
    """Whether ``name`` can be the name of a queue: it is a word of a topic exchange as well, and of a command line."""
    return isinstance(name, str) and len(name) <= 100 and bool(QUEUE.fullmatch(name)) and not name.startswith("-")
