"""Durations and sizes as people write them."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import (
    DURATION_HELP,
    MAX_SECONDS,
    SIZE_HELP,
    clock_meaning,
    parse_duration,
    parse_size,
    show_duration,
    show_size,
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


def test_a_duration_is_a_century_at_most() -> None:
    assert MAX_SECONDS == 3_153_600_000
    assert parse_duration("36500d") == parse_duration(3_153_600_000) == 3_153_600_000
    for value in (3_153_600_001, "36500d1s", -1):
        with pytest.raises(ValueError, match=f"^is not between 0 and a hundred years; write {DURATION_HELP}$"):
            parse_duration(value)


def test_a_size_is_what_64_bits_hold_at_most() -> None:
    assert parse_size(0) == parse_size("0B") == 0
    assert parse_size(2**63 - 1) == parse_size(str(2**63 - 1)) == 9_223_372_036_854_775_807
    for value in (2**63, "8388608T", -1):
        with pytest.raises(ValueError, match=rf"^is not between 0 and 2\^63 - 1 bytes; write {SIZE_HELP}$"):
            parse_size(value)


@pytest.mark.parametrize("value", [True, False, None, 1.5])
def test_what_is_no_number_is_not_called_too_large(value: object) -> None:
    with pytest.raises(ValueError, match=r"^is not a duration; "):
        parse_duration(value)
    with pytest.raises(ValueError, match=r"^is not a size; "):
        parse_size(value)


def test_units_of_sizes() -> None:
    read = [parse_size(f"3{unit}") for unit in ("", "B", "K", "MB", "GiB", " t")]
    assert read == [3, 3, 3 * 1024, 3 * 1024**2, 3 * 1024**3, 3 * 1024**4]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (3599, "59m59s"), (86399, "23h59m59s"), (86400, "1d"), (90061, "1d1h1m1s")],
)
def test_durations_are_shown_as_a_person_writes_them(seconds: int, shown: str) -> None:
    assert show_duration(seconds) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1K"),
        (1536, "1.5K"),
        (1024**2 - 1, "1024K"),
        (int(99.5 * 1024), "99.5K"),
        (int(100.25 * 1024), "100K"),
        (int(100.75 * 1024), "101K"),
        (200 * 1024**2, "200M"),
        (int(2.25 * 1024**3), "2.2G"),
        (3 * 1024**4, "3T"),
    ],
)
def test_sizes_are_shown_with_one_decimal_where_it_says_something(size: int, shown: str) -> None:
    assert show_size(size) == shown
