"""What is inside the broker and in nobody's inventory: it stays, unless the inventory asks for it to go."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
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
def api(host: Host, secrets: Mapping[str, str]) -> Api:
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


@dataclasses.dataclass
class Story:
    """One run of the role after the other, and what was in the broker after each."""

    ask: Names
    runs: dict[str, Any] = dataclasses.field(default_factory=dict)
    after: dict[str, dict[str, set[str]]] = dataclasses.field(default_factory=dict)
    #: Of every user's password, by hand and by the role.
    hashes: set[str] = dataclasses.field(default_factory=set)

    def note(self, moment: str, run: Any = None) -> None:
        """Keep a run and the names; a run that fails is the failure of all tests."""
        if run is not None:
            assert run.messages == [], (moment, run.messages)
            self.runs[moment] = run
        self.after[moment] = self.ask()

    def only(self, moment: str, other: str) -> set[str]:
        """Return what was in the broker at one moment and not at the other, each with its kind."""
        return {
            f"{kind} {name}" for kind, names in self.after[moment].items() for name in names - self.after[other][kind]
        }


@pytest.fixture(scope="module")
def story(site: Callable[..., Any], api: Api, names: Names, inventory: dict[str, Any]) -> Iterator[Story]:
    """A policy and a virtual host come into the inventory, strangers and mistakes into the broker; all leave again.

    Should the role have left strangers there, they are taken out afterwards.
    """
    told = Story(names)
    more = {"rabbitmq_policies": [LIMITS], "rabbitmq_vhosts": [*inventory["rabbitmq_vhosts"], {"name": "spare"}]}
    told.note("before")
    told.note("declared", site(TAGS, variables=more))
    # Strangers; and somebody changed a user's password, and a policy that now holds an address with another password.
    url = f"amqp://someone:{PASSWORD_IN_URL}@elsewhere"
    policy = {**LIMITS, "definition": {"dead-letter-exchange": url}, "apply-to": "queues", "priority": 0}
    user = {"name": "django_shop", "password": STRANGERS_PASSWORD, "tags": []}
    api("POST", "definitions", UNDECLARED)
    api("POST", "definitions", {"policies": [policy], "users": [user]})
    told.note("changed by hand")
    told.hashes = {entry["password_hash"] for entry in api("GET", "definitions")["users"]}
    everything = {"rabbitmq_prune": ["users", "vhosts", "policies"]}
    try:
        told.note("foretold", site("--check", "--diff", "-vvv", TAGS, variables={**more, **everything}))
        told.note("repaired", site("--diff", "-vvv", TAGS, variables=more))
        told.note("left", site(TAGS, variables={"rabbitmq_prune": ["users"]}))
        told.note("again", site(TAGS, variables={"rabbitmq_prune": ["users"]}))
        told.note("pruned", site(TAGS, variables=everything))
        yield told
    finally:
        for path in ("users/stranger", "vhosts/strange", "policies/shop/stray"):
            with contextlib.suppress(AssertionError):
                api("DELETE", path)


def test_undeclared_objects_vanish_when_asked_and_only_then(story: Story) -> None:
    assert {"shop", "django_shop", "admin"} <= story.after["before"]["users"]
    assert story.only("changed by hand", "declared") == {"users stranger", "vhosts strange", "policies stray"}
    assert story.after["repaired"] == story.after["changed by hand"]
    # Of one kind only, and those of the other kinds count for nothing.
    assert "users stranger" in story.only("repaired", "left")
    assert (story.runs["again"].changed, story.after["again"]) == ([], story.after["left"])
    assert story.only("again", "pruned") == {"vhosts strange", "policies stray"}
    assert story.after["pruned"] == story.after["before"]


def test_a_dry_run_foretells_what_would_vanish_and_removes_nothing(story: Story) -> None:
    run = story.runs["foretold"]
    assert run.changed != []
    assert [
        text
        for text in ("user stranger", "vhost strange", "policy shop/stray", "django_shop/limits", "user django_shop")
        if text not in run.output
    ] == []
    assert story.after["foretold"] == story.after["changed by hand"], "a dry run removed something"


@pytest.mark.parametrize("moment", ["foretold", "repaired"])
def test_a_diff_of_the_brokers_objects_shows_no_password(story: Story, secrets: Mapping[str, str], moment: str) -> None:
    output = story.runs[moment].output
    assert [text for text in ("django_shop/limits", "user django_shop") if text not in output] == []
    assert "amqp://someone:***@elsewhere" in output
    shown = [PASSWORD_IN_URL, STRANGERS_PASSWORD, *story.hashes, *secrets.values()]
    assert sum(value in output for value in shown) == 0


def test_what_leaves_the_inventory_leaves_the_broker_without_being_asked(story: Story) -> None:
    assert story.only("declared", "before") == {"vhosts spare", "policies limits"}
    assert story.only("repaired", "left") == {"users stranger", "vhosts spare", "policies limits"}


@pytest.fixture
def strange(api: Api) -> Iterator[None]:
    """A virtual host for a test's own queues."""
    api("PUT", "vhosts/strange")
    api("PUT", "permissions/strange/admin", {"configure": ".*", "write": ".*", "read": ".*"})
    yield
    api("DELETE", "vhosts/strange")


@pytest.mark.usefixtures("strange")
def test_what_a_restart_must_keep_is_told_by_the_queues_themselves(host: Host, api: Api) -> None:
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
    found = parse(output).queues.items()
    assert {name: (queue.kind, queue.messages, queue.to_keep) for (_vhost, name), queue in found} == {
        "plain": ("lasting", 2, 2), "mixed": ("lasting", 2, 1), "quorum": ("lasting", 2, 2), "week": ("lasting", 2, 2),
        "brief": ("passing", 2, 2), "argument": ("passing", 2, 2), "onward": ("passing", 2, 2),
        "expires": ("fleeting", 2, 2),
    }  # fmt: skip
