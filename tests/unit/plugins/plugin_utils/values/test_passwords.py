"""Passwords that strangers find."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.values.passwords import weakness


@pytest.mark.parametrize(
    ("password", "user", "reason"),
    [
        ("", "shop", "is empty"),
        (None, "shop", "is empty"),
        ("guest", "guest", "is a commonly guessed password"),
        ("Password12345!", "shop", "is a commonly guessed password"),
        ("passwordpassword", "shop", "is a commonly guessed password"),
        ("change-me-change-me", "shop", "is a commonly guessed password"),
        ("123123123123", "shop", "is a commonly guessed password"),
        ("celeryworkers", "celeryworkers", "is the user's own name"),
        ("Shop-App-2026", "shop-app", "is the user's own name"),
        ("kX9wq7TtZ2m", "shop", "has fewer than 12 characters"),
        ("kX9wq7TtZ2mL", "shop", ""),
        ("correct horse battery staple", "shop", ""),
        ("927401638254", "shop", ""),
    ],
)
def test_why_a_password_is_weak(password: str | None, user: str, reason: str) -> None:
    assert weakness(password, user) == reason


def test_a_server_may_ask_for_longer_ones() -> None:
    assert weakness("kX9wq7TtZ2mL", "shop", 16) == "has fewer than 16 characters"


@pytest.mark.parametrize(
    ("password", "user", "reason"),
    [
        ("123451234512", "shop", "is a commonly guessed password"),
        ("123456123456", "shop", ""),
        ("927401638254", "", ""),
        ("aaaaaaaaaaaa", "a", "is the user's own name"),
        ("aaaaaaaaaaaa", "aa", ""),
        ("billingbilling", "billing7", "is the user's own name"),
        ("billingbilling", "", ""),
    ],
)
def test_digits_and_words_that_are_said_again(password: str, user: str, reason: str) -> None:
    assert weakness(password, user) == reason
