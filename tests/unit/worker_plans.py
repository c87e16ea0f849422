"""Variables of the role celery_worker, and what its plan makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import render
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.celery_worker import plan

ROLE = Path(__file__).resolve().parents[2] / "roles" / "celery_worker"


def variables(**changes: Any) -> dict[str, Any]:
    """Return the role's defaults with ``changes``."""
    values: dict[str, Any] = {
        "app": "shop",
        "import": "shop.celery:app",
        "user": "shop",
        "group": "shop",
        "default_queue": "default",
        "defaults": {},
        "classes": {"default": {}},
        "group_classes": {},
        "host_classes": {},
        "log_max_size": "100M",
        "log_keep": 14,
    }
    return {f"celery_worker_{name}": value for name, value in {**values, **changes}.items()}


def planned(**changes: Any) -> dict[str, Any]:
    """Return the plan for ``changes``, which must have no mistakes."""
    result, problems = plan(variables(**changes), {})
    assert told(problems) == []
    return result


def refused(**changes: Any) -> list[Problem]:
    """Return the mistakes in ``changes``."""
    problems = plan(variables(**changes), {})[1]
    assert problems != []
    return problems


def one(**keys: Any) -> dict[str, Any]:
    """Return the plan of a single class with ``keys``."""
    classes: list[dict[str, Any]] = planned(classes={"high": keys})["classes"]
    assert len(classes) == 1
    return classes[0]


def unit_text(name: str, **keys: Any) -> str:
    """Return the unit of a class as the role writes it."""
    (entry,) = planned(classes={name: keys})["classes"]
    return render(ROLE / "templates" / "worker.service.j2", {"app": "shop", **entry})


def unit(**keys: Any) -> list[str]:
    """Return the lines of the unit of a single class."""
    return unit_text("high", **keys).splitlines()


def command(**keys: Any) -> str:
    """Return the command line of a single class."""
    return str(one(**keys)["command"])
