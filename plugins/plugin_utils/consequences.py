# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""Mistakes that only follow from others: a default that is derived from a wrong value is wrong as well."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from typing import Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.stack import CLASS_LEVELS

_SERVERS = ("rabbitmq_port", "rabbitmq_listen_addresses", "redis_port", "redis_bind", "celery_app_broker")
#: Where the roles meet (playbooks/vars/stack.yml): name -> what it is worked out from.
JOINTS: Mapping[str, tuple[str, ...]] = {
    "celeryops_queues": (*CLASS_LEVELS, "celery_worker_defaults"),
    "celeryops_longest_task": (*CLASS_LEVELS, "celery_worker_defaults", "celery_app_settings"),
    "celeryops_visibility_timeout": (*CLASS_LEVELS, "celery_worker_defaults", "celery_app_settings"),
    "celeryops_consumer_timeout": (
        *CLASS_LEVELS, "celery_worker_defaults", "celery_app_settings", "celery_app_longest_task",
        "celery_app_longest_eta", "celery_app_queue_type",
    ),
    "celeryops_broker_url": (*_SERVERS, "celery_app_name"),
    "celeryops_flower_broker_url": (*_SERVERS, "celery_app_name"),
    "celeryops_result_backend": ("redis_port", "redis_bind", "celery_app_name"),
    "celeryops_broker_api": (
        "rabbitmq_management_port", "rabbitmq_management_listen_address", "celery_app_broker", "celery_app_name",
    ),
    "celeryops_flower_shared_configuration": (),
    "celeryops_redis_purpose": ("celery_app_broker",),
    "celeryops_redis_users": ("celery_app_key_prefix", "celery_app_name", "celery_app_broker", "redis_purpose"),
    "celeryops_rabbitmq_definitions": ("celery_app_name", "celery_app_dead_letter_queue", "celery_app_broker"),
}  # fmt: skip
_NAME = re.compile(r"\b(?:celery|celeryops|rabbitmq|redis|flower)_\w+")


def root(variable: str) -> str:
    """Return the variable's name in a path such as ``celery_worker_classes.high.queues[0]``."""
    return re.split(r"[.\[ :]", variable)[0]


def without_consequences(problems: Sequence[Any], defaults: Mapping[str, Any], given: Set[str]) -> list[Any]:
    """Return the problems that somebody can mend where they are.

    Arguments:
        problems: all of them; texts begin with the variable's name.
        defaults: the defaults of all roles' variables, as they are written.
        given: names of the variables that the inventory sets: what is written there is a mistake of its own.
    """
    wrong = {_variable(problem) for problem in problems}
    return [
        problem
        for problem in problems
        if _variable(problem) in given or not (causes(_variable(problem), defaults, given) & wrong)
    ]


def _variable(problem: Any) -> str:
    return root(str(getattr(problem, "variable", problem)))


def causes(variable: str, defaults: Mapping[str, Any], given: Set[str]) -> set[str]:
    """Return the variables that the value of ``variable``, which nobody sets, is worked out from."""
    found: set[str] = set()
    ahead = [variable]
    while ahead:
        name = ahead.pop()
        if name in given and name != variable:
            continue
        for mentioned in JOINTS.get(name) or _NAME.findall(str(defaults.get(name, ""))):
            if mentioned not in found:
                found.add(mentioned)
                ahead.append(mentioned)
    return found - {variable}
