# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of RabbitMQ objects that cannot be intended. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: AMQP's short strings have one byte for their length.
LONGEST = 255


def name_fault(name: Any) -> tuple[str, str] | None:
    """Return why a text is no name for a virtual host, a queue, an exchange or a policy, and what to write instead."""
    text = str(name)
    if not text:
        return "is empty", "a name"
    if text != text.strip():
        return "begins or ends with a blank, which is invisible", repr(text.strip()) if text.strip() else "a name"
    if not text.isprintable():
        return "contains an unprintable character, such as a line break", "a name of one line"
    if len(text.encode("utf-8", "surrogatepass")) > LONGEST:
        return f"is longer than {LONGEST} bytes", "a shorter name"
    return None


def told_apart_by_blanks(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each name that is another one but for the number of its blanks, with that other one."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(" ".join(name.split()), name)
        if other != name:
            yield name, other


def faulty(names: Iterable[Any]) -> Iterator[tuple[Any, str, str]]:
    """Yield each name that cannot be used, once, with why and what to write instead."""
    for name in dict.fromkeys(names):
        fault = name_fault(name)
        if fault:
            yield (name, *fault)
