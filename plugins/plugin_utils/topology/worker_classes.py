# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parses worker classes: each key, and the message about a mistake."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.worker_arguments import check_arguments
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import (
    Problem,
    UnreadableError,
    did_you_mean,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.sandbox import sandbox
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.units import (
    check_environment,
    check_prefix,
    check_writable_paths,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.class_keys import KEYS, Key
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.class_layers import (
    DEFAULTS,
    LEVELS,
    Layer,
    WrittenClass,
    merge,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.layout import worker_names
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import (
    DURATION_HELP,
    SIZE_HELP,
    parse_duration,
    parse_size,
    show_size,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.queue_names import QUEUE_HELP, is_queue

#: Seconds between a task's time limit and the end of the unit that runs it.
TIME_LIMIT_MARGIN = 30
#: Where tasks may take longer, in seconds, taking more than one in advance gains nothing.
LONG_TASK = 3600


# A fleet has twenty thousand of them, which take 26 MB less with slots.
@dataclass(frozen=True, slots=True)
class WorkerClass:
    """What a worker class of a host means, each key read (``class_keys.KEYS``): a unit for each of its workers.

    Durations are in seconds and sizes in bytes; None leaves a matter to the app's settings, or to systemd.

    Arguments:
        app: name of its app, and
        host: name of its host; both are empty where only its keys were read.
        name: of the class.
        queues: what it consumes; none where nothing is said, and the role fills in the app's default queue.
        stop_timeout: 0 where neither it nor a time limit is said, and the role fills it in.
        sandbox: the lines of its units' sandbox (``systemd.sandbox``).
        queues_known: whether what is written of its queues could be read.
        written: key of the class -> what the inventory says, for those that it says anything about.
        origins: key of the class -> the variable that says it, with the path inside it.
    """

    app: str = ""
    host: str = ""
    name: str = ""
    queues: tuple[str, ...] = ()
    state: str = "present"
    workers: int = 1
    command_prefix: Sequence[str] = ()
    pool: str = "prefork"
    concurrency: int | str = "auto"
    prefetch_multiplier: int | None = None
    time_limit: int | None = None
    soft_time_limit: int | None = None
    max_tasks_per_child: int | None = None
    max_memory_per_child: int | None = None
    acknowledgement: str | None = None
    log: str = "journal"
    log_level: str = "INFO"
    log_received: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    nice: int | None = None
    cpu_weight: int | None = None
    io_weight: int | None = None
    memory_high: int | None = None
    memory_max: int | None = None
    tasks_max: int | None = None
    start_timeout: int = 0
    stop_timeout: int = 0
    watchdog: int = 0
    writable_paths: Sequence[str] = ()
    extra_arguments: Sequence[str] = ()
    sandbox: Sequence[str] = ()
    queues_known: bool = True
    written: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def present(self) -> bool:
        """Whether the host has it."""
        return self.state == "present"

    def where(self, key: str) -> str:
        """Return the variable, with its path, in which ``key`` stands, or could."""
        return self.origins.get(key, f"{self.place}.{key}")

    @property
    def place(self) -> str:
        """The variable, with its path, in which the class stands: the one of all hosts, if it is there."""
        ending = f".{self.name}"
        places = [origin.rpartition(".")[0] for origin in self.origins.values()]
        common = f"{LEVELS[0]}{ending}"
        return common if common in places else next((place for place in places if place.endswith(ending)), common)

    @property
    def names(self) -> list[str]:
        """The names of its workers."""
        return worker_names(self.name, self.workers)


#: The classes of a host by their names, those that it is not to have as well, and the mistakes in them.
Classes = tuple[dict[str, WorkerClass], list[Problem]]


def read_classes(values: Mapping[str, Any]) -> Classes:
    """Return the classes of a host, and the mistakes in them.

    Arguments:
        values: what the inventory says at each of ``LEVELS``, and in ``DEFAULTS``.
    """
    layers = [Layer(name, values.get(name) or {}) for name in LEVELS]
    merged, problems = merge(values.get(DEFAULTS) or {}, layers)
    classes: dict[str, WorkerClass] = {}
    for written in merged.values():
        classes[written.name], found = read_class(written)
        problems += found
    numbers = {name: one.workers for name, one in classes.items() if one.present}
    for other, number in numbers.items():
        for name in filter(numbers.__contains__, worker_names(other, number)[1:]):
            told = f"is the name of a worker of class {other}, which has {number}"
            where = f"{LEVELS[0]}.{name}"
            problems.append(Problem("name-of-a-worker", where, name, told, "another name", readable=True))
    return classes, problems


def read_class(written: WrittenClass) -> tuple[WorkerClass, list[Problem]]:
    """Return a class with each key read and its default filled in, and the mistakes."""
    problems: list[Problem] = []
    read: dict[str, Any] = {}
    for name, key in KEYS.items():
        read[name] = key.default
        if name not in written.values:
            continue
        try:
            read[name] = getattr(_Reader, key.kind)(key, written.values[name])
        except UnreadableError as error:
            problems.append(error.of(written.where(name), written.values[name]))
            # One complaint about it is enough.
            if name == "concurrency":
                read[name] = 1
            if name == "queues":
                read[name] = _legible(written.values[name])
                written.unread_queues = True
    if "stop_timeout" not in written.values:
        read["stop_timeout"] = stop_timeout_of(read["time_limit"]) if read["time_limit"] else 0
    problems += _check_pool(written, read)
    problems += check_arguments(read["extra_arguments"] or [], written.where("extra_arguments"))
    problems += check_prefix(read["command_prefix"] or [], written.where("command_prefix"))
    read["environment"], found = check_environment(read["environment"] or {}, written.where("environment"))
    problems += found
    read["writable_paths"], found = check_writable_paths(read["writable_paths"] or [], written.where("writable_paths"))
    problems += found
    # A null inside `hardening` removes a directive, so it is kept until the sandbox is built.
    read["sandbox"], found = sandbox(read.pop("hardening") or {}, written.where("hardening"))
    problems += found
    problems += _check_limits(written, read)
    # Nothing said and nothing there are the same.
    lists = ("queues", "command_prefix", "writable_paths", "extra_arguments")
    read |= {name: tuple(read[name] or ()) for name in lists}
    said: dict[str, Any] = {
        "written": written.values,
        "origins": written.origins,
        "queues_known": not written.unread_queues,
    }
    return WorkerClass(name=written.name, **read, **said), problems


def _legible(queues: Any) -> list[str] | None:
    """Return the queues that somebody seems to have meant, so that nothing else is said about the others."""
    entries = queues if isinstance(queues, list) else str(queues).split(",")
    names = [str(entry).strip() for entry in entries]
    return list(dict.fromkeys(name for name in names if is_queue(name))) or None


def _check_pool(written: WrittenClass, read: dict[str, Any]) -> list[Problem]:
    """Refuse keys without effect in the class's pool; drop them when they only come from the defaults for all."""
    problems: list[Problem] = []
    pool = read["pool"]
    for name, key in KEYS.items():
        if pool in key.pools or read[name] is None:
            continue
        if name in written.inherited:
            read[name] = None
        else:
            reason = f"has no effect in pool {pool}"
            instead = f"pool: {key.pools[0]}, or leave it out"
            problems.append(
                Problem("no-effect-in-pool", written.where(name), written.values[name], reason, instead, readable=True)
            )
    concurrency = read["concurrency"]
    if pool == "solo":
        if concurrency not in (None, 1) and "concurrency" not in written.inherited:
            where = written.where("concurrency")
            reason = "cannot be: pool solo runs one task at a time"
            problems.append(Problem("solo-runs-one-task", where, concurrency, reason, "1, or another pool"))
        read["concurrency"] = 1
    elif pool != "prefork" and concurrency in (None, "auto"):
        if concurrency is None and "concurrency" in written.meant:
            # Told by its name already.
            return problems
        reason = f"must be a number in pool {pool}: it is how many tasks run at once"
        problems.append(
            Problem("concurrency-missing", written.where("concurrency"), concurrency, reason, "a number such as 50")
        )
    elif concurrency is None:
        read["concurrency"] = "auto"
    return problems


def _check_limits(written: WrittenClass, read: Mapping[str, Any]) -> list[Problem]:
    """Return limits that contradict each other."""
    problems: list[Problem] = []
    pairs = (
        ("soft_time_limit", "time_limit", "never acts: the task is killed before"),
        ("memory_high", "memory_max", "never acts: the limit that kills comes first"),
        ("max_memory_per_child", "memory_max", "never acts: the unit is killed before"),
    )
    for lower, upper, reason in pairs:
        if read[lower] is not None and read[upper] is not None and read[lower] >= read[upper]:
            instead = f"less than {upper}, which is {written.values[upper]}"
            problems.append(Problem("limit-never-acts", written.where(lower), written.values[lower], reason, instead))
    if read["watchdog"] in range(1, 10):
        instead = "at least 10s, or 0 to turn the watchdog off"
        problems.append(
            Problem(
                "restarts-busy-workers",
                written.where("watchdog"),
                written.values["watchdog"],
                "restarts busy workers",
                instead,
            )
        )
    return problems


def stop_timeout_of(time_limit: int) -> int:
    """Return how long a stop may take: whatever runs then has ended by then.

    Arguments:
        time_limit: of the tasks; 0 without.
    """
    return max(int(KEYS["stop_timeout"].default), time_limit + TIME_LIMIT_MARGIN)


def prefetch_of(time_limit: int | None) -> int | None:
    """Return how many messages a process takes in advance because of its time limit; None where that says nothing.

    Arguments:
        time_limit: in seconds; 0 or None without.
    """
    return 1 if (time_limit or 0) > LONG_TASK else None


class _Reader:
    """Readers of values: each returns what was meant, or raises ValueError with "reason; write what"."""

    @staticmethod
    def choice(key: Key, value: Any) -> str:
        text = str(value)
        for choice in key.choices:
            if text == choice or (choice.isupper() and text.upper() == choice):
                return choice
        raise UnreadableError("not-a-choice", "is not one of its values", did_you_mean(text, key.choices))

    @staticmethod
    def number(key: Key, value: Any) -> int:
        text = f"a whole number from {key.minimum} to {key.maximum}"
        if isinstance(value, bool) or not re.fullmatch(r"-?\d+", str(value).strip()):
            raise UnreadableError("not-a-whole-number", "is not a whole number", text)
        number = int(value)
        if number < key.minimum or (key.maximum is not None and number > key.maximum):
            raise UnreadableError("out-of-range", "is out of range", text)
        return number

    @classmethod
    def concurrency(cls, key: Key, value: Any) -> int | str:
        if str(value) == "auto":
            return "auto"
        try:
            return cls.number(key, value)
        except UnreadableError as error:
            raise UnreadableError(error.id, error.reason, f"{error.instead}, or auto") from error

    @staticmethod
    def duration(key: Key, value: Any) -> int:
        seconds = parse_duration(value)
        if seconds < key.minimum:
            raise UnreadableError("too-short", f"is shorter than {key.minimum}s", DURATION_HELP)
        return seconds

    @staticmethod
    def size(key: Key, value: Any) -> int:
        size = parse_size(value)
        if size < key.minimum:
            raise UnreadableError(
                "too-small", f"is less than {show_size(key.minimum)}, too little to work in", SIZE_HELP
            )
        return size

    @staticmethod
    def truth(_key: Key, value: Any) -> bool:
        try:
            return bool(boolean(value))
        except TypeError as error:
            raise UnreadableError("not-a-boolean", "is neither true nor false", "true or false") from error

    @staticmethod
    def mapping(_key: Key, value: Any) -> dict[Any, Any]:
        if not isinstance(value, Mapping):
            raise UnreadableError("not-a-dictionary", "is not a dictionary", "{NAME: value}")
        return dict(value)

    @staticmethod
    def texts(_key: Key, value: Any) -> list[str]:
        if not isinstance(value, list) or any(
            not isinstance(entry, (str, int)) or "\n" in str(entry) for entry in value
        ):
            raise UnreadableError("not-a-list-of-texts", "is not a list of texts", "a list such as [one, two]")
        return [str(entry) for entry in value]

    @classmethod
    def command(cls, key: Key, value: Any) -> list[str]:
        if isinstance(value, str):
            # As a person writes a command; one without a blank is one word in either form.
            try:
                return shlex.split(value)
            except ValueError as error:
                raise UnreadableError(
                    "quote-that-is-not-closed", "has a quote that is not closed", "a list of words"
                ) from error
        try:
            return cls.texts(key, value)
        except ValueError as error:
            raise UnreadableError(
                "not-a-command", "is not a command", "a list of words such as [ddtrace-run]"
            ) from error

    @staticmethod
    def queues(_key: Key, value: Any) -> list[str]:
        if not isinstance(value, list) or not value:
            raise UnreadableError("not-a-list-of-queues", "is not a list of queues", "a list such as [payments, mails]")
        names = [str(entry) for entry in value]
        bad = [entry for entry in value if not is_queue(entry)]
        if bad:
            raise UnreadableError(
                "entry-not-a-queue-name", f"holds {bad[0]!r}, which cannot be the name of a queue", QUEUE_HELP
            )
        if len(set(names)) != len(names):
            raise UnreadableError("names-a-queue-twice", "lists a queue twice", "each queue once")
        return names
