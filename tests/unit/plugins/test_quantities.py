"""Durations and sizes as people write them."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.quantities import (
    clock_meaning,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("15min", 900),
        ("12h", 43200),
        ("2d", 172800),
        ("1w", 604800),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        (45, 45),
        ("45", 45),
        (0, 0),
    ],
)
def test_durations(text: object, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5x", "1.5h", "-5s", -1, "-1", True, None, "101y", "99999w", 1.5, "5 5"])
def test_what_is_no_duration_is_refused_with_what_to_write(text: object) -> None:
    with pytest.raises(ValueError, match="write a duration such as 90s"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", 512 * 1024**2), ("1G", 1024**3), ("1g", 1024**3), ("64k", 65536), ("10MiB", 10485760), (1024, 1024)],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "big", "1.5G", "-1M", -1, False, "9999999999T", "12X", None])
def test_what_is_no_size_is_refused_with_what_to_write(text: object) -> None:
    with pytest.raises(ValueError, match="write a size such as 512M"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("12:30", "12h30m or 12m30s"),
        ("08:05", "8h5m or 8m5s"),
        ("1:30:00", "1h30m"),
        ("0:00", "0s"),
        ("00:00:90", "1m30s"),
        ("100:00", "4d4h or 1h40m"),
    ],
)
def test_a_time_as_clocks_show_it_is_told_with_what_it_may_mean(text: str, meant: str) -> None:
    assert clock_meaning(text) == meant
    with pytest.raises(ValueError, match="is a time as clocks show it, not a duration; write ") as told:
        parse_duration(f" {text} ")
    assert str(told.value).endswith(f"; write {meant}")


@pytest.mark.parametrize("text", ["12", "12:", ":30", "12:30:00:00", "-1:30", "12:3o", "1h:30m", "", "1:" + "0" * 10])
def test_what_no_clock_shows(text: str) -> None:
    assert clock_meaning(text) == ""
    if text != "12":
        with pytest.raises(ValueError, match="write a duration such as 90s"):
            parse_duration(text)
