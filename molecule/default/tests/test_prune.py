"""What is inside the broker and in nobody's inventory: it stays, unless the inventory asks for it to go."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

sys.path.append(str(Path(__file__).resolve().parents[3] / "plugins" / "module_utils"))
from rabbitmq_contents import command, look_at, parse

TAGS = "--tags=rabbitmq_reconcile"
#: Passwords that occur in objects of the broker, and must not occur in what Ansible prints.
STRANGERS_PASSWORD = "strangers-password-for-a-test"
PASSWORD_IN_URL = "password-in-a-url-for-a-test"
LIMITS = {"vhost": "django_shop", "name": "limits", "pattern": "^old", "definition": {"max-length": 1000}}
UNDECLARED = {
    "vhosts": [{"name": "strange"}],
    "users": [{"name": "stranger", "password": STRANGERS_PASSWORD, "tags": []}],
    "permissions": [{"vhost": "strange", "user": "stranger", "configure": ".*", "write": ".*", "read": ".*"}],
    "policies": [
        {
            "vhost": "shop",
            "name": "stray",
            "pattern": "^stray",
            "apply-to": "queues",
            "priority": 0,
            "definition": {"max-length": 10},
        }
    ],
}

pytestmark = pytest.mark.broker("rabbitmq")

Api = Callable[..., Any]
Names = Callable[[], dict[str, set[str]]]


@pytest.fixture(scope="module")
def api(host: Host, secrets: dict[str, str]) -> Api:
    """Ask RabbitMQ's management API as the administrator; returns the decoded answer."""

    def call(method: str, path: str, body: Any = None) -> Any:
        program = f"""
import base64, urllib.request
login = base64.b64encode(b"admin:{secrets["rabbitmq_admin_password"]}").decode()
headers = {{"Authorization": "Basic " + login, "Content-Type": "application/json"}}
body = {None if body is None else json.dumps(body).encode()!r}
request = urllib.request.Request("http://127.0.0.1:15672/api/{path}", data=body, headers=headers, method="{method}")
print(urllib.request.urlopen(request, timeout=20).read().decode())
"""
        answer = host.check_output(f"python3 - <<'END'\n{program}\nEND")
        return json.loads(answer) if answer.strip() else None

    return call


@pytest.fixture(scope="module")
def names(api: Api) -> Names:
    """Users, virtual hosts and policies in the broker, by kind."""

    def ask() -> dict[str, set[str]]:
        found = api("GET", "definitions")
        return {kind: {entry["name"] for entry in found[kind]} for kind in ("users", "vhosts", "policies")}

    return ask


@pytest.fixture
def swept(api: Api) -> Iterator[None]:
    """Take the strangers out of the broker afterwards, should the role have left them there."""
    yield
    for path in ("users/stranger", "vhosts/strange", "policies/shop/stray"):
        with contextlib.suppress(AssertionError):
            api("DELETE", path)


@pytest.mark.usefixtures("swept")
def test_undeclared_objects_vanish_when_asked_and_only_then(
    site: Callable[..., Any], api: Api, names: Names, secrets: dict[str, str]
) -> None:
    declared = names()
    assert {"shop", "django_shop", "admin"} <= declared["users"]
    api("POST", "definitions", UNDECLARED)
    everything = names()
    assert {kind: everything[kind] - declared[kind] for kind in declared} == {
        "users": {"stranger"},
        "vhosts": {"strange"},
        "policies": {"stray"},
    }
    run = site(TAGS)
    assert (run.messages, run.changed) == ([], [])
    assert names() == everything

    prune = {"rabbitmq_prune": ["users", "vhosts", "policies"]}
    foretold = site("--check", "--diff", TAGS, variables=prune)
    assert foretold.messages == []
    assert foretold.changed != []
    told = ("user stranger", "vhost strange", "policy shop/stray")
    assert [text for text in told if text not in foretold.output] == []
    assert [name for name, value in secrets.items() if value in foretold.output] == []
    assert STRANGERS_PASSWORD not in foretold.output
    assert names() == everything, "a dry run removed something"

    run = site(TAGS, variables=prune)
    assert run.messages == []
    assert names() == declared
    assert site(TAGS, variables=prune).changed == []


