# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Worker classes: what may be written about one, how the layers merge, and what a mistake is answered with.

The names of classes are the user's, so Ansible's argument specs cannot look inside: this module does, key by key.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery_settings import MOST_PREFETCHED
from ansible_collections.celeryops.stack.plugins.plugin_utils.hardening import sandbox
from ansible_collections.celeryops.stack.plugins.plugin_utils.layout import (
    CLASS_NAME,
    RESERVED_CLASS_NAMES,
    worker_names,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import Problem, UnreadableError, did_you_mean
from ansible_collections.celeryops.stack.plugins.plugin_utils.quantities import (
    DURATION_HELP,
    SIZE_HELP,
    parse_duration,
    parse_size,
    show_size,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.queue_names import QUEUE_HELP, is_queue
from ansible_collections.celeryops.stack.plugins.plugin_utils.service_units import (
    LOG_LEVELS,
    check_environment,
    check_prefix,
    check_writable_paths,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.worker_arguments import check_arguments

POOLS = ("prefork", "threads", "gevent", "solo")
_PREFORK = ("prefork",)

#: Workers of one class on one host: each is a process with the whole app in it, and more than that is a mistake.
MOST_WORKERS = 99

#: Seconds between a task's time limit and the end of the unit that runs it.
STOP_MARGIN = 30


@dataclass(frozen=True)
class Key:
    """What may be written for one key of a class.

    Arguments:
        kind: how the value is read (a method ``_read_<kind>`` of ``_Reader``).
        default: the value when nobody writes one; None leaves the matter to the app's settings or to systemd.
        minimum: smallest number, duration in seconds or size in bytes.
        maximum: largest number, duration or size.
        choices: the allowed words.
        pools: pools in which the key has an effect.
    """

    kind: str
    default: Any = None
    minimum: int = 0
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    pools: tuple[str, ...] = POOLS


KEYS: Mapping[str, Key] = {
    "state": Key("choice", "present", choices=("present", "absent")),
    "queues": Key("queues"),
    "workers": Key("number", 1, minimum=1, maximum=MOST_WORKERS),
    "command_prefix": Key("command"),
    "pool": Key("choice", "prefork", choices=POOLS),
    "concurrency": Key("concurrency", minimum=1, maximum=100_000),
    "prefetch_multiplier": Key("number", minimum=1, maximum=MOST_PREFETCHED),
    "time_limit": Key("duration", minimum=1, pools=("prefork", "gevent")),
    "soft_time_limit": Key("duration", minimum=1, pools=_PREFORK),
    "max_tasks_per_child": Key("number", minimum=1, maximum=2**31 - 1, pools=_PREFORK),
    "max_memory_per_child": Key("size", minimum=8 * 1024**2, pools=_PREFORK),
    "acknowledgement": Key("choice", choices=("late", "early")),
    "log": Key("choice", "journal", choices=("journal", "file")),
    "log_level": Key("choice", "INFO", choices=LOG_LEVELS),
    "log_received": Key("truth", default=False),
    "environment": Key("mapping"),
    "nice": Key("number", minimum=-20, maximum=19),
    "cpu_weight": Key("number", minimum=1, maximum=10_000),
    "io_weight": Key("number", minimum=1, maximum=10_000),
    "memory_high": Key("size", minimum=32 * 1024**2),
    "memory_max": Key("size", minimum=32 * 1024**2),
    "tasks_max": Key("number", minimum=4, maximum=4_194_304),
    "start_timeout": Key("duration", 120, minimum=5),
    "stop_timeout": Key("duration", 300, minimum=1),
    "watchdog": Key("duration", 60),
    "writable_paths": Key("texts"),
    "extra_arguments": Key("texts"),
    "hardening": Key("mapping"),
}


@dataclass
class Layer:
    """One dictionary of classes: the variable that it is in, and class name -> keys."""

    variable: str
    classes: Mapping[Any, Any]


@dataclass
class WorkerClass:
    """A class after merging: key -> value, and where each value was written."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    #: whether something was written for its queues that could not be read
    unread_queues: bool = False
    #: keys that were meant by names that are none
    meant: set[str] = field(default_factory=set)
    #: keys that came from the defaults for all classes, not from the class itself
    inherited: set[str] = field(default_factory=set)

    def where(self, key: str) -> str:
        """Return the variable, with its path, that ``key`` was written in."""
        return self.origins.get(key, f"celery_worker_classes.{self.name}.{key}")


def merge(defaults: Mapping[str, Any], layers: Sequence[Layer]) -> tuple[dict[str, WorkerClass], list[Problem]]:
    """Merge the layers, later ones over earlier ones, key by key.

    ``environment`` and ``hardening`` merge entry by entry; every other value, lists included, is replaced. A null takes
    back what an earlier layer said.

    Arguments:
        defaults: celery_worker_defaults, below every class.
        layers: celery_worker_classes and what is laid over it, weakest first.
    """
    problems: list[Problem] = []
    classes: dict[str, WorkerClass] = {}
    for layer in layers:
        for name, keys in layer.classes.items():
            where = f"{layer.variable}.{name}"
            reason, instead = _name_problem(name)
            if reason:
                # What stands in the class can be read all the same.
                problems.append(Problem(where, name, reason, instead, readable=True))
            if str(name) not in classes:
                classes[str(name)] = WorkerClass(str(name))
                _lay(classes[str(name)], defaults, "celery_worker_defaults", problems)
                classes[str(name)].inherited = set(classes[str(name)].values)
            if keys is None or isinstance(keys, Mapping):
                _lay(classes[str(name)], keys or {}, where, problems)
            else:
                problems.append(Problem(where, keys, "is not a dictionary", "keys such as {queues: [feeds]}, or {}"))
                classes[str(name)].unread_queues = True
    problems += _absent_without_a_class(classes, layers)
    return classes, problems


def _absent_without_a_class(classes: Mapping[str, WorkerClass], layers: Sequence[Layer]) -> Iterator[Problem]:
    """Yield the classes that a nearer layer takes away and that no layer has."""
    for layer in layers[1:]:
        for name, keys in layer.classes.items():
            alone = sum(name in one.classes for one in layers) == 1
            if isinstance(keys, Mapping) and keys.get("state") == "absent" and alone and name in classes:
                instead = did_you_mean(str(name), [other for other in classes if other != name])
                yield Problem(
                    f"{layer.variable}.{name}.state", "absent", "takes away a class that is not there", instead
                )


def _name_problem(name: Any) -> tuple[str, str]:
    if isinstance(name, str) and name in RESERVED_CLASS_NAMES:
        return f"is the name of the role {RESERVED_CLASS_NAMES[name]}'s unit", "another name"
    if not isinstance(name, str):
        # To YAML, yes, on and 1 are no text.
        return "is not text, so it cannot be the name of a class", "a name that begins with a letter, in quotes"
    if not CLASS_NAME.fullmatch(name) or name.endswith("-"):
        return "cannot be the name of a class", "a lower-case letter, then at most 30 of a-z, 0-9 and -"
    return "", ""


#: What Celery calls it, too far from the key's name to look like a slip.
_OTHER_NAMES = {
    "acks_late": "acknowledgement: late or early",
    "autoscale": "concurrency, which is one number",
    "prefetch": "prefetch_multiplier",
}


def _lay(target: WorkerClass, keys: Mapping[Any, Any], where: str, problems: list[Problem]) -> None:
    """Lay ``keys``, written in ``where``, over ``target``."""
    earlier: Any
    known = [key for key in KEYS if key != "state" or where != "celery_worker_defaults"]
    for key, value in keys.items():
        if key not in known:
            instead = _OTHER_NAMES.get(str(key)) or did_you_mean(str(key), known)
            problems.append(Problem(f"{where}.{key}", value, "is no key of a class", instead))
            # What a class consumes whose queues stand under another name is not known.
            target.unread_queues = target.unread_queues or instead.startswith("queues ")
            target.meant.add(re.split(r"[ ,:]", instead)[0])
            continue
        name = str(key)
        target.inherited.discard(name)
        if value is None:
            target.values.pop(name, None)
            target.origins.pop(name, None)
            continue
        earlier = target.values.get(name)
        merges = KEYS[name].kind == "mapping" and isinstance(value, Mapping) and isinstance(earlier, Mapping)
        target.values[name] = {**earlier, **value} if merges else value
        target.origins[name] = f"{where}.{name}"


def check(worker: WorkerClass, default_queue: str, time_limit: int) -> tuple[dict[str, Any], list[Problem]]:
    """Return every key of a class with its value read and its default filled in, and the mistakes.

    Arguments:
        worker: a merged class.
        default_queue: the queue of a class that names none.
        time_limit: seconds that a task may take in a class that sets no limit; 0 where the app has none either.
    """
    problems: list[Problem] = []
    read: dict[str, Any] = {}
    for name, key in KEYS.items():
        read[name] = key.default
        if name not in worker.values:
            continue
        try:
            read[name] = getattr(_Reader, key.kind)(key, worker.values[name])
        except UnreadableError as error:
            problems.append(error.of(worker.where(name), worker.values[name]))
            # One complaint about it is enough.
            if name == "concurrency":
                read[name] = 1
            if name == "queues":
                read[name] = _legible(worker.values[name])
                worker.unread_queues = True
    if "stop_timeout" not in worker.values:
        # Whatever runs when the unit is stopped has ended by then.
        read["stop_timeout"] = max(read["stop_timeout"], (read["time_limit"] or time_limit) + STOP_MARGIN)
    problems += _check_pool(worker, read)
    problems += check_arguments(read["extra_arguments"] or [], worker.where("extra_arguments"))
    problems += check_prefix(read["command_prefix"] or [], worker.where("command_prefix"))
    if read["queues"] is None:
        read["queues"] = [default_queue]
    read["environment"], found = check_environment(read["environment"] or {}, worker.where("environment"))
    problems += found
    read["writable_paths"], found = check_writable_paths(read["writable_paths"] or [], worker.where("writable_paths"))
    problems += found
    # A null inside `hardening` removes a directive, so it is kept until the sandbox is built.
    read["sandbox"], found = sandbox(read.pop("hardening") or {}, worker.where("hardening"))
    problems += found
    problems += _check_limits(worker, read)
    return read, problems


def _legible(queues: Any) -> list[str] | None:
    """Return the queues that somebody seems to have meant, so that nothing else is said about the others."""
    entries = queues if isinstance(queues, list) else str(queues).split(",")
    names = [str(entry).strip() for entry in entries]
    return list(dict.fromkeys(name for name in names if is_queue(name))) or None


def _check_pool(worker: WorkerClass, read: dict[str, Any]) -> list[Problem]:
    """Refuse keys without effect in the class's pool; drop them when they only come from the defaults for all."""
    problems: list[Problem] = []
    pool = read["pool"]
    for name, key in KEYS.items():
        if pool in key.pools or read[name] is None:
            continue
        if name in worker.inherited:
            read[name] = None
        else:
            reason = f"has no effect in pool {pool}"
            instead = f"pool: {key.pools[0]}, or leave it out"
            problems.append(Problem(worker.where(name), worker.values[name], reason, instead, readable=True))
    concurrency = read["concurrency"]
    if pool == "solo":
        if concurrency not in (None, 1) and "concurrency" not in worker.inherited:
            where = worker.where("concurrency")
            problems.append(
                Problem(where, concurrency, "cannot be: pool solo runs one task at a time", "1, or another pool")
            )
        read["concurrency"] = 1
    elif pool != "prefork" and concurrency in (None, "auto"):
        if concurrency is None and "concurrency" in worker.meant:
            # Told by its name already.
            return problems
        reason = f"says nothing about how many tasks pool {pool} runs at once"
        problems.append(Problem(worker.where("concurrency"), concurrency, reason, "a number such as 50"))
    elif concurrency is None:
        read["concurrency"] = "auto"
    return problems


def _check_limits(worker: WorkerClass, read: Mapping[str, Any]) -> list[Problem]:
    """Return limits that contradict each other."""
    problems: list[Problem] = []
    pairs = (
        ("soft_time_limit", "time_limit", "never acts: the task is killed before"),
        ("memory_high", "memory_max", "never acts: the limit that kills comes first"),
        ("max_memory_per_child", "memory_max", "never acts: the unit is killed before"),
    )
    for lower, upper, reason in pairs:
        if read[lower] is not None and read[upper] is not None and read[lower] >= read[upper]:
            instead = f"less than {upper}, which is {worker.values[upper]}"
            problems.append(Problem(worker.where(lower), worker.values[lower], reason, instead))
    if read["watchdog"] in range(1, 10):
        instead = "at least 10s, or 0 to turn the watchdog off"
        problems.append(Problem(worker.where("watchdog"), worker.values["watchdog"], "restarts busy workers", instead))
    return problems


def namesakes(numbers: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield (class, other class) where a further worker of the other class would have the name of the class.

    Arguments:
        numbers: class -> how many workers it has.
    """
    for other, number in numbers.items():
        yield from ((name, other) for name in worker_names(other, number)[1:] if name in numbers)


class _Reader:
    """Readers of values: each returns what was meant, or raises ValueError with "reason; write what"."""

    @staticmethod
    def choice(key: Key, value: Any) -> str:
        text = str(value)
        for choice in key.choices:
            if text == choice or (choice.isupper() and text.upper() == choice):
                return choice
        raise UnreadableError("is not one of its values", did_you_mean(text, key.choices))

    @staticmethod
    def number(key: Key, value: Any) -> int:
        text = f"a whole number from {key.minimum} to {key.maximum}"
        if isinstance(value, bool) or not re.fullmatch(r"-?\d+", str(value).strip()):
            raise UnreadableError("is not a whole number", text)
        number = int(value)
        if number < key.minimum or (key.maximum is not None and number > key.maximum):
            raise UnreadableError("is out of range", text)
        return number

    @classmethod
    def concurrency(cls, key: Key, value: Any) -> int | str:
        if str(value) == "auto":
            return "auto"
        try:
            return cls.number(key, value)
        except UnreadableError as error:
            raise UnreadableError(error.reason, f"{error.instead}, or auto") from error

    @staticmethod
    def duration(key: Key, value: Any) -> int:
        seconds = parse_duration(value)
        if seconds < key.minimum:
            raise UnreadableError(f"is shorter than {key.minimum}s", DURATION_HELP)
        return seconds

    @staticmethod
    def size(key: Key, value: Any) -> int:
        size = parse_size(value)
        if size < key.minimum:
            raise UnreadableError(f"is less than {show_size(key.minimum)}, too little to work in", SIZE_HELP)
        return size

    @staticmethod
    def truth(_key: Key, value: Any) -> bool:
        try:
            return bool(boolean(value))
        except TypeError as error:
            raise UnreadableError("is neither true nor false", "true or false") from error

    @staticmethod
    def mapping(_key: Key, value: Any) -> dict[Any, Any]:
        if not isinstance(value, Mapping):
            raise UnreadableError("is not a dictionary", "{NAME: value}")
        return dict(value)

    @staticmethod
    def texts(_key: Key, value: Any) -> list[str]:
        if not isinstance(value, list) or any(
            not isinstance(entry, (str, int)) or "\n" in str(entry) for entry in value
        ):
            raise UnreadableError("is not a list of texts", "a list such as [one, two]")
        return [str(entry) for entry in value]

    @classmethod
    def command(cls, key: Key, value: Any) -> list[str]:
        if isinstance(value, str):
            # As a person writes a command; one without a blank is one word in either form.
            try:
                return shlex.split(value)
            except ValueError as error:
                raise UnreadableError("has a quote that is not closed", "a list of words") from error
        try:
            return cls.texts(key, value)
        except ValueError as error:
            raise UnreadableError("is not a command", "a list of words such as [ddtrace-run]") from error

    @staticmethod
    def queues(_key: Key, value: Any) -> list[str]:
        if not isinstance(value, list) or not value:
            raise UnreadableError("is not a list of queues", "a list such as [payments, mails]")
        names = [str(entry) for entry in value]
        bad = [entry for entry in value if not is_queue(entry)]
        if bad:
            raise UnreadableError(f"holds {bad[0]!r}, which cannot be the name of a queue", QUEUE_HELP)
        if len(set(names)) != len(names):
            raise UnreadableError("names a queue twice", "each queue once")
        return names
