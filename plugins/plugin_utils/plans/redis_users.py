# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The users of Redis or Valkey: their ACL rules, and the mistakes in their variables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.passwords import weakness

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

#: What the ACL of a user is made of. Celery 5.7 with kombu 5.7 was run with exactly these rules on Redis 7.0 and
#: Valkey 8.0 (priorities, ETA, chord, group, retry, revoke, inspect, events, purge) and ACL LOG stayed empty.
#: Scripting is part of it: chords and expiring queues use EVALSHA. +@connection instead of single commands, since
#: "client setinfo", which clients send, is unknown to Redis 7.0 and an unknown command name is an error.
_COMMON_COMMANDS = "-@all +@connection +@transaction +publish +subscribe +unsubscribe"
_SCRIPTING = "+evalsha +eval +script|load +script|exists"
_BROKER_COMMANDS = (
    "+psubscribe +punsubscribe -@dangerous +lpush +rpush +rpop +brpop +llen +sadd +srem +smembers +set +get +del "
    "+exists +hset +hget +hdel +zadd +zrem +zrange +zrevrangebyscore +zrangebyscore +pexpire " + _SCRIPTING + " +time"
)
_RESULT_COMMANDS = (
    "-@dangerous +get +mget +set +setex +del +exists +expire +incr +incrby +zadd +zcount +zrange +rpush +lrange +llen "
    "+sadd +sismember +hincrby +hgetall +pttl " + _SCRIPTING
)
_RESULT_KEYS = ("celery-task-meta-", "celery-taskset-meta-", "chord-unlock-")
#: What the runtime keeps beside the results: who ran a task of celery_app_once, and how many duplicates were dropped.
_ONCE_KEYS = "celeryops-once"
#: RedBeat's schedule and lock, and what it does with them (celery-redbeat 2.4.2). Whether an app uses it may stand in
#: its own settings, which nobody here sees.
_SCHEDULE_KEYS = "redbeat:"
_SCHEDULE_COMMANDS = (
    "-@dangerous +smembers +sadd +srem +zadd +zrem +zrangebyscore +zrank +hset +hsetnx +hget +get +set +del +pexpire "
    "+pttl " + _SCRIPTING
)
#: Keys of kombu's own in a broker database: bindings, unacknowledged messages, replies to "inspect", event queues.
_BROKER_KEYS = ("_kombu.binding*", "unacked*", "*.reply.celery.pidbox*", "celeryev.*", "*.celery.pidbox*")

_PURPOSES = ("results", "broker", "both")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
#: Text that goes into an ACL pattern as it is: nothing that Redis reads as a wildcard or as the end of the rule.
_PATTERN_TEXT = re.compile(r"[A-Za-z0-9_.:@/-]+")
#: Rules that would undo what this role promises: passwords come from "password" only, and every user has one.
_FORBIDDEN_RULES = re.compile(r"on|off|nopass|reset|resetpass|sanitize-payload|skip-sanitize-payload|[<>#!].*")

#: Passwords of servers that others can reach: Redis answers hundreds of thousands of guesses a second.
_SHORTEST_REMOTE_PASSWORD = 16


def acl_rules(user: Mapping[str, Any]) -> str:
    """Return the rules of a user, without its name and password.

    Arguments:
        user: an item of ``redis_users``: ``purpose``, ``key_prefix``, ``databases``, ``queues``, ``rules``.
    """
    purpose, prefix = user.get("purpose") or "results", str(user.get("key_prefix") or "")
    own_rules = " ".join(str(user.get("rules") or "").split())
    if purpose == "custom":
        # Without a category of its own a new user may run nothing and see nothing.
        return f"resetkeys resetchannels -@all {own_rules}".strip()
    databases = [int(database) for database in user.get("databases") or [0]]
    broker, results = purpose in ("broker", "both"), purpose in ("results", "both")
    keys: list[str] = []
    channels: list[str] = []
    commands = [_COMMON_COMMANDS]
    if broker:
        keys += [f"{prefix}*"] if prefix else [*_BROKER_KEYS, *(f"{queue}*" for queue in _queues(user))]
        # PSUBSCRIBE is allowed only for a pattern that is in the list word for word, so all three are needed.
        channels += [
            f"{prefix}/{database}.{channel}"
            for database in databases
            for channel in ("celery.pidbox", "celeryev/*", "celeryev/worker.*")
        ]
        commands.append(_BROKER_COMMANDS)
    if results:
        keys += [] if broker and prefix else [f"{prefix}{key}*" for key in (*_RESULT_KEYS, _ONCE_KEYS, _SCHEDULE_KEYS)]
        channels += [f"{prefix}{key}*" for key in _RESULT_KEYS[:2]]
        commands += [_RESULT_COMMANDS, _SCHEDULE_COMMANDS]
    return " ".join(
        [
            *(f"~{key}" for key in keys),
            "resetchannels",
            *(f"&{channel}" for channel in channels),
            *_without_repetition(commands),
            *([own_rules] if own_rules else []),
        ]
    )


def _without_repetition(commands: Iterable[str]) -> list[str]:
    """Return the command rules, each once and at its first place, all denials before the single commands.

    ``-@dangerous`` takes away what came before it, so it has to stand before what is granted by name.
    """
    words = list(dict.fromkeys(word for text in commands for word in text.split()))
    categories = [word for word in words if "@" in word]
    return [*categories, *(word for word in words if "@" not in word)]


