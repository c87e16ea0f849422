# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""More arguments of ``celery worker``: which are allowed, which the role sets itself, and which do not exist.

They are read as the command reads them: short options may be joined (``-Ec8`` is ``-E -c 8``), long ones are not
abbreviated (click 8, parser.py: ``_match_long_opt`` wants the whole name), and a word that is no option is a setting
(``ctx.args`` in celery/bin/worker.py of Celery 5.7.0).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.module_utils.celery_versions import (
    NEWEST,
    WORKER_OPTIONS,
    Numbers,
    text,
)
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN, named_like_a_secret
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, closest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Options of `celery worker` (celery/bin/worker.py and CeleryDaemonCommand in celery/bin/base.py, 5.7.0) without a
#: value, and those with one and what it may be.
FLAGS = frozenset(
    {"-E", "--task-events", "--events", "--without-mingle", "--without-heartbeat"} | {"--disable-prefetch"}
)
VALUED = {
    "-O": "default|fair",
    "--optimization": "default|fair",
    "--pool-start-method": "fork|spawn",
    "--heartbeat-interval": r"[1-9][0-9]*",
    "-I": r"\S+",
    "--include": r"\S+",
}
_VALUE_HELP = {
    "default|fair": "default or fair",
    "fork|spawn": "fork or spawn",
    r"[1-9][0-9]*": "a whole number of seconds",
    r"\S+": "modules such as shop.tasks,shop.mails",
}
#: Those that the role sets, or that contradict a foreground service, with what to write instead: first without a value.
_OWN_FLAGS = {
    ("-B", "--beat"): "role celery_beat",
    ("-D", "--detach"): "nothing: systemd runs the worker",
    ("--without-gossip",): "nothing: the role gives it",
    ("--purge", "--discard"): "nothing: it would delete all waiting tasks at every start",
}
_OWN_VALUED = {
    ("-n", "--hostname"): "nothing: the node is named after the class",
    ("-Q", "--queues", "-X", "--exclude-queues"): "the key queues",
    ("-c", "--concurrency", "--autoscale"): "the key concurrency",
    ("-P", "--pool"): "the key pool",
    ("-l", "--loglevel"): "the key log_level",
    ("-f", "--logfile"): "the key log",
    ("-S", "--statedb"): "nothing: a file of one Python stops a worker of the next one from starting",
    ("--prefetch-multiplier",): "the key prefetch_multiplier",
    ("--time-limit",): "the key time_limit",
    ("--soft-time-limit",): "the key soft_time_limit",
    ("--max-tasks-per-child",): "the key max_tasks_per_child",
    ("--max-memory-per-child",): "the key max_memory_per_child",
    ("-s", "--schedule", "--schedule-filename", "--scheduler"): "role celery_beat",
    ("--pidfile", "--uid", "--gid", "--umask", "--executable"): "nothing: systemd runs the worker",
}
#: Options of `celery` itself, which `celery worker` does not know, and old ones.
_OF_CELERY = {
    ("-A", "--app", "-b", "--broker", "--result-backend", "--config", "--loader"): "role celery_app's variables",
    ("--workdir",): "nothing: it must be a directory that the service cannot write to",
    ("-C", "--no-color", "-q", "--quiet", "--version", "--skip-checks"): "nothing: it stands before the word worker",
}
OWN = {
    option: instead for table in (_OWN_FLAGS, _OWN_VALUED) for options, instead in table.items() for option in options
}
_OWNERS = {**OWN, **{option: instead for options, instead in _OF_CELERY.items() for option in options}}
_TAKES_VALUE = frozenset(VALUED) | {option for options in _OWN_VALUED for option in options}
_AN_OPTION = f"an option of celery worker {text(NEWEST)}"
_SETTING = "celery_app_settings, or an option and its value in one word, such as --heartbeat-interval=10"


@dataclass(frozen=True)
class Stranger:
    """An option that Celery does not have; the app may have added it (``app.user_options``).

    Arguments:
        word: as it is written.
        instead: what was meant.
    """

    word: str
    instead: str


