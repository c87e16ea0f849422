# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has Sentinels leave a primary in its place that is stopped on purpose."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import Client, ServerError, pairs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: For how long a primary may be silent: the setting, and more than any restore takes, in milliseconds.
SETTING, A_DAY = "down-after-milliseconds", "86400000"
#: How old an answer may be to count as one, in milliseconds (Sentinel asks each second); for how many seconds an answer
#: is waited for; seconds between two questions.
FRESH, PATIENCE, PAUSE = 2000, 15, 0.2


class Sentinels:
    """Those that watch some servers, by the name that they have for them."""

    def __init__(self, places: Sequence[Mapping[str, Any]], master: str, username: str, password: str) -> None:
        """Connect to none yet.

        Arguments:
            places: ``host`` and ``port`` of each.
            master: the name of the servers.
            username: a user with all rights.
            password: that user's.
        """
        self.places = [(str(place["host"]), int(place["port"])) for place in places]
        self.master, self._login = master, (username, password)
        #: The Sentinels that could not be given their own time back.
        self.stuck: list[str] = []

    def refusal(self, primary: tuple[str, int]) -> str:
        """Return why they cannot be told to wait; empty when they can.

        One that is not told may replace the primary, so each has to answer, and to know this one as what it is.

        Arguments:
            primary: host and port of the server that will stop.
        """
        for place in self.places:
            try:
                said = self._said(place)
            except (OSError, ServerError) as error:
                return f"the Sentinel {_name(place)} does not answer ({error}), and may replace the primary meanwhile"
            if (said["ip"], int(said["port"])) != primary:
                return f"the Sentinel {_name(place)} has another primary, {said['ip']}:{said['port']}"
            if said["flags"] != "master":
                return f"the Sentinel {_name(place)} says of it: {said['flags']}"
        return ""

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Have them wait while something is done; what they knew before is theirs again afterwards.

        Should this process be killed in between, the next ``site.yml`` sets the time that the inventory has.

        Raises:
            OSError: one does not answer, before anything is done.
            ServerError: one refuses.
        """
        own: dict[tuple[str, int], str] = {}
        try:
            for place in self.places:
                own[place] = self._said(place)[SETTING]
                self._call(place, "SET", self.master, SETTING, A_DAY)
            yield
        finally:
            until = time.monotonic() + PATIENCE
            for place, value in own.items():
                try:
                    # With its own time it would take the primary for gone that it has not asked again yet.
                    while not self._answered(place) and time.monotonic() < until:
                        time.sleep(PAUSE)
                    self._call(place, "SET", self.master, SETTING, value)
                except (OSError, ServerError):
                    self.stuck.append(_name(place))

    def _answered(self, place: tuple[str, int]) -> bool:
        """Whether the primary has answered a Sentinel just now."""
        return int(self._said(place)["last-ok-ping-reply"]) < FRESH

    def _said(self, place: tuple[str, int]) -> dict[str, str]:
        return pairs(self._call(place, "MASTER", self.master))

    def _call(self, place: tuple[str, int], *words: str) -> Any:
        with Client(place, timeout=5) as client:
            client.call("AUTH", *self._login)
            return client.call("SENTINEL", *words)


def _name(place: tuple[str, int]) -> str:
    return f"{place[0]}:{place[1]}"
