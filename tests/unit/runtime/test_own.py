"""What an app says itself of settings that the shared configuration decides, in every way in which it can say it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import KOMBU
from .test_loader import ROWS

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Python = Callable[..., subprocess.CompletedProcess[str]]

TASKS = """
import json, sys
import precedence_apps as rows
from celeryops_runtime import own
def nothing():
    pass
def made(name):
    app = getattr(rows, name)()
    for task in ("shop.pay", "shop.other"):
        app.task(name=task, shared=False)(nothing)
    app.finalize()
    return app.loader.own_report()
print(json.dumps({name: made(name) for name in sys.argv[1:]}))
"""
HEAD = """
import json
from celery import Celery
from celeryops_runtime import own
def nothing():
    pass
"""
DIFFERENT = [
    ("accept_content", "['pickle']", "['json']"),
    ("task_acks_late", "False", "True"),
    ("task_default_queue", "'own'", "'default'"),
    ("task_queues", "own", "default, payments"),
    ("task_routes", "shop.pay to own", "shop.pay to payments"),
]


@pytest.fixture(scope="module")
def reports() -> dict[str, Any]:
    """Room for what all apps say, asked once."""
    return {}


@pytest.mark.parametrize("row", [row for row in ROWS if row != "plain"])
def test_what_an_app_says_is_told_from_what_holds(python: Python, reports: dict[str, Any], row: str) -> None:
    if not reports:
        done = python("-c", TASKS, *ROWS)
        assert done.returncode == 0, done.stderr
        reports.update(json.loads(done.stdout))
    found = [(entry["setting"], entry["app"], entry["here"]) for entry in reports[row]["replaced"]]
    assert found == DIFFERENT
    assert reports["plain"] == {"replaced": [], "queues": {}}
    assert "invalid" not in json.dumps(reports)


def told(python: Python, program: str) -> list[list[str]]:
    """What is told of the app of a program."""
    shown = "print(json.dumps([[e['setting'], e['app'], e['here']] for e in own.replaced(app)]))"
    done = python("-c", f"{HEAD}{program}\napp.finalize()\n{shown}")
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("late", ["conf.update(task_acks_late=False)", "conf.task_acks_late = False"])
def test_what_is_said_when_the_settings_are_read_already_counts(python: Python, late: str) -> None:
    program = f"app = Celery('shop')\nassert app.conf.task_serializer\napp.{late}"
    assert told(python, program) == [["task_acks_late", "False", "True"]]


def test_what_is_the_same_is_not_told(python: Python) -> None:
    program = """
app = Celery("shop", task_acks_late=True, accept_content={"json"}, task_queues={"payments": {}}, task_serializer="json",
    task_default_queue="default", task_routes=[{"shop.pay": "payments", "shop.*": {"queue": "default"}}])
app.task(name="shop.pay")(nothing)
app.task(name="shop.mail")(nothing)
"""
    assert told(python, program) == []


def test_tasks_that_name_a_queue_themselves_are_told_with_it(python: Python) -> None:
    program = """
from kombu import Queue
app = Celery("shop", task_routes={"shop.routed": "payments"})
for name, queue in (("shop.text", "far"), ("shop.object", Queue("near")), ("shop.routed", None)):
    app.task(name=name, queue=queue)(nothing)
app.finalize()
print(json.dumps(app.loader.own_report()["queues"]))
"""
    done = python("-c", HEAD + program)
    assert json.loads(done.stdout) == {"shop.text": "far", "shop.object": "near"}, done.stderr


def test_routes_are_compared_by_where_tasks_go(python: Python) -> None:
    program = """
class Router:
    def route_for_task(self, name, args=None, kwargs=None):
        return "feeds" if name == "feed.read" else None
def function(name, args, kwargs, options, task=None, **more):
    return {"queue": "mails"} if name == "shop.mail" else None
app = Celery("shop", task_routes=(Router(), function, ("shop.pay", "payments"), {"elsewhere.send": {"queue": "far"}}))
for name in ("feed.read", "shop.mail", "shop.pay", "shop.payout", "shop.none"):
    app.task(name=name)(nothing)
app.task(name="shop.own", queue="far")(nothing)
"""
    # A pair as a route is no mapping of one entry to Celery either: it takes pairs in a list.
    program = program.replace('("shop.pay", "payments")', '[("shop.pay", "payments")]')
    assert told(python, program) == [[
        "task_routes",
        "elsewhere.send to far, feed.read to feeds, shop.mail to mails and 1 more",
        "elsewhere.send to default, feed.read to default, shop.mail to default",
    ]]  # fmt: skip


def test_what_cannot_be_compared_stops_nothing(python: Python) -> None:
    program = """
def broken(name, args, kwargs, options, task=None, **more):
    return {"queue": kwargs["tenant"]}