@pytest.fixture(scope="module")
def declared(site: Callable[..., Any], inventory: dict[str, Any], names: Names) -> Iterator[dict[str, Any]]:
    """A policy and a virtual host more than the inventory has, in the broker; they leave it when the tests are done."""
    variables = {"rabbitmq_policies": [LIMITS], "rabbitmq_vhosts": [*inventory["rabbitmq_vhosts"], {"name": "spare"}]}
    before = names()
    run = site(TAGS, variables=variables)
    assert run.messages == []
    after = names()
    assert after["policies"] - before["policies"] == {"limits"}
    assert after["vhosts"] - before["vhosts"] == {"spare"}
    yield {"variables": variables, "before": before}
    if names() != before:
        assert site(TAGS).messages == []


def test_a_diff_of_the_brokers_objects_shows_no_password(
    site: Callable[..., Any], api: Api, secrets: dict[str, str], declared: dict[str, Any]
) -> None:
    """Someone changed a user's password, and a policy that now holds an address with another password."""
    url = f"amqp://someone:{PASSWORD_IN_URL}@elsewhere"
    policy = {**LIMITS, "definition": {"dead-letter-exchange": url}, "apply-to": "queues", "priority": 0}
    user = {"name": "django_shop", "password": STRANGERS_PASSWORD, "tags": []}
    api("POST", "definitions", {"policies": [policy], "users": [user]})
    hashes = [entry["password_hash"] for entry in api("GET", "definitions")["users"]]

    for arguments in (("--check", "--diff", "-vvv"), ("--diff", "-vvv")):
        run = site(*arguments, TAGS, variables=declared["variables"])
        assert run.messages == []
        assert [text for text in ("django_shop/limits", "user django_shop") if text not in run.output] == []
        assert "amqp://someone:********@elsewhere" in run.output
        shown = [PASSWORD_IN_URL, STRANGERS_PASSWORD, *hashes, *secrets.values()]
        assert sum(value in run.output for value in shown) == 0
    assert site(TAGS, variables=declared["variables"]).changed == []


def test_what_leaves_the_inventory_leaves_the_broker_without_being_asked(
    site: Callable[..., Any], names: Names, declared: dict[str, Any]
) -> None:
    if names() == declared["before"]:  # put right after a failure of the test before
        assert site(TAGS, variables=declared["variables"]).messages == []
    assert names() != declared["before"]
    run = site(TAGS)
    assert run.messages == []
    assert names() == declared["before"]


@pytest.mark.usefixtures("swept")
def test_what_a_restart_must_keep_is_told_by_the_queues_themselves(host: Host, api: Api) -> None:
    api("PUT", "vhosts/strange")
    api("PUT", "permissions/strange/admin", {"configure": ".*", "write": ".*", "read": ".*"})
    week, minutes = 7 * 86_400_000, 600_000
    policies = {"brief": {"message-ttl": minutes}, "week": {"message-ttl": week}, "expires": {"expires": minutes}}
    for name, definition in policies.items():
        api("PUT", f"policies/strange/{name}", {"pattern": f"^{name}", "definition": definition, "apply-to": "queues"})
    onward = {"x-message-ttl": week, "x-dead-letter-exchange": "amq.topic"}
    queues: dict[str, dict[str, Any]] = {
        "plain": {}, "mixed": {}, "quorum": {"x-queue-type": "quorum"}, "brief": {}, "week": {}, "expires": {},
        "argument": {"x-message-ttl": minutes}, "onward": onward,
    }  # fmt: skip
    for name, arguments in queues.items():
        api("PUT", f"queues/strange/{name}", {"durable": True, "arguments": arguments})
        for mode in (2, 1 if name == "mixed" else 2):
            message = {"properties": {"delivery_mode": mode}, "payload": "x", "payload_encoding": "string"}
            api("POST", "exchanges/strange/amq.default/publish", {**message, "routing_key": name})
    output = host.check_output(shlex.join(command(look_at([], ["strange"]))))
    assert {name: (queue.kind, queue.messages, queue.to_keep) for (_, name), queue in parse(output).queues.items()} == {
        "plain": ("lasting", 2, 2), "mixed": ("lasting", 2, 1), "quorum": ("lasting", 2, 2), "week": ("lasting", 2, 2),
        "brief": ("passing", 2, 2), "argument": ("passing", 2, 2), "onward": ("passing", 2, 2),
        "expires": ("fleeting", 2, 2),
    }  # fmt: skip
