"""One function of this package around one of a library, however often it is asked for."""

from __future__ import annotations

import types
from typing import Any

import pytest

from celeryops_runtime.around import MARK, around, run_each


def louder(own: Any, text: str) -> str:
    return f"{own(text)}!"


def test_a_function_is_replaced_once_for_each_mark() -> None:
    def say(text: str) -> str:
        """Say it."""
        return text

    library = types.SimpleNamespace(say=say)
    for _each in range(2):
        around(library, "say")(louder)
    assert library.say("yes") == "yes!"
    assert (library.say.__name__, library.say.__doc__, library.say.__wrapped__) == ("say", "Say it.", say)
    assert hasattr(library.say, MARK)
    for _each in range(2):
        around(library, "say", "__another__")(louder)
    assert library.say("yes") == "yes!!"
    around(library, "say")(louder)
    assert library.say("yes") == "yes!!", "a mark holds whoever is around it"
    with pytest.raises(AttributeError):
        around(library, "sing")(louder)


def test_what_a_version_lacks_keeps_nothing_else_from_it(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    def lacks() -> None:
        raise AttributeError("no such function")

    def has() -> None:
        done.append("has")

    run_each((lacks, has))
    assert done == ["has"]
    assert "lacks is not possible with this version" in caplog.text
