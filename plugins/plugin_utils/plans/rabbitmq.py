# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the variables of the role ``rabbitmq`` mean: the server's settings and one document of its objects."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from ansible_collections.celeryops.stack.plugins.module_utils.masking import user_part
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_objects import KEYS
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_password import ALGORITHMS, DEFAULT_ALGORITHM
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN, named_like_a_secret
from ansible_collections.celeryops.stack.plugins.plugin_utils.object_names import faulty, told_apart_by_blanks
from ansible_collections.celeryops.stack.plugins.plugin_utils.passwords import SHORTEST, weakness
from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import (
    Problem,
    UnreadableError,
    closest,
    did_you_mean,
    holds_password,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.quantities import (
    DURATION_HELP,
    SIZE_HELP,
    parse_duration,
    parse_size,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.rabbitmq_takeover import (
    choose_node,
    data_settings,
    enabled,
    place_problems,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.service_units import check_platform, command_line
from ansible_collections.celeryops.stack.plugins.plugin_utils.stack import loopback

MIB = 1024**2
#: RabbitMQ's documentation advises 0.4 to 0.7; a host that is shared with workers wants less. Above 0.8 the runtime's
#: own overhead reaches the machine's limit before the alarm does.
WATERMARK_RANGE = (0.1, 0.8)
#: "No password shorter" is a floor against slips, and it keeps words like "shop" out of what Ansible masks in outputs.
MIN_PASSWORD = 8
#: A header of the API has room for 4,096 bytes (Cowboy), and so has a connection's first frame before RabbitMQ 4.1.
MAX_PASSWORD = 1024
#: Distribution listens there whatever the AMQP port is (RABBITMQ_DIST_PORT's default).
DISTRIBUTION_PORT = 25672
EPMD_PORT = 4369
MANAGEMENT = "rabbitmq_management"
#: More ports than this have to be allowed to the Erlang runtime as well (RabbitMQ's scripts set 65536).
ERLANG_PORTS = 65536

#: How many MiB have to be free on the disk of the store, besides its log, before RabbitMQ starts; and for how many
#: seconds a start waits for them, which is well below TimeoutStartSec= of its unit (600). A choice.
START_ROOM, START_PATIENCE = 64, 60

_CONFIG_DIR = "/etc/rabbitmq"
#: Where the node's data is, in a directory of its name; quorum queues may have another one (raft.data_dir).
_STORE = "/var/lib/rabbitmq/mnesia"
_START_CHECK = f"{_CONFIG_DIR}/celeryops-disk.sh"
_STORE_WATCH = f"{_CONFIG_DIR}/celeryops-disk.erl"
_PRIVATE_FILE = "50-celeryops.conf"
#: What takes effect without a restart. RabbitMQ reads it when a channel is opened, and 4.3 when a consumer begins
#: (get_consumer_timeout in rabbit_channel.erl of 3.10.8 and 4.0.5, in rabbit_queue_type.erl of 4.3.5): who consumes
#: already keeps the old one until it connects again. A class with longer tasks connects after its server was told.
_LIVE_FILE = f"{_CONFIG_DIR}/conf.d/40-celeryops.conf"
_LIVE = "consumer_timeout"
#: Evaluated by the node. No $ and no \\, which systemd reads.
_RELOAD = (
    f'{{ok, File}} = file:read_file("{_LIVE_FILE}"), '
    f'{{match, [Value]}} = re:run(File, "^{_LIVE} = ([0-9]+)", [multiline, {{capture, [1], list}}]), '
    f"application:set_env(rabbit, {_LIVE}, list_to_integer(Value))."
)
#: Where a signing key from a URL is kept, in ASCII armour and as it is; apt goes by the end of the name.
_KEY_FILES = ("/etc/apt/keyrings/celeryops-rabbitmq.asc", "/etc/apt/keyrings/celeryops-rabbitmq.gpg")
_NODE_NAME = re.compile(r"[A-Za-z0-9_-]+@[A-Za-z0-9._-]+")
_PLUGIN = re.compile(r"[a-z][a-z0-9_]*")
_USER_NAME = re.compile(r"[^\s/\x00-\x1f]{1,128}")
_CONFIG_KEY = re.compile(r"[a-z][A-Za-z0-9_.$*-]*(?:\.[^\s.=#]+)*")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")

#: What the inventory declares -> the kind in RabbitMQ's document, the key there, in the words of the inventory.
_DECLARED = {
    "vhosts": ("name",),
    "users": ("name",),
    "policies": ("vhost", "name"),
    "operator_policies": ("vhost", "name"),
    "exchanges": ("vhost", "name"),
    "queues": ("vhost", "name"),
    "bindings": ("vhost", "source", "destination_type", "destination", "routing_key"),
}
_QUEUE_TYPES = ("quorum", "classic", "stream")
#: Keys of policies whose values are whole numbers, and of what (rabbit_policies.erl of RabbitMQ 3.10 to 4.3).
_POLICY_NUMBERS = {
    "consumer-timeout": "milliseconds",
    "delivery-limit": "deliveries",
    "expires": "milliseconds",
    "max-in-memory-bytes": "bytes",
    "max-in-memory-length": "messages",
    "max-length": "messages",
    "max-length-bytes": "bytes",
    "message-ttl": "milliseconds",
    "stream-filter-size-bytes": "bytes",
    "stream-max-segment-size-bytes": "bytes",
    "target-group-size": "nodes",
}
#: The other keys that RabbitMQ itself has; plugins bring further ones.
_POLICY_KEYS = (
    *_POLICY_NUMBERS, "alternate-exchange", "dead-letter-exchange", "dead-letter-routing-key", "dead-letter-strategy",
    "federation-upstream", "federation-upstream-set", "max-age", "overflow", "queue-leader-locator",
    "queue-master-locator", "queue-mode", "queue-version",
)  # fmt: skip
#: Of those whose value cannot be nothing. -1 is no limit of deliveries (RabbitMQ 4).
_POSITIVE = ("consumer-timeout", "expires", "target-group-size")
#: Arguments of queues that no policy knows (rabbit_quorum_queue.erl, rabbit_classic_queue.erl, rabbit_stream_queue.erl
#: of RabbitMQ 3.10 to 4.3), without the x- in front.
_QUEUE_ARGUMENTS = (
    "initial-cluster-size", "max-priority", "queue-type", "quorum-initial-group-size", "quorum-target-group-size",
    "single-active-consumer",
)  # fmt: skip
_OVERFLOW = ("drop-head", "reject-publish", "reject-publish-dlx")
#: What people misspell among names that plugins and other programs may add to.
_TAGS = ("administrator", "impersonator", "management", "monitoring", "policymaker")
_EXCHANGE_TYPES = ("direct", "fanout", "headers", "topic")
_OF_ONE_TYPE = ("classic_queues", "quorum_queues", "streams")


class Plan(TypedDict, total=False):
    """What the tasks and templates of the role read, without any secret.

    ``live`` are the settings that take effect without a restart: their file, and how the node reads it.
    """

    node: dict[str, str]
    packages: list[str]
    pins: list[dict[str, str]]
    repository: dict[str, Any]
    plugins: list[str]
    settings: list[dict[str, Any]]
    live: dict[str, Any]
    secret_files: list[dict[str, str]]
    stale_files: list[dict[str, str]]
    environment: list[dict[str, Any]]
    loopback_host: str
    epmd_listen: list[str]
    open_files: int
    stop_timeout: int
    journal: bool
    disk: dict[str, Any]
    api: dict[str, Any]
    definitions: dict[str, Any]
    live: dict[str, Any]


def plan(variables: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Plan, list[Problem]]:
    """Return the server's settings and definitions, without any secret, and what is wrong with the variables.

    Arguments:
        variables: the variables named in the role's argument specs.
        facts: the host's facts; when empty, nothing about the host is checked.
    """
    planner = _Planner(variables, facts)
    result = planner.result()
    return result, planner.problems


class _Planner:
    def __init__(self, variables: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        self.variables = {name.removeprefix("rabbitmq_"): value for name, value in variables.items()}
        self.facts = facts
        self.found: Mapping[str, Any] = facts.get("celeryops_rabbitmq") or {}
        self.problems: list[Problem] = []

    def result(self) -> Plan:
        """Return the plan; ``problems`` is complete afterwards."""
        self.problems += check_platform(self.facts)
        node = self._node()
        api_host = self._api_host()
        plugins = self._plugins()
        kept = self.found.get("quorum") or self.found.get("data") or _STORE
        store = self.variables["config"].get("raft.data_dir", kept)
        settings = self._settings()
        return {
            "node": node,
            "packages": self._packages(),
            "pins": self._pins(),
            "repository": self._repository(),
            "plugins": plugins,
            "settings": [entry for entry in settings if entry["key"] != _LIVE],
            "live": {
                "path": _LIVE_FILE,
                "settings": [entry for entry in settings if entry["key"] == _LIVE],
                # The node's own arguments are not for the program that speaks to it.
                "reload": command_line(
                    ["/usr/bin/env", "--unset=ERL_AFLAGS", "/usr/sbin/rabbitmqctl", "--quiet", "eval", _RELOAD]
                ),
            },
            "secret_files": [{"name": _PRIVATE_FILE}] if self.variables["secret_config"] else [],
            "stale_files": [{"path": path} for path in self._stale_files()],
            "environment": self._environment(node),
            "loopback_host": node["host"] if self._distribution_is_local() else "",
            "epmd_listen": self._epmd_listen(),
            "open_files": self._open_files(),
            "stop_timeout": self._duration("stop_timeout"),
            "journal": self.variables["log_to"] == "journal",
            "disk": {
                "check": _START_CHECK,
                "command": command_line(["/bin/sh", _START_CHECK, store, START_ROOM, START_PATIENCE]),
                "watch": _STORE_WATCH,
            },
            "api": {"host": api_host, "port": self.variables["management_port"]},
            "definitions": self._definitions(),
        }

    def _problem(self, name: str, value: Any, reason: str, instead: str) -> None:
        self.problems.append(Problem(f"rabbitmq_{name}", value, reason, instead))

    # The host and its packages

    def _install_environment(self) -> None:
        """Refuse passwords: Ansible puts a task's environment into the command line that it runs on the host."""
        for name, value in self.variables["install_environment"].items():
            if holds_password(value):
                self._problem(
                    f"install_environment.{name}",
                    NOT_SHOWN,
                    "holds a password, which everybody on the host could read in the list of processes",
                    "an address without one, and the password in a file of /etc/apt/apt.conf.d on the host",
                )

    def _packages(self) -> list[str]:
        self._install_environment()
        version = self.variables["version"]
        erlang = self.variables["erlang_version"]
        for name, value in (("version", version), ("erlang_version", erlang)):
            if value and not re.fullmatch(r"[0-9][A-Za-z0-9.+:~*-]*", value):
                self._problem(name, value, "is not a package version", 'a version or a pattern such as "4.0.5-*"')
        packages = [f"rabbitmq-server={version}" if version else "rabbitmq-server"]
        if erlang:
            packages.insert(0, f"erlang-base={erlang}")
        return packages

    def _pins(self) -> list[dict[str, str]]:
        pins = []
        for name, packages in (("version", "rabbitmq-server"), ("erlang_version", "/^erlang(-.*)?$/")):
            if self.variables[name]:
                pins.append({"packages": packages, "pin": f"version {self.variables[name]}"})
        return pins

    def _repository(self) -> dict[str, Any]:
        repository = self.variables["repository"]
        if not repository:
            return {}
        for name in ("uris", "suites", "key"):
            if not repository.get(name):
                self._problem(
                    f"repository.{name}", repository.get(name), "is missing", "it, or leave the repository out"
                )
                return {}
        uris = repository["uris"]
        for uri in uris:
            if not re.match(r"(https?|file|copy|mirror\+https?)://?", uri):
                self._problem(
                    "repository.uris", uri, "is not the address of a repository", "a URL such as https://host/path"
                )
            elif any(user_part(uri)):
                self._problem(
                    "repository.uris",
                    uri,
                    "holds a login, and every account may read the list of repositories",
                    "it without, and the login in a file of /etc/apt/auth.conf.d",
                )
        key = repository["key"]
        if not (key.startswith(("/", "https://")) or "BEGIN PGP PUBLIC KEY BLOCK" in key):
            self._problem(
                "repository.key",
                key,
                "is not a signing key",
                "an https URL, a path on the host, or the key itself in ASCII armour",
            )
        suites = repository["suites"]
        components = repository.get("components") or []
        if not components and not all(suite.endswith("/") for suite in suites):
            self._problem(
                "repository.components", components, "is empty", "components such as [main], or suites that end in /"
            )
        signed_by = _key_file(key) or key
        if "\n" in signed_by:
            # A field of several lines: each is indented, and an empty one is a dot (deb822(5)).
            signed_by = "\n" + "\n".join(f" {line.rstrip() or '.'}" for line in key.strip().splitlines())
        fields = {
            "Types": "deb",
            "URIs": " ".join(uris),
            "Suites": " ".join(suites),
            "Components": " ".join(components),
            "Signed-By": signed_by,
        }
        return {
            "fields": [{"name": name, "value": value} for name, value in fields.items() if value],
            "key_url": key if _key_file(key) else "",
            "key_file": _key_file(key),
        }

    def _stale_files(self) -> list[str]:
        """Return what an earlier run may have written and these variables do not ask for."""
        stale = []
        if not self._pins():
            stale.append("/etc/apt/preferences.d/celeryops-rabbitmq.pref")
        repository = self.variables["repository"]
        if not repository:
            stale.append("/etc/apt/sources.list.d/celeryops-rabbitmq.sources")
        stale += [path for path in _KEY_FILES if path != _key_file(str(repository.get("key") or ""))]
        if not self.variables["secret_config"]:
            stale.append(f"{_CONFIG_DIR}/conf.d/{_PRIVATE_FILE}")
        return stale

    # The node

    def _node(self) -> dict[str, Any]:
        default = f"rabbit@{self.facts.get('hostname', 'localhost')}"
        name, problems = choose_node(
            self.variables["node_name"], default, self.found, self.variables["abandoned_nodes"]
        )
        self.problems += problems + place_problems(self.found, name, self.variables["config"])
        if not _NODE_NAME.fullmatch(name):
            self._problem("node_name", name, "is not the name of an Erlang node", "a name such as rabbit@mq1")
            name = "rabbit@localhost"
        host = name.partition("@")[2]
        nodes = self.variables["nodes"] or [name]
        if nodes[1:]:
            self._problem(
                "nodes", nodes, "names several nodes, and clusters are not supported yet", "one node, or leave it out"
            )
        elif self.facts and nodes != [name]:
            self._problem("nodes", nodes, f"does not name this node, {name}", f"[{name}], or leave it out")
        return {"name": name, "host": host, "long": "." in host}

    def _plugins(self) -> list[str]:
        plugins = self.variables["plugins"]
        for plugin in plugins:
            if not _PLUGIN.fullmatch(plugin):
                self._problem("plugins", plugin, "is not the name of a plugin", "a name such as rabbitmq_prometheus")
        if MANAGEMENT not in plugins:
            self._problem(
                "plugins", plugins, f"lacks {MANAGEMENT}, through which objects are compared", f"{MANAGEMENT} as well"
            )
        return enabled(plugins, self.found, prune=bool(self.variables["prune_plugins"]))

    def _address(self, name: str, value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        try:
            return ipaddress.ip_address(value)
        except ValueError:
            self._problem(name, value, "is not an IP address", "an address such as 127.0.0.1, 10.0.0.5 or 0.0.0.0")
            return ipaddress.ip_address("127.0.0.1")

    def _distribution_value(self) -> ipaddress.IPv4Address:
        value = self.variables["cluster_listen_address"]
        try:
            return ipaddress.IPv4Address(value)
        except ValueError:
            return ipaddress.IPv4Address("127.0.0.1")

    def _distribution_is_local(self) -> bool:
        return self._distribution_value().is_loopback

    def _epmd_listen(self) -> list[str]:
        address = self._distribution_value()
        if address.is_unspecified:
            return [str(EPMD_PORT)]
        return list(dict.fromkeys([f"127.0.0.1:{EPMD_PORT}", f"{address}:{EPMD_PORT}"]))

    def _environment(self, node: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return what rabbitmq-env.conf, a piece of shell, sets; every value is safe inside double quotes."""
        value = self.variables["cluster_listen_address"]
        try:
            address = ipaddress.IPv4Address(value)
        except ValueError:
            self._problem("cluster_listen_address", value, "is not an IPv4 address", "an address such as 127.0.0.1")
            address = ipaddress.IPv4Address("127.0.0.1")
        settings: list[dict[str, Any]] = [{"name": "NODENAME", "value": node["name"], "export": False}]
        if node["long"]:
            settings.append({"name": "USE_LONGNAME", "value": "true", "export": False})
        settings += [
            {"name": name, "value": place, "export": False} for name, place in data_settings(self.found).items()
        ]
        if not address.is_unspecified:
            interface = "-kernel inet_dist_use_interface {" + ",".join(str(address).split(".")) + "}"
            settings += [
                {"name": "ERL_EPMD_ADDRESS", "value": str(address), "export": True},
                {"name": "SERVER_ADDITIONAL_ERL_ARGS", "value": interface, "export": False},
                {"name": "CTL_ERL_ARGS", "value": interface, "export": False},
            ]
        if address.is_loopback:
            settings.append({"name": "ERL_INETRC", "value": f"{_CONFIG_DIR}/erl_inetrc", "export": True})
        if self.variables["open_files"] > ERLANG_PORTS:
            settings.append({"name": "ERL_MAX_PORTS", "value": str(self.variables["open_files"]), "export": True})
        return settings

    def _open_files(self) -> int:
        files = int(self.variables["open_files"])
        if not 1024 <= files <= 2**20:
            self._problem("open_files", files, "is out of range", "a number from 1024 to 1048576")
        return files

    def _duration(self, name: str) -> int:
        try:
            seconds = parse_duration(self.variables[name])
        except UnreadableError as error:
            self._problem(name, self.variables[name], error.reason, error.instead)
            return 0
        if not seconds:
            self._problem(name, self.variables[name], "is no time at all", DURATION_HELP)
        return seconds

    # rabbitmq.conf

    def _api_host(self) -> str:
        address = self._address("management_listen_address", self.variables["management_listen_address"])
        if address.is_unspecified:
            return "127.0.0.1" if address.version == 4 else "::1"
        return str(address)

    def _settings(self) -> list[dict[str, str]]:
        """Return the lines of rabbitmq.conf and of what is beside it: the role's own, then the user's, which win."""
        settings: dict[str, Any] = {}
        addresses = self.variables["listen_addresses"]
        if not addresses:
            self._problem("listen_addresses", addresses, "is empty, so nobody could connect", "at least 127.0.0.1")
        if len(set(addresses)) != len(addresses):
            self._problem("listen_addresses", addresses, "names an address twice", "every address once")
        self._ports()
        for number, value in enumerate(addresses, start=1):
            address = self._address("listen_addresses", value)
            settings[f"listeners.tcp.{number}"] = f"{address}:{self.variables['port']}"
        settings.update(
            {
                "management.tcp.ip": str(_canonical_address(self.variables["management_listen_address"])),
                "management.tcp.port": self.variables["management_port"],
                # Without ANONYMOUS, which RabbitMQ 4 offers otherwise.
                "auth_mechanisms.1": "PLAIN",
                "auth_mechanisms.2": "AMQPLAIN",
                "loopback_users.guest": True,
                # Milliseconds, while every other duration here is in seconds (rabbit.schema, RabbitMQ 3.10 to 4.3).
                "consumer_timeout": 1000 * self._duration("consumer_timeout"),
                "load_definitions": f"{_CONFIG_DIR}/definitions.json",
                **self._memory_and_disk(),
                **self._log(),
            }
        )
        for name in ("config", "secret_config"):
            for key, value in self.variables[name].items():
                self._config_entry(name, key, value)
        both = sorted(set(self.variables["config"]) & set(self.variables["secret_config"]))
        for key in both:
            self._problem("secret_config", key, "is in rabbitmq_config as well", "it in one of the two")
        settings.update(self.variables["config"])
        for key in self.variables["secret_config"]:
            settings.pop(key, None)
        return [{"key": key, "value": config_value(value)} for key, value in settings.items()]

    def _config_entry(self, name: str, key: str, value: Any) -> None:
        if not _CONFIG_KEY.fullmatch(str(key)):
            self._problem(f"{name}", key, "is not a key of rabbitmq.conf", "a key such as heartbeat or log.file.level")
        if name == "config" and named_like_a_secret(str(key)):
            self._problem(
                f"config.{key}", NOT_SHOWN, "looks like a secret, which would be shown", "it in rabbitmq_secret_config"
            )
            return
        shown = value if name == "config" else NOT_SHOWN
        if isinstance(value, (dict, list)) or value is None:
            self._problem(f"{name}.{key}", shown, "is not a single value", "one key for each value")
            return
        text = str(value)
        if key == "consumer_timeout" and not re.fullmatch(r"[1-9][0-9]{0,17}", text):
            reason = "is not a whole number of milliseconds, and RabbitMQ would not start"
            self._problem(f"{name}.{key}", shown, reason, _in_unit(value, "milliseconds"))
        elif re.search(r"[\n\r']", text) or text != text.strip() or not text:
            self._problem(f"{name}.{key}", shown, "does not fit on a line of rabbitmq.conf", "a value without '")
        # Its rabbitmq.conf has no quotes around values.
        elif "#" in text and self._is_3_10():
            self._problem(
                f"{name}.{key}", shown, "has a #, which begins a comment in RabbitMQ 3.10", "a value without #"
            )

    def _is_3_10(self) -> bool:
        """Tell whether the server is Debian 12's RabbitMQ 3.10, as far as that is known."""
        major = str(self.facts.get("distribution_major_version"))
        return self.facts.get("distribution") == "Debian" and major == "12" and not self.variables["repository"]

    def _ports(self) -> None:
        taken: dict[int, str] = {DISTRIBUTION_PORT: "inter-node distribution", EPMD_PORT: "epmd"}
        for name in ("port", "management_port"):
            port = int(self.variables[name])
            if not 1 <= port <= 65535:
                self._problem(name, port, "is not a port", "a number from 1 to 65535")
            elif port in taken:
                self._problem(name, port, f"is the port of {taken[port]}", "another port")
            taken[port] = f"rabbitmq_{name}"

    def _memory_and_disk(self) -> dict[str, Any]:
        total = int(self.facts.get("memtotal_mb") or 0) * MIB
        settings: dict[str, Any] = {}
        value = self.variables["memory_high_watermark"]
        low, high = WATERMARK_RANGE
        share = _fraction(value)
        watermark = 0
        if share is not None:
            if not low <= share <= high:
                self._problem(
                    "memory_high_watermark", value, "is out of range", f"a share of the memory from {low} to {high}"
                )
            settings["vm_memory_high_watermark.relative"] = share
            watermark = int(total * share)
        else:
            try:
                watermark = parse_size(value)
            except ValueError:
                self._problem(
                    "memory_high_watermark", value, "is neither a share nor a size", f"0.4, 40%, or {SIZE_HELP}"
                )
            else:
                if watermark < 128 * MIB or (total and watermark > total * high):
                    instead = f"128M or more, and at most {high} of the memory"
                    self._problem("memory_high_watermark", value, "is out of range", instead)
            settings["vm_memory_high_watermark.absolute"] = watermark
        settings.update(self._disk(watermark, share))
        return settings

    def _disk(self, watermark: int, share: float | None) -> dict[str, Any]:
        """Return the free space below which publishers are held back.

        RabbitMQ asks for at least the memory watermark, since that much may be paged out at once; on a disk where that
        would be more than a quarter, a quarter has to do, or the broker would be blocked from its first minute.
        """
        value = self.variables["disk_free_limit"]
        if value != "auto":
            try:
                size = parse_size(value)
            except ValueError:
                self._problem("disk_free_limit", value, "is not a size", f"auto, or {SIZE_HELP}")
                return {}
            if not size:
                self._problem("disk_free_limit", value, "would let the disk fill up", f"auto, or {SIZE_HELP}")
            return {"disk_free_limit.absolute": size}
        if not watermark:
            return {"disk_free_limit.relative": share if share is not None else 1.0}
        limit = max(watermark, 2048 * MIB)
        disks = self.facts.get("celeryops_disks") or {}
        disk = int(disks.get(self.found.get("data") or "", 0) or disks.get("/var/lib/rabbitmq", 0))
        if disk:
            limit = min(limit, disk // 4)
        return {"disk_free_limit.absolute": limit // MIB * MIB}

    def _log(self) -> dict[str, Any]:
        level = self.variables["log_level"]
        if self.variables["log_to"] == "journal":
            return {"log.console": True, "log.console.level": level, "log.file": False}
        return {"log.console": False, "log.file.level": level}

    # Objects

    def _definitions(self) -> dict[str, Any]:
        """Return RabbitMQ's definitions document without passwords."""
        declared = {kind: self._merged(kind) for kind in _DECLARED}
        self._check_names(declared)
        admin = self.variables["admin_user"]
        self._check_admin(admin, declared["users"])
        vhosts = {entry["name"] for entry in declared["vhosts"]}
        permissions = [
            {"vhost": vhost, "user": admin, "configure": ".*", "write": ".*", "read": ".*"} for vhost in sorted(vhosts)
        ]
        topic_permissions: list[dict[str, str]] = []
        for user in declared["users"]:
            permissions += self._permissions(user, vhosts, "permissions", ("configure", "write", "read"))
            topic_permissions += self._permissions(user, vhosts, "topic_permissions", ("exchange", "write", "read"))
        for kind in ("policies", "operator_policies", "exchanges", "queues", "bindings"):
            for entry in declared[kind]:
                self._known_vhost(kind, entry, vhosts)
        document: dict[str, Any] = {
            "vhosts": [_vhost(entry) for entry in declared["vhosts"]],
            "users": [
                {"name": admin, "tags": ["administrator"]},
                *(self._user(entry) for entry in declared["users"]),
            ],
            "permissions": permissions,
            "topic_permissions": topic_permissions,
            "parameters": [
                *(_vhost_limits(entry) for entry in declared["vhosts"] if _limits(entry, "queues", "connections")),
                *(self._operator_policy(entry) for entry in declared["operator_policies"]),
            ],
            "policies": [self._policy("policies", entry) for entry in declared["policies"]],
            "exchanges": [self._exchange(entry) for entry in declared["exchanges"]],
            "queues": [self._queue(entry) for entry in declared["queues"]],
            "bindings": [_binding(entry) for entry in declared["bindings"]],
            "global_parameters": [],
        }
        if self.variables["cluster_name"]:
            document["global_parameters"] = [{"name": "cluster_name", "value": self.variables["cluster_name"]}]
        for kind in self.variables["prune"]:
            if kind not in KEYS:
                self._problem("prune", kind, "is no kind of object", did_you_mean(kind, KEYS))
        return document

    def _check_names(self, declared: Mapping[str, list[dict[str, Any]]]) -> None:
        for kind in ("vhosts", "policies", "operator_policies", "exchanges", "queues"):
            for name, reason, instead in faulty(entry["name"] for entry in declared[kind]):
                self._problem(f"{kind}.name", name, reason, instead)
        for name, other in told_apart_by_blanks([str(entry["name"]) for entry in declared["vhosts"]]):
            self._problem("vhosts.name", name, f"differs from {other!r} only in its blanks", "one of the two")

    def _merged(self, kind: str) -> list[dict[str, Any]]:
        """Return the objects of a kind from both variables; the role's own variable wins over the extra one."""
        extra = self.variables["extra_definitions"].get(kind) or []
        objects: dict[tuple[str, ...], dict[str, Any]] = {}
        for name, entries in ((f"extra_definitions.{kind}", extra), (kind, self.variables[kind])):
            seen: set[tuple[str, ...]] = set()
            for entry in entries:
                key = (*(str(entry.get(part) or "") for part in _DECLARED[kind]), str(entry.get("arguments") or ""))
                identity = key if kind == "bindings" else key[:-1]
                if identity in seen and kind != "vhosts":
                    self._problem(name, "/".join(filter(None, identity)), "is declared twice", "it once")
                seen.add(identity)
                objects[identity] = {**objects.get(identity, {}), **_given(entry)}
        return list(objects.values())

    def _check_admin(self, admin: str, users: Iterable[Mapping[str, Any]]) -> None:
        if admin == "guest" or not _USER_NAME.fullmatch(admin):
            self._problem("admin_user", admin, "cannot be the administrator's name", "a name of your own such as admin")
        if any(user["name"] == admin for user in users):
            self._problem("users", admin, "is the administrator, who is declared already", "another name")
        self._check_password("admin_password", self.variables["admin_password"], admin)
        if not re.fullmatch(r"[A-Za-z0-9]{16,255}", str(self.variables["erlang_cookie"])):
            self._problem("erlang_cookie", NOT_SHOWN, "is not an Erlang cookie", "16 to 255 letters and digits")

    def _check_password(self, name: str, password: Any, user: str) -> None:
        if len(str(password)) < MIN_PASSWORD:
            self._problem(name, NOT_SHOWN, "is too short", f"at least {MIN_PASSWORD} characters")
            return
        if len(str(password).encode()) > MAX_PASSWORD:
            told = f"is longer than {MAX_PASSWORD} bytes, and RabbitMQ refuses a header or a handshake with it"
            self._problem(name, NOT_SHOWN, told, "a shorter password")
            return
        listen = [*self.variables["listen_addresses"], self.variables["management_listen_address"]]
        reason = "" if all(map(loopback, listen)) else weakness(password, user)
        if reason:
            told = f"{reason}, and the server listens where other hosts can guess"
            self._problem(name, NOT_SHOWN, told, f"at least {SHORTEST} random characters")

    def _user(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        name = entry["name"]
        where = f"users.{name}"
        if name == "guest" or not _USER_NAME.fullmatch(name):
            self._problem("users", name, "is not a user's name here", "a name without spaces and /, other than guest")
        result: dict[str, Any] = {"name": name, "tags": sorted(entry.get("tags") or [])}
        for tag in result["tags"]:
            self._misspelt(f"{where}.tags", tag, "gives no right", _TAGS)
        if "password" in entry and "password_hash" in entry:
            self._problem(where, NOT_SHOWN, "has both a password and a hash", "one of the two")
        elif "password" in entry:
            self._check_password(f"{where}.password", entry["password"], name)
        elif "password_hash" in entry:
            algorithm = entry.get("hashing_algorithm") or DEFAULT_ALGORITHM
            result["hashing_algorithm"] = algorithm
            if algorithm not in ALGORITHMS:
                self._problem(
                    f"{where}.hashing_algorithm", algorithm, "is unknown", did_you_mean(algorithm, ALGORITHMS)
                )
            if not _BASE64.fullmatch(str(entry["password_hash"])):
                self._problem(
                    f"{where}.password_hash",
                    NOT_SHOWN,
                    "is not a hash of RabbitMQ's",
                    "base64, as rabbitmqctl prints it",
                )
        else:
            self._problem(where, name, "has neither a password nor a hash", "one of the two")
        limits = _limits(entry, "connections", "channels")
        if limits:
            result["limits"] = limits
        return result

    def _permissions(
        self, user: Mapping[str, Any], vhosts: set[str], kind: str, fields: tuple[str, ...]
    ) -> list[dict[str, str]]:
        result: list[dict[str, str]] = []
        for entry in user.get(kind) or []:
            where = f"users.{user['name']}.{kind}"
            if entry["vhost"] not in vhosts:
                self._problem(
                    where, entry["vhost"], "is no declared virtual host", did_you_mean(entry["vhost"], vhosts)
                )
            known = {(other["vhost"], other.get("exchange")) for other in result}
            if (entry["vhost"], entry.get("exchange")) in known:
                self._problem(where, entry["vhost"], "is declared twice", "it once")
            values = {name: str(entry.get(name) or "") for name in fields}
            for name in ("configure", "write", "read"):
                if name in values:
                    self._check_pattern(f"{where}.{name}", values[name])
            result.append({"vhost": entry["vhost"], "user": user["name"], **values})
        return result

    def _misspelt(self, where: str, name: str, reason: str, known: Iterable[str]) -> None:
        """Note a name that is nearly one of RabbitMQ's own; any other may be somebody's."""
        close = closest(name, known)
        if close and close != name:
            self._problem(where, name, reason, f"{close} (did you mean that?)")

    def _check_pattern(self, name: str, pattern: str) -> None:
        try:
            re.compile(pattern)
        except re.error as error:
            self._problem(name, pattern, f"is not a regular expression ({error})", "one such as ^shop")

    def _known_vhost(self, kind: str, entry: Mapping[str, Any], vhosts: set[str]) -> None:
        if entry["vhost"] not in vhosts:
            name = entry.get("name", entry.get("source"))
            self._problem(
                f"{kind}.{name}.vhost", entry["vhost"], "is not declared", did_you_mean(entry["vhost"], vhosts)
            )

    def _policy(self, kind: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        where = f"{kind}.{entry['name']}"
        self._check_pattern(f"{where}.pattern", entry["pattern"])
        if not entry["definition"]:
            self._problem(
                f"{where}.definition", entry["definition"], "is empty", "at least one key, such as delivery-limit"
            )
        if self._is_3_10() and entry.get("apply_to") in _OF_ONE_TYPE:
            reason = "is not known to RabbitMQ 3.10, which would refuse the policy"
            self._problem(f"{where}.apply_to", entry["apply_to"], reason, "queues")
        for key, value in entry["definition"].items():
            self._policy_key(f"{where}.definition.{key}", str(key), value)
        return {
            "vhost": entry["vhost"],
            "name": entry["name"],
            "pattern": entry["pattern"],
            "apply-to": entry.get("apply_to") or "queues",
            "priority": int(entry.get("priority") or 0),
            "definition": entry["definition"],
        }

    def _policy_key(self, where: str, key: str, value: Any) -> None:
        close = closest(key, _POLICY_KEYS)
        if close and key not in _POLICY_KEYS:
            self._problem(where, value, "is no key of a policy", f"{close} (did you mean that?)")
        elif key == "consumer-timeout" and self._is_3_10():
            reason = "is not known to RabbitMQ 3.10, which would refuse the policy"
            self._problem(where, value, reason, "rabbitmq_consumer_timeout, for all queues")
        else:
            self._limit(where, key, value)

    def _limit(self, where: str, key: str, value: Any) -> None:
        """Note what RabbitMQ takes for no value of a key of a policy, or of an argument of a queue without its x-."""
        if key == "overflow" and value not in _OVERFLOW:
            self._problem(where, value, "is nothing that a full queue can do", did_you_mean(str(value), _OVERFLOW))
        elif key in _POLICY_NUMBERS:
            unit = _POLICY_NUMBERS[key]
            least = -1 if key == "delivery-limit" else 1 if key in _POSITIVE else 0
            if isinstance(value, bool) or not isinstance(value, int):
                self._problem(where, value, f"is not a whole number of {unit}", _in_unit(value, unit))
            elif value < least:
                self._problem(where, value, "is out of range", f"a whole number of {unit} from {least} on")

    def _operator_policy(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        value = self._policy("operator_policies", entry)
        key = {"vhost": value.pop("vhost"), "component": "operator_policy", "name": value.pop("name")}
        return {**key, "value": value}

    def _exchange(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        kind = str(entry.get("type") or "direct")
        self._misspelt(f"exchanges.{entry['name']}.type", kind, "is no type of exchange", _EXCHANGE_TYPES)
        return {
            "vhost": entry["vhost"],
            "name": entry["name"],
            "type": kind,
            "durable": entry.get("durable", True),
            "auto_delete": bool(entry.get("auto_delete")),
            "internal": bool(entry.get("internal")),
            "arguments": dict(entry.get("arguments") or {}),
        }

    def _queue(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        queue_type = entry.get("type") or "quorum"
        where = f"queues.{entry['name']}"
        if queue_type not in _QUEUE_TYPES:
            self._problem(f"{where}.type", queue_type, "is no type of queue", did_you_mean(queue_type, _QUEUE_TYPES))
        durable = entry.get("durable", True)
        if queue_type != "classic" and (not durable or entry.get("auto_delete")):
            self._problem(where, queue_type, "queues are durable and not deleted by themselves", "type classic")
        arguments = dict(entry.get("arguments") or {})
        if "x-queue-type" in arguments:
            self._problem(f"{where}.arguments", "x-queue-type", "has a key of its own", "type instead")
        for key, value in arguments.items():
            known = [f"x-{name}" for name in (*_POLICY_KEYS, *_QUEUE_ARGUMENTS)]
            if key not in known and (close := closest(str(key), known)):
                self._problem(f"{where}.arguments.{key}", value, "does nothing", f"{close} (did you mean that?)")
            else:
                self._limit(f"{where}.arguments.{key}", str(key).removeprefix("x-"), value)
        return {
            "vhost": entry["vhost"],
            "name": entry["name"],
            "durable": durable,
            "auto_delete": bool(entry.get("auto_delete")),
            "arguments": {**arguments, "x-queue-type": queue_type},
        }


def _key_file(key: str) -> str:
    """Return where a signing key that is given as a URL is kept on the host; nothing for another kind of key."""
    return _KEY_FILES[key.endswith(".gpg")] if key.startswith("https://") else ""


def config_value(value: Any) -> str:
    """Return a value as rabbitmq.conf wants it: quoted only where ``#`` would begin a comment.

    RabbitMQ 4 reads quotes as quotes, 3.10 as a part of the value, so there are none where none are needed.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return f"'{text}'" if "#" in text else text


def _in_unit(value: Any, unit: str) -> str:
    """Return what a value with a unit of its own comes to, or an example."""
    if re.fullmatch(r"[0-9]+", str(value)):
        # A number in quotes is in the right unit already.
        return f"{value}, without quotes"
    with contextlib.suppress(ValueError):
        if unit == "milliseconds":
            return str(1000 * parse_duration(value))
        if unit == "bytes":
            return str(parse_size(value))
    return "a whole number, without quotes"


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


def _given(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of an item that the user wrote: validation fills in ``None`` for the others."""
    return {str(key): value for key, value in entry.items() if value is not None}


def _limits(entry: Mapping[str, Any], *names: str) -> dict[str, int]:
    limits = {f"max-{name}": entry.get(f"max_{name}") for name in names}
    return {name: int(value) for name, value in limits.items() if value is not None}


def _vhost(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a virtual host; RabbitMQ 3.10 reads its properties beside the name, 4.x below ``metadata``."""
    metadata: dict[str, Any] = {
        key: entry[key] for key in ("description", "tags", "default_queue_type") if entry.get(key)
    }
    return {"name": entry["name"], **metadata, **({"metadata": metadata} if metadata else {})}


def _vhost_limits(entry: Mapping[str, Any]) -> dict[str, Any]:
    limits = _limits(entry, "queues", "connections")
    return {"vhost": entry["name"], "component": "vhost-limits", "name": "limits", "value": limits}


def _binding(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "vhost": entry["vhost"],
        "source": entry["source"],
        "destination": entry["destination"],
        "destination_type": entry.get("destination_type") or "queue",
        "routing_key": entry.get("routing_key") or "",
        "arguments": dict(entry.get("arguments") or {}),
    }
