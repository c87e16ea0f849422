"""What a pin of Celery, kombu or redis-py means for an app's settings, workers and delayed tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import (
    App,
    Deployment,
    Machine,
    RunningClass,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules.catalogue import RULES
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.derived import consumer_timeout
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.members import members
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.requirements import (
    in_force,
    is_requirement,
    lines_of,
    pinned,
    rules_out,
)

PLACE = "celery_app_source.packages"
HIGH = RunningClass("shop", "app1", "high", ("default",), stop_timeout=300)
SHOP = App(
    "shop", hosts=("app1",), broker_addresses=("mq1:5672/shop",), queues={"default": "quorum"}, classes=(HIGH,),
    longest_eta=3600, longest_task=1800, variants=(("app1", {}),),
)  # fmt: skip
BEFORE_57 = ["celery==5.6.3", "celery<5.7", "celery~=5.6.1", "celery==5.5.*", "celery<=5.6.9,>=5.4"]
SINCE_57 = ["celery==5.7.0", "celery", "celery>=5.4", "celery<6", "celery==5.*", "celery~=5.4", "django-celery==1.0"]


def told(rule: str, **changes: Any) -> list[str]:
    app = replace(SHOP, **changes)
    stack = Deployment(machines={"app1": Machine("app1", "app1")}, apps={"shop": app})
    (found,) = [one for one in RULES if one.name == rule]
    return [str(finding.problem) for finding in found.find(stack)]


@pytest.mark.parametrize("line", BEFORE_57)
def test_a_setting_that_the_pinned_celery_does_not_have(line: str) -> None:
    own = {"task_acks_on_failure": True, "task_acks_late": True}
    assert told("newer-setting", own_settings=own, requirements=((PLACE, line),)) == [
        (
            f"celery_app_settings.task_acks_on_failure: True is a setting from Celery 5.7 on, and {PLACE} has {line}: "
            "it would change nothing; write nothing there, or requirements that allow celery>=5.7"
        )
    ]


@pytest.mark.parametrize("line", SINCE_57)
def test_a_setting_that_it_may_have(line: str) -> None:
    own = {"task_acks_on_failure": True}
    assert told("newer-setting", own_settings=own, requirements=((PLACE, line),)) == []
    assert told("perhaps-newer-setting", own_settings=own, locked=((PLACE, line),)) == []


def test_a_lock_file_is_a_hint_and_said_once() -> None:
    own, line = {"worker_eta_task_limit": 3}, ("celery_app_source.path", "celery==5.5.3 # uv.lock")
    assert told("newer-setting", own_settings=own, locked=(line,)) == []
    assert told("perhaps-newer-setting", own_settings=own, locked=(line,)) == [
        (
            "celery_app_settings.worker_eta_task_limit: 3 is a setting from Celery 5.6 on, and the app's own lock file "
            "has celery==5.5.3 # uv.lock; write nothing there, or requirements that allow celery>=5.6"
        )
    ]
    assert told("perhaps-newer-setting", own_settings=own, locked=(line,), requirements=(line,)) == []


def test_an_argument_that_the_pinned_celery_does_not_have() -> None:
    classes = (replace(HIGH, extra_arguments=("-E", "--pool-start-method=spawn")), replace(HIGH, name="low"))
    lines = ((PLACE, "celery==5.6.3"),)
    assert told("newer-argument", classes=classes, requirements=lines) == [
        (
            "celery_worker_classes.high.extra_arguments: '--pool-start-method=spawn' is an option from Celery 5.7 on, "
            f"and {PLACE} has celery==5.6.3: no worker would start; write nothing there, or requirements that allow "
            "celery>=5.7"
        )
    ]
    assert told("newer-argument", classes=classes, requirements=((PLACE, "celery>=5.6"),)) == []
    older = (replace(HIGH, extra_arguments=("--disable-prefetch",)),)
    assert told("newer-argument", classes=older, requirements=lines) == []
    assert len(told("newer-argument", classes=older, requirements=((PLACE, "celery<5.6"),))) == 1


@pytest.mark.parametrize(
    ("lines", "broker", "reason"),
    [
        (
            ("celery==5.4.0", "kombu==5.7.0"),
            "redis",
            "'kombu==5.7.0' does not fit: celery 5.4.0 and kombu 5.7.0 start no",
        ),
        (("celery==5.4.0", "kombu==5.7.0"), "rabbitmq", ""),
        (("celery==5.4.0", "kombu==5.6.2", "redis==5.3.1"), "redis", ""),
        (("celery==5.5.3", "kombu==5.7.0"), "rabbitmq", "'kombu==5.7.0' does not fit: celery 5.5.3 does not work with"),
        (("celery==5.7.0", "kombu==5.7.0", "redis==5.3.1"), "redis", "'kombu==5.7.0' does not fit: celery 5.7.0 with"),
        (("celery==5.7.0", "kombu>=5.5", "redis==5.3.1"), "redis", ""),
        (("celery==5.5.*", "kombu==5.7.0"), "rabbitmq", ""),
        (("celery[redis]==5.6.3",), "redis", ""),
    ],
)
def test_pins_that_do_not_work_together(lines: tuple[str, ...], broker: str, reason: str) -> None:
    found = told("version-pair", broker=broker, requirements=tuple((PLACE, line) for line in lines))
    assert len(found) == bool(reason)
    assert all(text.startswith(f"{PLACE}: {reason}") for text in found)


def test_a_kombu_that_cannot_delay_leaves_it_to_the_workers() -> None:
    old = {"requirements": ((PLACE, "kombu==5.4.2"),), "kombu_delays": False}
    app = replace(SHOP, **old)
    assert (app.quorum, app.delays_in_broker, SHOP.delays_in_broker) == (True, False, True)
    assert app.unacknowledged(HIGH) == SHOP.unacknowledged(HIGH) + 3600
    assert told("eta-in-worker", **old) == []
    given = frozenset({"celery_app_longest_eta"})
    assert told("eta-in-worker", **old, given=given) == [
        (
            f"{PLACE}: 'kombu==5.4.2' leaves delayed tasks to the workers, which hold them unacknowledged: only kombu "
            "5.5 or newer delays them in RabbitMQ; write kombu>=5.5"
        )
    ]
    assert told("eta-in-worker", given=given) == []
    three = {"longest_eta": 3 * 86400, "variables": {"celery_app_longest_eta": "3d"}}
    assert len(told("long-eta", **old, **three)) == 1
    assert told("long-eta", **three) == []


@pytest.mark.parametrize(
    ("source", "hours"),
    [
        ({"packages": ["kombu==5.7.0"]}, 2),
        ({"constraints": "kombu<5.5"}, 16),
        ({"requirements": "celery==5.4.0\nkombu==5.4.2\n"}, 16),
        ({"constraints": "kombu<5.5", "overrides": ["kombu>=5.6"]}, 2),
        (None, 2),
    ],
)
def test_the_consumer_timeout_follows(source: object, hours: int) -> None:
    said = {"celery_app_source": source, "celery_app_longest_eta": "12h", "celery_app_prefetch_multiplier": 1}
    groups = {"celery_workers": ["app1"], "rabbitmq": ["mq1"]}
    (app,) = members(groups, lambda _host, name, default: said.get(name, default)).values()
    assert consumer_timeout(app) == hours * 3600


def test_an_override_wins_over_every_other_line_of_its_package() -> None:
    source = {
        "packages": ["shop", "celery==5.6.3"],
        "requirements": "Celery[redis]<5.7\nkombu<5.5\n",
        "constraints": "celery<5.7",
        "overrides": ["celery[redis]>=5.7"],
    }
    lines = lines_of(source, ["celery[redis]"])
    assert len(lines) == 7
    assert in_force(lines) == [
        ("celery_app_source.packages", "shop"),
        ("celery_app_source.requirements", "kombu<5.5"),
        ("celery_app_source.overrides", "celery[redis]>=5.7"),
    ]
    assert lines_of(None, []) == lines_of("x", ()) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("celery==5.6.3", ("celery", "5.6.3")),
        ("Celery[redis] === 5.6.3 ; python_version>'3'  # why", ("celery", "5.6.3")),
        ("celery==5.6.*", ("", "")),
        ("celery>=5.6", ("", "")),
        ("-r base.txt", ("", "")),
        ("", ("", "")),
    ],
)
def test_one_version(line: str, expected: tuple[str, str]) -> None:
    assert pinned(line) == expected


def test_lines_that_are_no_requirements() -> None:
    assert [is_requirement(line) for line in ("celery", "celery[redis]>=5.7", ">=5.7", "./x", "")] == [True] * 2 + [
        False
    ] * 3
    assert rules_out("./celery==5.6", "celery", (5, 7)) is False
    assert rules_out("celery==5.6", "kombu", (5, 7)) is False
