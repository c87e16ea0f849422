"""The plan of the role celery_app: what follows from its variables, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from app_plans import BACKEND, BROKER, SECRET, planned, refused, variables
from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.plans import celery_app


def test_the_plan_holds_no_secret() -> None:
    environment = {"TOKEN": SECRET}
    source = {"type": "pip", "packages": ["shop"], "index_url": f"https://u:{SECRET}@pypi.example.org/simple"}
    assert SECRET not in json.dumps(planned(environment=environment, source=source))


def test_the_runtime_reads_what_the_plan_writes(tmp_path: Path) -> None:
    from celeryops_runtime.config_reader import load

    for broker in (BROKER, BACKEND):
        plan = planned(broker_url=broker, queues=["feeds"])
        for key, path in (("configuration", "settings"), ("queues", "queues")):
            (tmp_path / Path(plan["layout"][path]).name).write_text(json.dumps(plan[key]))
        assert [queue.name for queue in load(str(tmp_path / "celery.json")).queues][:2] == ["default", "feeds"]


SYSTEMS, UNFIT = "belongs-to-the-system", "not-an-account-name"


@pytest.mark.parametrize(
    ("name", "value", "identity"),
    [
        ("name", "Shop", "not-an-app-name"),
        ("name", "my-app", "not-an-app-name"),
        ("name", "", "not-an-app-name"),
        ("name", "a" * 26, "not-an-app-name"),
        ("name", "1a", "not-an-app-name"),
        *(("import", value, "not-an-app-path") for value in ("shop.celery:", "shop/celery.py", "shop celery", "")),
        *(("user", value, UNFIT) for value in ("Shop", "1shop", "a" * 33)),
        *(("user", value, SYSTEMS) for value in ("root", "docker", "sudo", "www-data", "systemd-network", "rabbitmq")),
        *(("key_prefix", value, "unsafe-characters") for value in ("shop", "shop_", "", "s h:")),
        ("keep_releases", 0, "less-than"),
        ("exchange", "amq.topic", "not-an-exchange-name"),
        ("python_path", ["srv"], "not-an-absolute-path"),
        ("install_environment", {"A B": "x"}, "not-a-variables-name"),
    ],
)
def test_a_variable_that_is_refused(name: str, value: Any, identity: str) -> None:
    assert told(refused(**{name: value})) == [(identity, f"celery_app_{name}")]


@pytest.mark.parametrize(
    ("user", "word"), [("root", " root"), ("docker", " root"), ("www-data", " system"), ("systemd-x", " system")]
)
def test_why_an_account_is_refused(user: str, word: str) -> None:
    assert refused(user=user)[0].reason.endswith(word)


def test_one_release_is_the_least_that_stays() -> None:
    planned(keep_releases=1)


@pytest.mark.parametrize(
    ("name", "major", "fine"),
    [
        ("Debian", "11", False), ("Fedora", "42", False), ("Debian", "12", True), ("Debian", "13", True),
        ("Debian", "forky/sid", True), ("Ubuntu", "9", True), ("Ubuntu", "24", True),
    ],
)  # fmt: skip
def test_platforms(name: str, major: str, fine: bool) -> None:
    facts = {"distribution": name, "distribution_major_version": major}
    _plan, problems = celery_app.plan(variables(), facts)
    assert bool(problems) is not fine


def test_all_mistakes_come_at_once() -> None:
    problems = refused(name="X-", user="root", broker_url="sqlite://x", settings={"nope": 1}, longest_eta="x")
    assert len({problem.variable for problem in problems}) == 5
