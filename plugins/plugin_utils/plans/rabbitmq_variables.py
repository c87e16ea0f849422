# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of the role rabbitmq, and the mistakes that were found in them so far."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_series import series_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import (
    Problem,
    UnreadableError,
    closest,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import (
    DURATION_HELP,
    parse_duration,
    parse_size,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CONFIG_DIR = "/etc/rabbitmq"
#: Release of Debian -> the series of its RabbitMQ.
_OF_DEBIAN = {"bookworm": "3.10", "trixie": "4.0", "forky": "4.3"}


class Variables:
    """What the inventory says for one server.

    Arguments:
        variables: those named in the role's argument specs.
        facts: the host's facts; when empty, nothing about the host is checked.
    """

    def __init__(self, variables: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        self.values = {name.removeprefix("rabbitmq_"): value for name, value in variables.items()}
        self.facts = facts
        self.found: Mapping[str, Any] = facts.get("celeryops_rabbitmq") or {}
        self.problems: list[Problem] = []

    def problem(self, identity: str, name: str, value: Any, reason: str, instead: str) -> None:
        self.problems.append(Problem(identity, f"rabbitmq_{name}", value, reason, instead))

    def duration(self, name: str) -> int:
        try:
            seconds = parse_duration(self.values[name])
        except UnreadableError as error:
            self.problem(error.id, name, self.values[name], error.reason, error.instead)
            return 0
        if not seconds:
            self.problem("zero-duration", name, self.values[name], "must be longer than 0s", DURATION_HELP)
        return seconds

    def address(self, name: str, value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        try:
            return ipaddress.ip_address(value)
        except ValueError:
            reason = "is not an IP address"
            self.problem("not-an-ip-address", name, value, reason, "an address such as 127.0.0.1, 10.0.0.5 or 0.0.0.0")
            return ipaddress.ip_address("127.0.0.1")

    def misspelt(self, where: str, name: str, reason: str, known: Iterable[str]) -> None:
        """Note a name that is nearly one of RabbitMQ's own; any other may be somebody's."""
        close = closest(name, known)
        if close and close != name:
            self.problem("misspelt", where, name, reason, f"{close} (did you mean that?)")

    def check_pattern(self, name: str, pattern: str) -> None:
        try:
            re.compile(pattern)
        except re.error as error:
            reason = f"is not a regular expression ({error})"
            self.problem("not-a-regular-expression", name, pattern, reason, "one such as ^shop")

    def is_3_10(self) -> bool:
        """Tell whether the server is Debian 12's RabbitMQ 3.10, as far as that is known."""
        major = str(self.facts.get("distribution_major_version"))
        return self.facts.get("distribution") == "Debian" and major == "12" and not self.values["repository"]

    def series(self) -> str:
        """Return the series of the server's version, such as ``4.0``; empty where it is not known.

        What is installed stays unless another version is asked for. Debian's releases have one series each (12 to 14,
        seen in November 2026).
        """
        known = series_of(str(self.values["version"])) or series_of(str(self.found.get("version") or ""))
        if known or self.facts.get("distribution") != "Debian" or self.values["repository"]:
            return known
        return _OF_DEBIAN.get(str(self.facts.get("distribution_release")), "")


def in_unit(value: Any, unit: str) -> str:
    """Return what a value with a unit of its own comes to, or an example."""
    if re.fullmatch(r"[0-9]+", str(value)):
        # A number in quotes is in the right unit already.
        return f"{value}, without quotes"
    with contextlib.suppress(ValueError):
        if unit == "milliseconds":
            return str(1000 * parse_duration(value))
        if unit == "bytes":
            return str(parse_size(value))
    return "a whole number, without quotes"
