# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands before and after the switch to a release: how the variable is parsed and checked."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils.masking import secrets_of
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN, named_like_a_secret
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import (
    Problem,
    UnreadableError,
    did_you_mean,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import DURATION_HELP, parse_duration

VARIABLE = "celery_app_release_commands"
WHEN = ("before", "after")
KEYS = ("command", "when", "timeout")
#: Seconds: a migration of a large table takes its time, and one that waits for a lock has to end.
TIMEOUT = 3600
EXAMPLE = "a line such as manage.py migrate --noinput, a list of words, or {command: ..., when: after, timeout: 10m}"
#: What only a shell understands, where it stands as a word of its own.
_SHELL = frozenset({"&&", "||", "|", ";", ">", ">>", "<", "&", "2>&1"})

#: What a shell does itself: there is no such program.
_BUILT_IN = frozenset({".", "cd", "export", "source", "set"})


def release_commands(entries: Sequence[Any]) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Return ``argv``, ``when`` and ``timeout`` (seconds) of each command, and the mistakes in them.

    Arguments:
        entries: a line, a list of words, or a dictionary with :data:`KEYS`.
    """
    commands: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for position, entry in enumerate(entries):
        where = f"{VARIABLE}[{position}]"
        written: Mapping[Any, Any] = entry if isinstance(entry, Mapping) else {"command": entry}
        unknown = [key for key in written if key not in KEYS]
        problems += [
            Problem(
                "no-key-of-a-command",
                f"{where}.{key}",
                NOT_SHOWN,
                "is not a key of a command",
                did_you_mean(str(key), KEYS),
            )
            for key in unknown
        ]
        inside = f"{where}.command" if isinstance(entry, Mapping) else where
        argv, found = _words(inside, written.get("command"))
        problems += found
        when = str(written.get("when", WHEN[0]))
        if when not in WHEN:
            problems.append(Problem("no-moment", f"{where}.when", when, "is not a moment", did_you_mean(when, WHEN)))
        timeout = TIMEOUT
        if "timeout" in written:
            try:
                timeout = parse_duration(written["timeout"])
            except UnreadableError as error:
                problems.append(error.of(f"{where}.timeout", written["timeout"]))
            else:
                if timeout < 1:
                    problems.append(
                        Problem(
                            "zero-duration",
                            f"{where}.timeout",
                            written["timeout"],
                            "must be longer than 0s",
                            DURATION_HELP,
                        )
                    )
        commands.append({"argv": argv, "when": when, "timeout": timeout})
    return commands, problems


def _words(where: str, command: Any) -> tuple[list[str], list[Problem]]:
    """Return the words of a command, which no shell reads, and what is wrong with them."""
    if isinstance(command, str):
        try:
            words = shlex.split(command)
        except ValueError:
            # A quote that is not closed; the text may hold anything.
            reason = "has a quote that is not closed"
            return [], [Problem("quote-that-is-not-closed", where, NOT_SHOWN, reason, EXAMPLE)]
        shell = [word for word in words if word in _SHELL] + [";"] * _ends_a_command(command)
        # Of the first word alone: an argument may be called so.
        shell += [word for word in words[:1] if word in _BUILT_IN or re.match(r"\w+=", word)]
        shell = [] if words[:1] in (["sh"], ["bash"]) else shell
        if shell:
            # Of what is assigned, the name: the rest may be a secret.
            reason = f"holds {re.sub('=.*', '=', shell[0])}, which only a shell understands"
            instead = 'one command for each entry, or [sh, -c, "..."]; what they need is in celery_app_environment'
            return words, [Problem("needs-a-shell", where, NOT_SHOWN, reason, instead)]
    elif isinstance(command, (list, tuple)) and all(
        isinstance(word, (str, int, float)) and not isinstance(word, bool) for word in command
    ):
        words = [str(word) for word in command]
    else:
        return [], [Problem("no-command", where, command, "is not a command", EXAMPLE)]
    if not words or not words[0].strip():
        return [], [Problem("empty", where, command, "is empty", EXAMPLE)]
    if any("\0" in word for word in words):
        return [], [Problem("holds-a-null-character", where, NOT_SHOWN, "holds a null character", EXAMPLE)]
    if _shows_a_secret(words):
        reason = "holds a secret, and every account on the host can read a command line"
        instead = "it in celery_app_environment, where the program reads it"
        return words, [Problem("secret-on-the-command-line", where, NOT_SHOWN, reason, instead)]
    return words, []


def _ends_a_command(command: str) -> bool:
    """Whether a semicolon outside of quotes stands behind a word."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=";")
    lexer.whitespace_split, lexer.commenters = True, ""
    return ";" in lexer


def _shows_a_secret(words: Sequence[str]) -> bool:
    """Whether a word is, or is the value of, something secret: --password=x, an address with a password."""
    if secrets_of({}, words):
        return True
    for option, value in zip(words, [*words[1:], ""], strict=True):
        match = re.fullmatch(r"--?([\w-]+)", option)
        if match and named_like_a_secret(match[1]) and value and not value.startswith("-"):
            return True
    return False