def check_arguments(words: Iterable[str], variable: str) -> list[Problem]:
    """Return the mistakes in the further arguments of a class, without the options that Celery does not know.

    Arguments:
        words: one argument each.
        variable: where they are written.
    """
    problems = []
    for found in _read(list(words)):
        if isinstance(found, tuple):
            word, reason, instead = found
            problems.append(
                Problem("argument-not-allowed", variable, NOT_SHOWN if _is_secret(word) else word, reason, instead)
            )
    return problems


def strangers(words: Iterable[str]) -> list[Stranger]:
    """Return the options among ``words`` that no worker of any supported Celery has."""
    return [found for found in _read(list(words)) if isinstance(found, Stranger)]


def newer_options(words: Iterable[object]) -> list[tuple[str, Numbers]]:
    """Return the words that are options of a newer Celery than the oldest that is supported, and since when."""
    found = []
    for word in map(str, words):
        since = WORKER_OPTIONS.get(word.partition("=")[0])
        if since:
            found.append((word, since))
    return found


def _read(words: list[str]) -> Iterator[tuple[str, str, str] | Stranger]:
    """Yield (word, reason, what to write instead) of each mistake, and the unknown options."""
    after = ""
    for position, word in enumerate(words):
        if after:
            # The value of the option before it; that of an unknown one may or may not be there.
            option, after = after, ""
            if option in _TAKES_VALUE or not word.startswith("-"):
                yield from _value_problems(word, option, word)
                continue
        if _is_secret(word):
            if word.startswith("-") and "=" not in word:
                after = word
            yield word, "would be readable by everyone on the host", "celery_app_environment"
        elif not word.startswith("-") or word in ("-", "--"):
            yield word, "is not an option, and Celery would take it for a setting", _SETTING
        elif re.match(r"--[a-z-]+\s", word):
            option, value = word.split(maxsplit=1)
            if option in _OWNERS:
                yield word, "is set by the role itself", _OWNERS[option]
            else:
                yield word, "is one word to Celery, which knows no such option", f"{option}={value}"
        else:
            option, found = _long(word) if word.startswith("--") else _short(word)
            yield from found
            if option in _TAKES_VALUE and position + 1 == len(words):
                if option not in OWN:
                    yield word, "lacks its value", _VALUE_HELP[VALUED[option]]
            else:
                after = option


def _is_secret(word: str) -> bool:
    return "://" in word or named_like_a_secret(word.partition("=")[0])


def _long(word: str) -> tuple[str, list[tuple[str, str, str] | Stranger]]:
    """Return the option that waits for its value, if any, and what is wrong."""
    option, separator, value = word.partition("=")
    if option in _OWNERS:
        return ("" if separator or option not in _TAKES_VALUE else option), [
            (word, "is set by the role itself", _OWNERS[option])
        ]
    if option in VALUED:
        return ("", list(_value_problems(word, option, value))) if separator else (option, [])
    if option in FLAGS:
        return "", [(word, "takes no value", option)] if separator else []
    close = closest(option, {name for name in {*FLAGS, *VALUED, *OWN} if name.startswith("--")})
    instead = f"{close} (did you mean that?)" if close else _AN_OPTION
    return ("" if separator else option), [Stranger(word, instead)]


def _short(word: str) -> tuple[str, list[tuple[str, str, str] | Stranger]]:
    """The same for short options, several of which may be in one word; the last of them may have its value there."""
    for position, letter in enumerate(word[1:], start=2):
        option, rest = f"-{letter}", word[position:]
        if option in _OWNERS:
            waiting = option if option in _TAKES_VALUE and not rest else ""
            return waiting, [(word, "is set by the role itself", _OWNERS[option])]
        if option in VALUED:
            return ("", list(_value_problems(word, option, rest))) if rest else (option, [])
        if option not in FLAGS:
            return option, [Stranger(word, _AN_OPTION)]
    return "", []


def _value_problems(word: str, option: str, value: str) -> Iterator[tuple[str, str, str]]:
    kind = VALUED.get(option)
    if kind and not re.fullmatch(kind, value):
        yield word, f"is not a value of {option}", _VALUE_HELP[kind]
