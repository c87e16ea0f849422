"""Which tests of a stack belong to which run of it.

Some can be shown by one broker only, and some have a host of their own, so that the longest run is not as long as all
of them together. `make test` has some on one stack only, Debian 13 with RabbitMQ: what takes minutes (the marker
`long`), and what shows the same on every release of Debian and with every broker (`alike`), such as what the control
machine decides or what a class's unit says. It does without what takes minutes and is seldom touched by a change
(`seldom`). `make test-all` has all of them on every stack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: How much of a stack's tests a run has: what `make test` wants of every stack, what it wants of one, and all.
BRIEF, FULL, THOROUGH = 0, 1, 2
#: Marker -> how much a run has to have, so that it has such a test.
NEEDS = {"alike": FULL, "long": FULL, "seldom": THOROUGH}
#: What a run may have of a scenario's tests: those without the marker `apart`; all, which is for a person; or only the
#: modules that it has whole.
FIRST, EVERYTHING, NOTHING = "first", "all", "none"
#: The hosts that the marker may name, `apart` where it names none.
APART = ("apart", "releases")


class UnknownShardError(Exception):
    """A marker or a run names a host that there is not."""


def shard_of(marks: Mapping[str, Sequence[Any]]) -> str:
    """Return on which host a test runs, by its markers."""
    if "apart" not in marks:
        return FIRST
    named = str(marks["apart"][0]) if marks["apart"] else APART[0]
    if named not in APART:
        raise UnknownShardError(f"apart({named!r}): write one of {', '.join(APART)}")
    return named


def belongs(
    module: str,
    marks: Mapping[str, Sequence[Any]],
    *,
    broker: str,
    depth: int,
    shard: str = EVERYTHING,
    modules: Sequence[str] = (),
) -> bool:
    """Tell whether a test is part of a run.

    Args:
        module: name of the test's module, such as ``test_stops``.
        marks: name of each of its markers -> that one's arguments.
        broker: ``rabbitmq`` or ``redis``.
        depth: how much of the stack's tests the run has: BRIEF, FULL or THOROUGH.
        shard: which part of the tests the run has.
        modules: those that the run has whole, whatever their markers say but for the broker, without ``test_``.

    Raises:
        UnknownShardError: the run or the test names a host that there is not.
    """
    known = (FIRST, *APART, EVERYTHING, NOTHING)
    if shard not in known:
        raise UnknownShardError(f"CELERYOPS_SHARD={shard}: write one of {', '.join(known)}")
    home = shard_of(marks)
    return broker in (marks.get("broker") or [broker]) and (
        module.removeprefix("test_") in modules
        or (shard in {home, EVERYTHING} and all(depth >= NEEDS.get(mark, BRIEF) for mark in marks))
    )
