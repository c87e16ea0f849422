# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of rabbitmq.conf."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN, named_like_a_secret
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq_node import (
    DISTRIBUTION_PORT,
    EPMD_PORT,
    cluster_of,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq_variables import (
    CONFIG_DIR,
    Variables,
    in_unit,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.rabbitmq_generations import cluster_settings
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import (
    SIZE_HELP,
    parse_size,
)

MIB = 1024**2
#: RabbitMQ's documentation advises 0.4 to 0.7; a host that is shared with workers wants less. Above 0.8 the runtime's
#: own overhead reaches the machine's limit before the alarm does.
WATERMARK_RANGE = (0.1, 0.8)
_CONFIG_KEY = re.compile(r"[a-z][A-Za-z0-9_.$*-]*(?:\.[^\s.=#]+)*")


def api_host_of(given: Variables) -> str:
    address = given.address("management_listen_address", given.values["management_listen_address"])
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "::1"
    return str(address)


def settings_of(given: Variables) -> list[dict[str, str]]:
    """Return the lines of rabbitmq.conf and of what is beside it: the role's own, then the user's, which win."""
    settings: dict[str, Any] = {}
    addresses = given.values["listen_addresses"]
    if not addresses:
        reason = "is empty, so nobody could connect"
        given.problem("empty", "listen_addresses", addresses, reason, "at least 127.0.0.1")
    if len(set(addresses)) != len(addresses):
        reason = "names an address twice"
        given.problem("names-an-address-twice", "listen_addresses", addresses, reason, "every address once")
    _ports(given)
    for number, value in enumerate(addresses, start=1):
        address = given.address("listen_addresses", value)
        settings[f"listeners.tcp.{number}"] = f"{address}:{given.values['port']}"
    settings.update(
        {
            "management.tcp.ip": str(_canonical_address(given.values["management_listen_address"])),
            "management.tcp.port": given.values["management_port"],
            # Without ANONYMOUS, which RabbitMQ 4 offers otherwise.
            "auth_mechanisms.1": "PLAIN",
            "auth_mechanisms.2": "AMQPLAIN",
            "loopback_users.guest": True,
            # Milliseconds, while every other duration here is in seconds (rabbit.schema, RabbitMQ 3.10 to 4.3).
            "consumer_timeout": 1000 * given.duration("consumer_timeout"),
            "load_definitions": f"{CONFIG_DIR}/definitions.json",
            **_memory_and_disk(given),
            **_log(given),
            **_cluster(given),
        }
    )
    for name in ("config", "secret_config"):
        for key, value in given.values[name].items():
            _config_entry(given, name, key, value)
    both = sorted(set(given.values["config"]) & set(given.values["secret_config"]))
    for key in both:
        reason = "is in rabbitmq_config as well"
        given.problem("in-rabbitmq-config-as-well", "secret_config", key, reason, "it in one of the two")
    settings.update(given.values["config"])
    for key in given.values["secret_config"]:
        settings.pop(key, None)
    return [{"key": key, "value": config_value(value)} for key, value in settings.items()]


def _config_entry(given: Variables, name: str, key: str, value: Any) -> None:
    if not _CONFIG_KEY.fullmatch(str(key)):
        reason = "is not a key of rabbitmq.conf"
        given.problem("not-a-key-of-rabbitmq-conf", f"{name}", key, reason, "a key such as heartbeat or log.file.level")
    if name == "config" and named_like_a_secret(str(key)):
        reason = "looks like a secret, which would be shown"
        given.problem("looks-like-a-secret", f"config.{key}", NOT_SHOWN, reason, "it in rabbitmq_secret_config")
        return
    shown = value if name == "config" else NOT_SHOWN
    if isinstance(value, (dict, list)) or value is None:
        given.problem("not-a-single-value", f"{name}.{key}", shown, "is not a single value", "one key for each value")
        return
    text = str(value)
    if key == "consumer_timeout" and not re.fullmatch(r"[1-9][0-9]{0,17}", text):
        reason = "is not a whole number of milliseconds, and RabbitMQ would not start"
        given.problem("not-a-whole-number", f"{name}.{key}", shown, reason, in_unit(value, "milliseconds"))
    elif re.search(r"[\n\r']", text) or text != text.strip() or not text:
        reason = "does not fit on a line of rabbitmq.conf"
        given.problem("does-not-fit", f"{name}.{key}", shown, reason, "a value without '")
    # Its rabbitmq.conf has no quotes around values.
    elif "#" in text and given.is_3_10():
        reason = "has a #, which begins a comment in RabbitMQ 3.10"
        given.problem("begins-a-comment-in-rabbitmq", f"{name}.{key}", shown, reason, "a value without #")


def _ports(given: Variables) -> None:
    taken: dict[int, str] = {DISTRIBUTION_PORT: "inter-node distribution", EPMD_PORT: "epmd"}
    for name in ("port", "management_port"):
        port = int(given.values[name])
        if not 1 <= port <= 65535:
            given.problem("not-a-port", name, port, "is not a port", "a number from 1 to 65535")
        elif port in taken:
            given.problem("port", name, port, f"is the port of {taken[port]}", "another port")
        taken[port] = f"rabbitmq_{name}"


def _memory_and_disk(given: Variables) -> dict[str, Any]:
    total = int(given.facts.get("memtotal_mb") or 0) * MIB
    settings: dict[str, Any] = {}
    value = given.values["memory_high_watermark"]
    low, high = WATERMARK_RANGE
    share = _fraction(value)
    watermark = 0
    if share is not None:
        if not low <= share <= high:
            instead = f"a share of the memory from {low} to {high}"
            given.problem("out-of-range", "memory_high_watermark", value, "is out of range", instead)
        settings["vm_memory_high_watermark.relative"] = share
        watermark = int(total * share)
    else:
        try:
            watermark = parse_size(value)
        except ValueError:
            reason = "is neither a share nor a size"
            given.problem("not-a-share-or-size", "memory_high_watermark", value, reason, f"0.4, 40%, or {SIZE_HELP}")
        else:
            if watermark < 128 * MIB or (total and watermark > total * high):
                instead = f"128M or more, and at most {high} of the memory"
                given.problem("out-of-range", "memory_high_watermark", value, "is out of range", instead)
        settings["vm_memory_high_watermark.absolute"] = watermark
    settings.update(_disk(given, watermark, share))
    return settings


def _disk(given: Variables, watermark: int, share: float | None) -> dict[str, Any]:
    """Return the free space below which publishers are held back.

    RabbitMQ asks for at least the memory watermark, since that much may be paged out at once; on a disk where that
    would be more than a quarter, a quarter has to do, or the broker would be blocked from its first minute.
    """
    value = given.values["disk_free_limit"]
    if value != "auto":
        try:
            size = parse_size(value)
        except ValueError:
            given.problem("not-a-size", "disk_free_limit", value, "is not a size", f"auto, or {SIZE_HELP}")
            return {}
        if not size:
            reason = "would let the disk fill up"
            given.problem("let-the-disk-fill-up", "disk_free_limit", value, reason, f"auto, or {SIZE_HELP}")
        return {"disk_free_limit.absolute": size}
    if not watermark:
        return {"disk_free_limit.relative": share if share is not None else 1.0}
    limit = max(watermark, 2048 * MIB)
    disks = given.facts.get("celeryops_disks") or {}
    disk = int(disks.get(given.found.get("data") or "", 0) or disks.get("/var/lib/rabbitmq", 0))
    if disk:
        limit = min(limit, disk // 4)
    return {"disk_free_limit.absolute": limit // MIB * MIB}


def _log(given: Variables) -> dict[str, Any]:
    level = given.values["log_level"]
    if given.values["log_to"] == "journal":
        return {"log.console": True, "log.console.level": level, "log.file": False}
    return {"log.console": False, "log.file.level": level}


def _cluster(given: Variables) -> dict[str, Any]:
    """Return what makes a cluster of several nodes; nothing for one."""
    nodes = cluster_of(given)
    if not nodes:
        return {}
    return {
        "cluster_formation.peer_discovery_backend": "classic_config",
        **{f"cluster_formation.classic_config.nodes.{number}": name for number, name in enumerate(nodes, start=1)},
        "cluster_formation.target_cluster_size_hint": len(nodes),
        **cluster_settings(given.series()),
    }


def config_value(value: Any) -> str:
    """Return a value as rabbitmq.conf wants it: quoted only where ``#`` would begin a comment.

    RabbitMQ 4 reads quotes as quotes, 3.10 as a part of the value, so there are none where none are needed.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return f"'{text}'" if "#" in text else text


def _canonical_address(value: str) -> str:
    """Return ``value`` when it is an IP address, in its canonical spelling; else the loopback address."""
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        return "127.0.0.1"


def _fraction(value: Any) -> float | None:
    """Return a share given as 0.4, "0.4" or "40%"."""
    if isinstance(value, float):
        return float(value)
    text = str(value).strip()
    if re.fullmatch(r"\d*\.\d+", text):
        return float(text)
    match = re.fullmatch(r"(\d+)\s*%", text)
    return int(match.group(1)) / 100 if match else None
