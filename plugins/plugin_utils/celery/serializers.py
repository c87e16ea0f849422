# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The serializers of messages and results: which are unsafe, and which nobody accepts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, closest

#: The settings with one serializer or a list of them.
SETTINGS = ("accept_content", "result_accept_content", "task_serializer", "result_serializer", "event_serializer")
#: Reading these runs code that the sender chooses: pickle by name and content type (kombu 5.7, kombu/serialization.py,
#: whose YAML is the safe one), and its relatives under the names that apps register them by.
UNSAFE = frozenset({"pickle", "application/x-python-serialize", "dill", "cloudpickle"})
#: Name -> content type of kombu's own (kombu/serialization.py, 5.7.0), either of which does.
CONTENT_TYPES: Mapping[str, str] = {
    "json": "application/json",
    "yaml": "application/x-yaml",
    "msgpack": "application/x-msgpack",
}
#: What holds when nobody says anything else: what a stranger who reaches the broker sends must not become code.
DEFAULTS: Mapping[str, Any] = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
    "event_serializer": "json",
}
#: What is written by one setting -> what that is, and the settings that say what is read: the first that is set counts.
#: Events are read as they are written (celery/events/receiver.py, 5.7.0).
_READERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "task_serializer": ("task", ("accept_content",)),
    "result_serializer": ("result", ("result_accept_content", "accept_content")),
}


def serializer_problems(variable: str, name: str, value: Any) -> Iterator[Problem]:
    """Refuse what lets everyone who reaches the broker or the results run code in a process, and misspelt names.

    Arguments:
        variable: where it is written.
        name: the setting.
        value: one serializer or a list of them, by name or by content type.
    """
    if name not in SETTINGS:
        return
    entries = value if isinstance(value, (list, tuple)) else [value]
    for entry in entries:
        meant = _meant(str(entry))
        if _unsafe(entry):
            reason = "runs whatever code the sender of a message puts into it"
            instead = "json, and let tasks take plain values (identifiers, texts, numbers)"
            yield Problem("pickle-runs-code", variable, entry, reason, instead)
        elif meant:
            reason = "is not a serializer of kombu 5.7"
            yield Problem("no-serializer-of-kombu", variable, entry, reason, f"{meant} (did you mean that?)")
    if not entries:
        yield Problem("empty", variable, value, "is empty, so no message could be read", "[json], or leave it out")


def unread_problems(own: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the forms that are written and that nobody reads.

    Arguments:
        own: the settings that the inventory gives.
    """
    settings = {**DEFAULTS, **{name: value for name, value in own.items() if value is not None}}
    told: set[tuple[str, str]] = set()
    for writer, (what, readers) in _READERS.items():
        reader = next((name for name in readers if name in settings), "")
        form, accepted = settings[writer], settings[reader]
        # What is of another kind, empty, unsafe or misspelt is told by itself.
        if not isinstance(accepted, (list, tuple)) or not accepted or not isinstance(form, str):
            continue
        if any(_unsafe(entry) or _meant(str(entry)) for entry in (*accepted, form)) or _reads(accepted, form):
            continue
        both = f"{reader}: [{', '.join(map(str, [*accepted, form]))}]"
        if writer in own:
            reason = f"is not in {reader}, {list(accepted)}: every {what} would be rejected by every consumer"
            instead = f"one that is, or {both}"
            yield Problem("serializer-not-accepted", f"celery_app_settings.{writer}", form, reason, instead)
        elif (reader, form) not in told:
            told.add((reader, form))
            reason = f"lacks {form}, which {writer} is: every {what} would be rejected by every consumer"
            yield Problem("serializer-not-accepted", f"celery_app_settings.{reader}", accepted, reason, both)
    yield from _unread_tasks(own, settings["accept_content"])


def _unread_tasks(own: Mapping[str, Any], accepted: Any) -> Iterator[Problem]:
    """Yield the forms that single tasks are written in, by their schedule or annotation, and that nobody reads."""
    for variable, form in _forms(own):
        if not isinstance(accepted, (list, tuple)) or not isinstance(form, str):
            continue
        if _unsafe(form) or not _reads(accepted, form):
            reason = f"is not in accept_content, {list(accepted)}: the task would be rejected by every consumer"
            instead = "one that is, or leave it out"
            yield Problem("serializer-not-accepted", f"celery_app_settings.{variable}", form, reason, instead)


def _forms(own: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    schedule, annotations = own.get("beat_schedule"), own.get("task_annotations")
    for name, entry in schedule.items() if isinstance(schedule, Mapping) else ():
        options = entry.get("options") if isinstance(entry, Mapping) else None
        if isinstance(options, Mapping) and "serializer" in options:
            yield f"beat_schedule.{name}.options.serializer", options["serializer"]
    for annotation in annotations if isinstance(annotations, (list, tuple)) else [annotations]:
        for task, attributes in annotation.items() if isinstance(annotation, Mapping) else ():
            if isinstance(attributes, Mapping) and "serializer" in attributes:
                yield f"task_annotations.{task}.serializer", attributes["serializer"]


def _unsafe(entry: object) -> bool:
    return str(entry).strip().lower() in UNSAFE


def _meant(entry: str) -> str:
    """Return the serializer of kombu's own that a name nearly is; extensions have longer names, such as orjson."""
    plain = entry.strip().lower()
    close = closest(plain, CONTENT_TYPES)
    return close if entry != close and (plain == close or close not in plain) else ""


def _reads(accepted: Iterable[Any], form: str) -> bool:
    """Whether one of the accepted names or types is ``form``, or may be: an app can register forms of its own."""
    names = {str(entry) for entry in accepted}
    if form in CONTENT_TYPES:
        return bool(names & {form, CONTENT_TYPES[form]})
    return form in names or any("/" in name for name in names - set(CONTENT_TYPES.values()))