def _queues(user: Mapping[str, Any]) -> list[str]:
    return [str(queue) for queue in user.get("queues") or []]


def user_problems(
    variables: Mapping[str, Any], users: Sequence[Mapping[str, Any]], *, remote: bool
) -> Iterator[Problem]:
    """Yield what is wrong with the administrator and the users.

    Arguments:
        variables: the role's variables.
        users: those of the inventory, then those of the playbook.
        remote: whether other hosts reach the server.
    """
    admin = str(variables["redis_admin_user"])
    yield from account_problems("redis_admin", variables, remote=remote)
    own = len(variables["redis_users"])
    seen = {admin: "redis_admin_user"}
    for index, user in enumerate(users):
        where = f"redis_users[{index}]" if index < own else f"redis_extra_users[{index - own}]"
        name = str(user["name"])
        yield from _name_problems(f"{where}.name", name)
        if name in seen:
            told, other = f"{where}.name", seen[name]
            if index >= own and other.startswith("redis_users"):
                # People write the one, and the playbook the other.
                told = f"{other}.name"
                other = "an account in redis_extra_users, where the playbook has those of the apps,"
            yield Problem("name-taken", told, name, f"is the name of {other} too", "another name")
        seen.setdefault(name, where)
        yield from _password_problems(f"{where}.password", user["password"], name, remote=remote)
        yield from _scope_problems(where, user, variables)
        yield from _rule_problems(where, user)


def account_problems(prefix: str, variables: Mapping[str, Any], *, remote: bool) -> Iterator[Problem]:
    """Yield what is wrong with an account that has a variable for its name and one for its password.

    Arguments:
        prefix: of both variables, such as ``redis_admin``.
        variables: the role's variables.
        remote: whether other hosts reach the server.
    """
    user = str(variables[f"{prefix}_user"])
    yield from _name_problems(f"{prefix}_user", user)
    yield from _password_problems(f"{prefix}_password", variables[f"{prefix}_password"], user, remote=remote)


def _name_problems(where: str, name: str) -> Iterator[Problem]:
    if not _NAME.fullmatch(name):
        instead = "1 to 64 of A-Z, a-z, 0-9, _, . and -"
        yield Problem("not-a-users-name", where, name, "is not a user's name", instead)
    elif name == "default":
        reason = "is the user of clients that name none, and is switched off"
        yield Problem("user-default", where, name, reason, "another name")


def _password_problems(where: str, password: object, user: str, *, remote: bool) -> Iterator[Problem]:
    """Yield what is wrong with a user's password, without showing it."""
    text = str(password or "")
    if not text:
        reason = "is empty, and other hosts reach the server" if remote else "is empty"
        yield Problem("empty-password", where, "", reason, "a password: no user is without one")
    elif remote and (weak := weakness(text, user, _SHORTEST_REMOTE_PASSWORD)):
        reason = f"{weak}, and other hosts can guess it"
        instead = f"at least {_SHORTEST_REMOTE_PASSWORD} random characters"
        yield Problem("guessable-password", where, NOT_SHOWN, reason, instead)


def _scope_problems(where: str, user: Mapping[str, Any], variables: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with what a user may reach."""
    purpose = str(user.get("purpose") or "results")
    prefix = str(user.get("key_prefix") or "")
    if purpose in _PURPOSES:
        served = str(variables["redis_purpose"])
        if served not in (purpose, "both"):
            reason = f"is not what this server is set up for (redis_purpose: {served})"
            instead = "redis_purpose: both, or another purpose for the user"
            yield Problem("purpose-not-served", f"{where}.purpose", purpose, reason, instead)
        if purpose != "results" and not prefix and not _queues(user):
            reason, instead = "leaves a broker's user without a queue", "the names of the app's queues, or a key_prefix"
            yield Problem("user-without-queues", f"{where}.queues", _queues(user), reason, instead)
    # Celery puts an underscore between prefix and key of results unless the prefix ends in one of : _ - . and kombu
    # puts nothing: with ":" both agree.
    if prefix and (not prefix.endswith(":") or not _PATTERN_TEXT.fullmatch(prefix)):
        instead = "letters, digits, _ . - and a : at its end"
        yield Problem("not-a-prefix", f"{where}.key_prefix", prefix, "is not a prefix", instead)
    for queue in _queues(user):
        if not _PATTERN_TEXT.fullmatch(queue):
            instead = "letters, digits and _ . : @ / - only"
            yield Problem("not-in-an-acl", f"{where}.queues", queue, "cannot be part of an ACL", instead)
    count = int(variables["redis_databases"])
    for database in user.get("databases") or [0]:
        if not 0 <= int(database) < count:
            reason, instead = "is not a database of this server", f"numbers from 0 to {count - 1}"
            yield Problem("no-such-database", f"{where}.databases", database, reason, instead)


def _rule_problems(where: str, user: Mapping[str, Any]) -> Iterator[Problem]:
    rules = str(user.get("rules") or "")
    if str(user.get("purpose") or "results") == "custom" and not rules.strip():
        reason, instead = "lets a custom user do nothing", "rules such as ~cache:* +@read"
        yield Problem("user-without-rules", f"{where}.rules", rules, reason, instead)
    for rule in rules.split():
        if _FORBIDDEN_RULES.fullmatch(rule):
            shown = NOT_SHOWN if rule[0] in "<>#!" else rule
            instead = "keys, channels and commands there, and the password in password"
            yield Problem("not-for-rules", f"{where}.rules", shown, "is not for rules", instead)
