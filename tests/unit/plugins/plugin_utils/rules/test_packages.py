"""Packages of an app against its settings and workers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from deployments import DEFAULT, HIGH, SHOP, STACK, about, beats, found, only, with_app

from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import Deployment, Duty

OVERRIDES = "celery_app_source.overrides"


def test_an_old_celery_is_named_with_what_wins_over_it() -> None:
    lines = (("celery_app_source.packages", "shop==1"), ("celery_app_source.constraints", " celery==5.3.6 "))
    finding = only(with_app(requirements=lines), "old-celery")
    assert about(finding) == ("celery_app_source.constraints", "celery==5.3.6", "celery", "shop")
    assert "celery>=5.4, " in finding.problem.instead
    assert OVERRIDES in finding.problem.instead
    kombu = only(with_app(requirements=((OVERRIDES, "kombu<5.3"),)), "old-celery")
    assert about(kombu) == (OVERRIDES, "kombu<5.3", "kombu", "shop")
    assert kombu.problem.instead == "kombu>=5.3.4"


def test_flowers_own_celery_is_new_enough() -> None:
    duty = Duty("flower", "shop", "app1", {"flower_packages": ["flower>=2.2", "celery==5.3"]})
    assert only(replace(STACK, duties=(duty,)), "old-celery").problem.variable == "flower_packages"


FROZEN = ("billiard==4.2", "celery==5.7.0", "shop==1.4.2", "vine==5.1")


def frozen(*more: str, **changes: Any) -> Deployment:
    lines = tuple(("celery_app_source.requirements", line) for line in (*FROZEN, *more))
    return with_app(**{"requirements": lines, **changes})


@pytest.mark.parametrize(
    ("scheduler", "package"),
    [
        ("redbeat.RedBeatScheduler", "celery-redbeat"),
        ("redbeat:RedBeatScheduler", "celery-redbeat"),
        ("redbeat.schedulers:RedBeatScheduler", "celery-redbeat"),
        ("django_celery_beat.schedulers:DatabaseScheduler", "django-celery-beat"),
    ],
)
def test_a_scheduler_whose_package_is_not_installed(scheduler: str, package: str) -> None:
    duties = beats(scheduler).duties
    finding = only(replace(frozen(), duties=duties), "missing-package")
    assert about(finding) == ("celery_beat_scheduler", scheduler, package, "shop")
    assert found(replace(frozen(f"{package}==2"), duties=duties)) == {}
    # Another package may bring it, or somebody else install it.
    assert found(replace(STACK, duties=duties)) == {}
    listed = with_app(requirements=(("celery_app_source.packages", "shop==1.4.2"),))
    assert found(replace(listed, duties=duties)) == {}
    assert found(replace(frozen(), duties=(replace(duties[0], app="blog"),))) == {}
    inside = {"variables": {**SHOP.variables, "celery_app_source": {"requirements_file": "requirements.txt"}}}
    assert found(replace(frozen(**inside), duties=duties)) == {}
    constraints = tuple(("celery_app_source.constraints", line) for line in FROZEN)
    assert found(replace(with_app(requirements=constraints), duties=duties)) == {}
    setting = replace(frozen(own_settings={"beat_scheduler": scheduler}), duties=beats("").duties)
    assert only(setting, "missing-package").problem.variable == "celery_app_settings.beat_scheduler"


def test_packages_that_nothing_is_known_of_are_not_missed() -> None:
    for scheduler in ("", "shop.beat:Scheduler", "redbeater.Scheduler", "celery.beat.PersistentScheduler"):
        assert found(replace(frozen(), duties=beats(scheduler).duties)) == {}


@pytest.mark.parametrize(
    ("changes", "package", "variable"),
    [
        ({"results_at": "django-db"}, "django-celery-results", "celery_app_result_backend"),
        ({"results_at": "django-cache"}, "django-celery-results", "celery_app_result_backend"),
        (
            {"classes": (replace(HIGH, pool="gevent"), DEFAULT, replace(HIGH, pool="gevent", host="app2"))},
            "gevent",
            "celery_worker_classes.high.pool",
        ),
    ],
)
def test_what_else_needs_a_package(changes: dict[str, Any], package: str, variable: str) -> None:
    finding = only(frozen(**changes), "missing-package")
    assert (finding.problem.variable, finding.subject) == (variable, package)
    assert found(frozen(package, **changes)) == {}
