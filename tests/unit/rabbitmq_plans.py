"""Variables of the role rabbitmq, and what its plan makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq import plan

ROLE = Path(__file__).resolve().parents[2] / "roles" / "rabbitmq"
GIB = 1024**3
FACTS = {
    "distribution": "Debian",
    "distribution_major_version": "13",
    "hostname": "mq1",
    "memtotal_mb": 8192,
    "celeryops_disks": {"/var/lib/rabbitmq": 100 * GIB},
}
SECRETS = {
    "rabbitmq_admin_password": "the-admin-password",
    "rabbitmq_erlang_cookie": "TheErlangCookie0123456789",
}


def variables(**given: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    defaults |= {**SECRETS, "rabbitmq_extra_definitions": {}, "rabbitmq_consumer_timeout": "30m"}
    defaults |= {"rabbitmq_connections": "0"}
    defaults |= {"rabbitmq_nodes": [], "rabbitmq_node_addresses": {}, "rabbitmq_cluster_listen_address": "127.0.0.1"}
    return defaults | {f"rabbitmq_{name}": value for name, value in given.items()}


def planned(**given: Any) -> dict[str, Any]:
    result, problems = plan(variables(**given), FACTS)
    assert problems == []
    return result


def settings(**given: Any) -> dict[str, str]:
    return {entry["key"]: entry["value"] for entry in planned(**given)["settings"]}


def refused(facts: dict[str, Any] | None = None, **given: Any) -> list[Problem]:
    return plan(variables(**given), FACTS if facts is None else facts)[1]