app = Celery("shop", task_routes=broken, task_acks_late=False)
app.task(name="shop.pay")(nothing)
"""
    assert told(python, program) == [["task_acks_late", "False", "True"]]


ROUTED = """
import json
from celery import Celery
from kombu import Queue
def nothing():
    pass
class Router:
    def route_for_task(self, name, args=None, kwargs=None):
        return "feeds" if name == "feed.read" else None
def function(name, args, kwargs, options, task=None, **more):
    return {"queue": "payments"} if name == "shop.mail" and kwargs["paid"] else None
class django:
    CELERY_TASK_ROUTES = {"shop.pay*": "payments"}
def where(app, task, **options):
    found = app.amqp.router.route(options, task, kwargs={"paid": True})
    queue = found["queue"]
    return [queue.name, found.get("exchange"), found.get("routing_key"), queue.exchange.name, queue.routing_key]
"""


@pytest.fixture
def own_routes(document: dict[str, Any], config_file: Path) -> None:
    """The app's own routes hold."""
    document["routes"] = "from-app"
    config_file.write_text(json.dumps(document), encoding="utf-8")


def routed(python: Python, program: str, shown: str) -> Any:
    done = python("-c", f"{ROUTED}{program}\napp.finalize()\nprint(json.dumps({shown}))")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.usefixtures("own_routes")
@pytest.mark.parametrize(
    "said",
    [
        "Celery('shop', task_routes={'shop.pay*': {'queue': 'payments', 'exchange': 'own', 'routing_key': 'own.key'}})",
        "Celery('shop', task_routes=[{'shop.payout': 'default'}, {'shop.pay*': {'queue': Queue('payments')}}])",
        "Celery('shop', task_routes=([('shop.pay*', {'routing_key': 'payments', 'exchange': 'own'})],))",
        "Celery('shop'); app.conf.task_serializer; app.conf.task_routes = {'shop.pay*': 'payments'}",
        "Celery('shop'); app.config_from_object(django, namespace='CELERY')",
        "Celery('shop'); app.finalize(); where(app, 'a'); app.conf.update(task_routes={'shop.pay*': 'payments'})",
    ],
    ids=["dictionary", "list", "key", "attribute", "django", "late"],
)
def test_the_apps_own_routes_hold_if_the_inventory_says_so(python: Python, said: str) -> None:
    ways = routed(python, f"app = {said}", "[where(app, name) for name in ('shop.pay', 'shop.other')]")
    assert ways == [
        ["payments", None, None, "tasks", "payments"],
        ["default", None, None, "tasks", "default"],
    ]


@pytest.mark.usefixtures("own_routes")
def test_functions_and_classes_route_as_the_app_has_them(python: Python) -> None:
    program = """
app = Celery("shop", task_routes=(function, "__main__.Router", {"*": "default"}))
for name in ("feed.read", "shop.mail", "shop.none"):
    app.task(name=name)(nothing)
app.task(name="shop.own", queue="far")(nothing)
"""
    ways = routed(python, program, "[where(app, name)[0] for name in ('feed.read', 'shop.mail', 'shop.none')]")
    assert ways == ["feeds", "payments", "default"]
    report = routed(python, program, "app.loader.own_report()['routes']")
    assert report == {
        "named": {"*": "default"},
        "tasks": {"feed.read": "feeds", "shop.none": "default", "shop.own": "far"},
        "asked": ["__main__.function", "__main__.Router"],
        "failed": {"shop.mail": "KeyError"},
    }


@pytest.mark.usefixtures("own_routes")
def test_a_call_and_a_retry_come_before_the_apps_routes(python: Python) -> None:
    program = "app = Celery('shop', task_routes={'shop.*': 'default'})"
    shown = "[where(app, 'shop.pay', queue='payments')[0], where(app, 'shop.pay', routing_key='payments')[0]]"
    # A retry names the key of its delivery alone (KeepQueue, on a kombu that delays in the broker).
    assert routed(python, program, shown) == ["payments", "payments" if KOMBU >= (5, 5) else "default"]


@pytest.mark.usefixtures("own_routes")
def test_routes_that_cannot_be_read_are_told_as_such(python: Python) -> None:
    program = "app = Celery('shop', task_routes='shop.misspelt.Router')"
    done = python("-c", f"{ROUTED}{program}\napp.finalize()\napp.loader.own_report()")
    assert (
        "celery_app_routes is from-app, and task_routes of the app cannot be read: ModuleNotFoundError" in done.stderr
    )


@pytest.mark.usefixtures("own_routes")
def test_an_app_with_its_own_routes_can_be_pickled(python: Python) -> None:
    program = "import pickle\napp = Celery('shop', task_routes={'shop.*': 'payments'})\nassert app.conf.task_routes"
    shown = "[where(pickle.loads(pickle.dumps(app)), 'shop.a')[0], repr(app.conf.task_routes[-1])]"
    assert routed(python, program, shown) == ["payments", "<the app's own routes>"]
