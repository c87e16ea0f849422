"""Variables of the role celery_app, and what its plan makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans import celery_app

ROLE = Path(__file__).resolve().parents[2] / "roles" / "celery_app"
SECRET = "hunter2hunter2"
BROKER = f"amqp://shop:{SECRET}@mq1:5672/shop"
BACKEND = f"redis://shop:{SECRET}@cache1:6379/0"


def variables(**own: Any) -> dict[str, Any]:
    """The role's variables as Ansible hands them over: defaults, templates replaced, and what the test sets."""
    given = {
        "name": "shop",
        "import": "shop.celery:app",
        "source": {"type": "pip", "packages": ["shop==1.4.2"]},
        "user": "shop",
        "group": "shop",
        "broker_url": BROKER,
        "result_backend": BACKEND,
        "key_prefix": "shop:",
        "queues": [],
        "install_environment": {},
        "longest_task": "30m",
        "prefetch_multiplier": 1,
        "visibility_timeout": "",
        "sentinel_master_name": "",
        "sentinel_results_master_name": "",
        "sentinel_user": "",
        "sentinel_password": "",
        **own,
    }
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    return defaults | {f"celery_app_{name}": value for name, value in given.items()}


def planned(**own: Any) -> dict[str, Any]:
    plan, problems = celery_app.plan(variables(**own), {})
    assert problems == []
    return plan


def settings(**own: Any) -> dict[str, Any]:
    found: dict[str, Any] = planned(**own)["configuration"]["settings"]
    return found


def refused(facts: dict[str, Any] | None = None, **own: Any) -> list[Problem]:
    plan, problems = celery_app.plan(variables(**own), facts or {})
    assert problems, "nothing was refused"
    assert plan == {}
    assert SECRET not in "\n".join(map(str, problems))
    return problems


def only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, [str(problem) for problem in problems]
    return problems[0]
