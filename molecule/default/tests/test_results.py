"""Whose results are kept, by real exchange: rules, errors, expiry, chords, and callers who wait in vain."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

#: Whether the run holds the app to a version before 5.7 (the inventory's test_celery).
OLDER_CELERY = bool(os.environ.get("CELERYOPS_CELERY"))
#: What the rules of the inventory name: shop.stock.seen is kept, shop.reports.partial_sum ignored.
PRELUDE = """
import logging
from celery import chain, chord, group
told = []
logging.getLogger("celeryops.runtime").addHandler(type("Told", (logging.Handler,), {
    "emit": lambda self, record: told.append(record.getMessage())})())

def sign(name, *args):
    return app.signature(f"shop.{name}", args=args, immutable=True)

def part(*numbers):
    return sign("reports.partial_sum", numbers)

def after(name="reports.daily_sales", *args):
    # The class has one process, so what was sent to it before is over when this is.
    sign(name, *(args or (1, 1, 0))).apply_async().get(timeout=60)

collect = app.signature("celery.accumulate")
"""
IGNORED = (
    "shop.reports.partial_sum: its result is {}, but celery_app_results (shop.reports.part*: ignore) ignores it: {}"
)
CHORD = (
    "shop.reports.partial_sum: its result is kept, although celery_app_results (shop.reports.part*: ignore) "
    "ignores it: the task is part of a chord"
)


@pytest.fixture(scope="module")
def send(produce: Callable[..., Any]) -> Callable[[str], Any]:
    """Run Python in a producer, and return the value of its last line."""

    def run(text: str) -> Any:
        *lines, last = text.splitlines()
        return produce("\n".join([PRELUDE, *lines, f"print(json.dumps({last}))"]))

    return run


@pytest.fixture(scope="module")
def stored(ask_redis: Callable[[str], str]) -> Callable[[str], int]:
    """Seconds until a task's result expires; -2 if there is none."""
    return lambda task_id: int(ask_redis(f"TTL shop:celery-task-meta-{task_id}"))


def test_an_ignored_result_is_not_stored_but_its_error_is_and_expires(
    send: Callable[[str], Any], stored: Callable[[str], int], inventory: dict[str, Any]
) -> None:
    good, bad, state = send(
        "good, bad = part(1, 2).apply_async(), part('x').apply_async()\nafter()\n[good.id, bad.id, bad.state]"
    )
    assert stored(good) == -2
    assert state == "FAILURE"
    # The default of celery_app_result_expires.
    assert "celery_app_result_expires" not in inventory
    assert 86_300 < stored(bad) <= 86_400


def test_a_rule_wins_over_the_task_and_a_call_over_the_rule(
    send: Callable[[str], Any], stored: Callable[[str], int]
) -> None:
    # Once by name, and once through the task itself, which a web server has imported as well.
    value, kept, ignored = send(
        "from shop.reports import partial_sum\nfrom shop.stock import seen\n"
        "by_name, itself = sign('stock.seen', 'a').apply_async(), seen.delay('b')\n"
        "wanted = partial_sum.apply_async(([1, 2],), ignore_result=False)\n"
        "silent, unwanted = partial_sum.delay([1]), seen.apply_async(('c',), ignore_result=True)\n"
        "values = [by_name.get(timeout=60)['article'], itself.get(timeout=60)['article']]\n"
        "values += [wanted.get(timeout=60)['sum']]\n"
        "after(); after('stock.count', 'x')\n"
        "[values, [by_name.id, itself.id, wanted.id], [silent.id, unwanted.id]]"
    )
    assert value == ["a", "b", 3]
    assert [task for task in kept if stored(task) <= 0] == []
    assert [task for task in ignored if stored(task) != -2] == []


def test_a_worker_decides_for_a_sender_that_knows_no_rules(
    send: Callable[[str], Any], stored: Callable[[str], int]
) -> None:
    ids = send(
        "# Celery's own send_task, as in an app without the line in its unit\n"
        "app.conf.task_routes\ndel app.__dict__['send_task'], app.amqp.__dict__['create_task_message']\n"
        "sent = [app.send_task('shop.reports.partial_sum', ([1],)), app.send_task('shop.stock.seen', ('a',))]\n"
        "after(); after('stock.count', 'x')\n[one.id for one in sent]"
    )
    # Before 5.7 such a sender says False where its caller says nothing, and the worker keeps what it was asked for.
    assert (stored(ids[0]) == -2) is not OLDER_CELERY
    assert stored(ids[1]) > 0


def test_nobody_hangs_on_an_ignored_result_and_the_rule_is_named(send: Callable[[str], Any]) -> None:
    values, told = send(
        "values = [part(1).apply_async().get(timeout=60), group([part(1), part(2)]).apply_async().get(timeout=60)]\n"
        "[values, told]"
    )
    assert values == [None, [None, None]]
    assert told == [IGNORED.format("waited for", "get() returns None at once")]


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        ("[part(1), part(2, 3)]", [1, 5]),
        ("[group(part(1), part(2)), part(3)]", [1, 2, 3]),
        ("[chain(part(1), part(4)), part(5)]", [4, 5]),
        ("[chord([part(1), part(2)], part(6)), part(7)]", [6, 7]),
    ],
)
def test_a_chord_of_ignored_parts_gets_all_their_values(
    send: Callable[[str], Any], stored: Callable[[str], int], header: str, answer: Any
) -> None:
    value, told, last = send(
        "def sums(value):\n"
        "    return value['sum'] if isinstance(value, dict) else [sums(one) for one in value]\n"
        f"whole = chord({header})(collect)\n"
        "[sums(whole.get(timeout=30)), told, whole.parent.results[-1].id]"
    )
    # Celery flattens a group among the parts, and does not keep its order.
    assert [sorted(value[0])] == [answer]
    assert stored(last) > 0
    assert told.count(CHORD) == 1
