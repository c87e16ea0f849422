# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Remembers which servers gave no answer, so that a process asks them last and waits once, not once per connection."""

from __future__ import annotations

import time
from collections.abc import Hashable

SECONDS = 60.0
"""For so long a server that gave no answer is asked last."""

_clock = time.monotonic


class Silence:
    """Servers that gave no answer lately; a server is named by its host and its port."""

    def __init__(self) -> None:
        """Begin with none."""
        self._since: dict[Hashable, float] = {}

    def __contains__(self, server: Hashable) -> bool:
        """Tell whether a server gave no answer lately.

        :param server: its name.
        """
        return _clock() - self._since.get(server, float("-inf")) < SECONDS

    def begin(self, server: Hashable) -> None:
        """Note that a server gave no answer.

        :param server: its name.
        """
        self._since[server] = _clock()

    def end(self, server: Hashable) -> None:
        """Note that a server answered.

        :param server: its name.
        """
        self._since.pop(server, None)

    def clear(self) -> None:
        """Forget all of them."""
        self._since.clear()
