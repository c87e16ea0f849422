# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parses durations and sizes.

The units are those of systemd.time(7) and of systemd's size settings (systemd.exec(5), version 252: the suffixes
K, M, G, T have base 1024), so that a value means the same in a variable and in a unit file.
"""

from __future__ import annotations

import re

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import UnreadableError

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_DURATION = re.compile(r"(?:\d+\s*(?:min|[smhdw])\s*)+")
_DURATION_PART = re.compile(r"(\d+)\s*(min|[smhdw])")
_CLOCK = re.compile(r"[0-9]{1,9}(?::[0-9]{1,9}){1,2}")
_SIZE = re.compile(r"(\d+)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)

#: More than a century is a slip of the finger, and RabbitMQ and Celery keep times in 32 bits (of ms and of s).
MAX_SECONDS = 100 * 365 * 86400
#: 2^63 - 1: what systemd, Redis and RabbitMQ can hold.
MAX_BYTES = 2**63 - 1

DURATION_HELP = "a duration such as 90s, 15m, 12h or 1h30m, or a whole number of seconds"
SIZE_HELP = "a size such as 512M or 2G, or a whole number of bytes"


def parse_duration(value: object) -> int:
    """Return a duration in whole seconds.

    Arguments:
        value: whole seconds as an int, or text such as ``90s``, ``15m``, ``12h``, ``2d``, ``1h30m``.

    Raises:
        ValueError: when it cannot be read, is negative or longer than a century; the text says what to write.
    """
    seconds = _whole_number(value)
    if seconds is None:
        text = str(value).strip()
        if meant := clock_meaning(text):
            raise UnreadableError("clock-time", "is a time as clocks show it, not a duration", meant)
        if not _DURATION.fullmatch(text):
            raise UnreadableError("not-a-duration", "is not a duration", DURATION_HELP)
        seconds = sum(int(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    if not 0 <= seconds <= MAX_SECONDS:
        raise UnreadableError("duration-out-of-range", "is not between 0 and a hundred years", DURATION_HELP)
    return seconds


def clock_meaning(text: str) -> str:
    """Return the durations that a text such as ``12:30`` or ``1:30:00`` may mean, as they are written here.

    Arguments:
        text: two or three numbers with colons between them; nothing is returned for any other.
    """
    if not _CLOCK.fullmatch(text):
        return ""
    numbers = [int(part) for part in text.split(":")]
    # Of two numbers the first may be hours or minutes.
    readings = [(3600, 60, 1)] if len(numbers) == 3 else [(3600, 60), (60, 1)]
    meant = (sum(number * unit for number, unit in zip(numbers, units, strict=True)) for units in readings)
    return " or ".join(dict.fromkeys(map(show_duration, meant)))


def parse_size(value: object) -> int:
    """Return a size in bytes.

    Arguments:
        value: bytes as an int, or text such as ``512M`` or ``1G`` (base 1024; ``MB`` and ``MiB`` mean the same).

    Raises:
        ValueError: when it cannot be read, is negative or beyond 2^63 - 1; the text says what to write.
    """
    size = _whole_number(value)
    if size is None:
        match = _SIZE.fullmatch(str(value).strip())
        if not match:
            raise UnreadableError("not-a-size", "is not a size", SIZE_HELP)
        size = int(match.group(1)) * _BYTES[match.group(2).upper()]
    if not 0 <= size <= MAX_BYTES:
        raise UnreadableError("size-out-of-range", "is not between 0 and 2^63 - 1 bytes", SIZE_HELP)
    return size


def _whole_number(value: object) -> int | None:
    """Return an int for an int or digits; None for all else: a bool or a fraction is no quantity."""
    text = str(value).strip()
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def show_duration(seconds: int) -> str:
    """Return a duration as a person would write it: ``90`` is ``1m30s``.

    Arguments:
        seconds: zero or more.
    """
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def show_size(size: int) -> str:
    """Return a size as a person would write it, in the largest unit that leaves at most one decimal.

    Arguments:
        size: bytes, zero or more.
    """
    for unit in ("T", "G", "M", "K"):
        if size >= _BYTES[unit]:
            number = size / _BYTES[unit]
            return f"{number:.0f}{unit}" if number == int(number) or number >= 100 else f"{number:.1f}{unit}"
    return f"{size}B"
