"""Which tests of a stack belong to which run of it.

Some can be shown by one broker only, and some have a host of their own, so that the longest run is not as long as all
of them together. `make test` has some on one stack only, Debian 13 with RabbitMQ: what takes minutes (the marker
`long`), and what shows the same on every release of Debian and with every broker (`alike`), such as what the control
machine decides or what a class's unit says. `make test-all` has them on every stack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Markers of tests that only a thorough run has on every stack.
ONE_STACK = frozenset({"alike", "long"})
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
    thorough: bool,
    shard: str = EVERYTHING,
    modules: Sequence[str] = (),
) -> bool:
    """Tell whether a test is part of a run.

    Args:
        module: name of the test's module, such as ``test_stops``.
        marks: name of each of its markers -> that one's arguments.
        broker: ``rabbitmq`` or ``redis``.
        thorough: whether the run has what one stack is enough for in `make test`.
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
        or (shard in {home, EVERYTHING} and (thorough or ONE_STACK.isdisjoint(marks)))
    )
