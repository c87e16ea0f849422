"""Patterns of task names: which match nothing, and which never get their turn."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.values.patterns import (
    PATTERN_HELP,
    glob,
    pattern_fault,
    pattern_problems,
)

EXPRESSION = "is a regular expression, and here only * is special"
NEITHER = "is not a task name or pattern"


@pytest.mark.parametrize(
    "pattern",
    [
        "shop.mails.send",
        "shop.*",
        "*",
        "*.send",
        "shop.*.send",
        "shop.mails_*",
        "**",
        "shop:send",
        "shop/send",
        "/shop/send",
        "shop-2.mails.send@eu",
        "shop.fällig.*",
    ],
)
def test_what_can_be_the_name_of_a_task(pattern: str) -> None:
    assert pattern_fault(pattern) == ("", "")


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        (r"^shop\.mails\..*", "shop.mails.*"),
        (r"^shop\.mails\.send$", "shop.mails.send"),
        (r"shop\.mails\.*", "shop.mails.*"),
        ("^shop.send", "shop.send"),
        ("shop.send$", "shop.send"),
        ("shop.mails..*", "shop.mails.*"),
        ("shop.mails.+", "shop.mails*"),
        (".*", "*"),
        (".*.send", "*.send"),
        (r".*\.send$", "*.send"),
        (r"shop\.mails\..*?", "shop.mails.*"),
        (r"re.compile(r'shop\.mails\..*')", "shop.mails.*"),
        ('re.compile("^shop.send$")', "shop.send"),
        ("/shop.mails..*/", "shop.mails.*"),
        ("/shop.send/", "shop.send"),
    ],
)
def test_a_regular_expression_is_told_with_what_it_means_here(pattern: str, meant: str) -> None:
    assert pattern_fault(pattern) == (EXPRESSION, f"{meant} (did you mean that?)")


@pytest.mark.parametrize("pattern", ["shop.(mails|feeds).*", "shop.[a-z]+", r"shop\w", "^", "^$", "/.*,/"])
def test_an_expression_that_cannot_be_said_here_is_told_with_an_example(pattern: str) -> None:
    assert pattern_fault(pattern) == (EXPRESSION, PATTERN_HELP)


@pytest.mark.parametrize(
    ("pattern", "instead"),
    [
        ("shop.mails.", "shop.mails.* (did you mean that?)"),
        (".send", "*.send (did you mean that?)"),
        ("shop.mails.#", "shop.mails.* (did you mean that?)"),
        ("shop.mails.%", "shop.mails.* (did you mean that?)"),
        ("r'shop.send'", "shop.send (did you mean that?)"),
        ("shop..send", PATTERN_HELP),
        ("shop.?", PATTERN_HELP),
        ("shop.[ab]", PATTERN_HELP),
        ("shop.{mails,feeds}.*", PATTERN_HELP),
        ("shop.mails,shop.feeds", PATTERN_HELP),
        ("shop mails", PATTERN_HELP),
        ("shop.mails\n", PATTERN_HELP),
        ("", PATTERN_HELP),
    ],
)
def test_a_pattern_of_another_kind(pattern: str, instead: str) -> None:
    assert pattern_fault(pattern) == (NEITHER, instead)


def told(*patterns: str) -> list[str]:
    return [str(problem) for problem in pattern_problems("celery_app_routes", patterns, "route")]


@pytest.mark.parametrize(
    ("first", "second"), [("shop.*", "shop.pay"), ("shop.*", "shop.pay.*"), ("*a", "a"), ("a.*.c", "a.b.c")]
)
def test_a_pattern_that_an_earlier_one_hides(first: str, second: str) -> None:
    reason = f"is never reached: {first} stands before it and matches too"
    assert told(first, "other", second) == [f"celery_app_routes: '{second}' {reason}; write it above that route"]
    assert told(second, "other", first) == []


def test_a_pattern_that_stands_twice() -> None:
    for twice in ("shop.pay", "shop.*"):
        reason = f"is never reached: {twice} stands before it and matches too"
        assert told(twice, twice) == [f"celery_app_routes: '{twice}' {reason}; write it once"]


def test_what_matches_nothing_hides_nothing() -> None:
    assert [line.partition(";")[0] for line in told("^.*", "^.*", "shop.pay")] == [
        f"celery_app_routes: '^.*' {EXPRESSION}"
    ] * 2


def test_a_thousand_patterns_are_held_against_each_other_in_no_time() -> None:
    from time import process_time

    begun = process_time()
    assert told(*(f"shop.part{number}.*" for number in range(1000))) == []
    # Each compiled anew for each of the others took half a minute.
    assert process_time() - begun < 5


@pytest.mark.parametrize(
    ("pattern", "name", "meant"),
    [
        ("shop.send", "shop.send", True),
        ("shop.send", "shop.sends", False),
        ("shop.send", "shopXsend", False),
        ("shop.*", "shop.", True),
        ("shop.*", "shop.mails.send", True),
        ("shop.*", "shop", False),
        ("*.send", "shop.mails.send", True),
        ("a*c*e", "abcde", True),
        ("a*c*e", "abde", False),
        ("*", "", True),
        ("*", "two\nlines", True),
    ],
)
def test_a_star_stands_for_anything_and_the_rest_for_itself(pattern: str, name: str, meant: bool) -> None:
    assert bool(glob(pattern).fullmatch(name)) is meant


def test_one_wrong_pattern_hides_no_other() -> None:
    assert len(told("^shop", "shop.pay", "shop.pay", "shop.mail", "shop.mail")) == 3
