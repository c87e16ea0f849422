"""What an app's configuration counts on, for the release to be compared with."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.newer_features import needs, worker_options
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.worker_classes import read_classes


def found(*, quorum: bool = False, **values: Any) -> list[dict[str, str]]:
    return needs({"name": "shop", "settings": {}, **values}, quorum=quorum)


def test_settings_that_not_every_celery_has() -> None:
    settings = {"task_acks_on_failure": True, "task_time_limit": 5, "worker_eta_task_limit": 3}
    assert [(need["package"], need["since"], need["says"]) for need in found(settings=settings)] == [
        ("celery", "5.7", "celery_app_settings.task_acks_on_failure: a setting from celery 5.7 on"),
        ("celery", "5.6", "celery_app_settings.worker_eta_task_limit: a setting from celery 5.6 on"),
    ]
    assert found(settings=settings)[0]["instead"] == "nothing there, or celery>=5.7 into celery_app_source.overrides"
    assert len(found(settings=settings, accept=["newer-setting:task_acks_on_failure"])) == 1
    assert found(settings=settings, accept=["newer-setting"]) == []


def test_options_of_workers() -> None:
    words = ["--pool-start-method=spawn", "-E"]
    said = {
        "celery_worker_classes": {
            "high": {"extra_arguments": words},
            "low": {},
            "none": {"extra_arguments": "--pool-start-method=fork"},
        },
        "celery_worker_defaults": {"extra_arguments": ["--disable-prefetch"]},
    }
    classes, _problems = read_classes(said)
    # Those of two hosts that are alike.
    options = worker_options([*classes.values(), *classes.values()])
    assert options == [
        {"variable": "celery_worker_classes.high.extra_arguments", "word": words[0], "since": "5.7"},
        {"variable": "celery_worker_defaults.extra_arguments", "word": "--disable-prefetch", "since": "5.6"},
    ]
    assert [need["says"] for need in found(worker_options=options)] == [
        f"celery_worker_classes.high.extra_arguments: {words[0]}, an option of workers from celery 5.7 on",
        "celery_worker_defaults.extra_arguments: --disable-prefetch, an option of workers from celery 5.6 on",
    ]


@pytest.mark.parametrize(
    ("values", "counted"),
    [
        ({}, True),
        ({"source": {"packages": ["kombu<5.6"]}}, True),
        ({"source": {"packages": ["kombu<5.5"]}}, False),
        ({"source": {"constraints": "kombu==5.4.2\n"}}, False),
        ({"source": {"constraints": "kombu==5.4.2\n", "overrides": ["kombu>=5.6"]}}, True),
        ({"source": {"overrides": ["kombu==5.4.2"]}}, False),
        ({"accept": ["eta-in-worker"]}, False),
        ({"accept": ["eta-in-worker:shop"]}, False),
        ({"accept": ["eta-in-worker:other"]}, True),
    ],
)
def test_delays_in_the_broker_need_a_kombu_that_can(values: dict[str, Any], counted: bool) -> None:
    told = found(quorum=True, **values)
    assert [(need["package"], need["since"]) for need in told] == ([("kombu", "5.5")] if counted else [])
    assert found(quorum=False, **values) == []
