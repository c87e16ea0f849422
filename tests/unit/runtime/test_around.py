"""One function of this package around one of a library, however often it is asked for."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

import pytest

from celeryops_runtime.around import MARK, put_around, run_each

if TYPE_CHECKING:
    from collections.abc import Callable


def louder(own: Any) -> Callable[..., Any]:
    def replacement(text: str) -> str:
        return f"{own(text)}!"

    return replacement


def test_a_function_is_replaced_once_for_each_mark() -> None:
    def say(text: str) -> str:
        """Say it."""
        return text

    library = types.SimpleNamespace(say=say)
    for _each in range(2):
        put_around(library, "say", louder)
    assert library.say("yes") == "yes!"
    assert (library.say.__name__, library.say.__doc__, library.say.__wrapped__) == ("say", "Say it.", say)
    assert hasattr(library.say, MARK)
    for _each in range(2):
        put_around(library, "say", louder, "__another__")
    assert library.say("yes") == "yes!!"
    put_around(library, "say", louder)
    assert library.say("yes") == "yes!!", "a mark holds whoever is around it"
    with pytest.raises(AttributeError):
        put_around(library, "sing", louder)


def test_what_a_version_lacks_keeps_nothing_else_from_it(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    def lacks() -> None:
        raise AttributeError("no such function")

    def has() -> None:
        done.append("has")

    run_each((lacks, has))
    assert done == ["has"]
    assert "lacks is not possible with this version" in caplog.text
