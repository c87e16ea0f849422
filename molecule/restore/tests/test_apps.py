"""Two apps on one set of servers, each seeing only its own, though their queues and tasks have the same names."""

from __future__ import annotations

import pytest
from restore import APPS, Stack

OTHER = dict(zip(APPS, reversed(APPS), strict=True))
#: What an app's own credentials are refused, each by its name.
LOOK = """
from kombu import Connection
client = app.backend.client
def refused(attempt):
    try:
        attempt()
    except Exception as error:
        return type(error).__name__
    return "allowed"
def found(vhost, key, channel, word):
    def connect():
        with app.connection_for_write().clone(virtual_host=vhost) as connection:
            connection.connect()
    def subscribe():
        listener = client.pubsub()
        listener.subscribe(channel)
        listener.get_message(timeout=5)
    return {{
        "vhost": refused(connect),
        "read": refused(lambda: client.get(key)),
        "write": refused(lambda: client.set(key + "-x", "x", ex=1)),
        "delete": refused(lambda: client.delete(key + "-x")),
        "subscribe": refused(subscribe),
        "publish": refused(lambda: client.publish(channel, "x")),
    }}
print(json.dumps([found(*words) for words in {words}]))
"""
NOWHERE = {"vhost": "NotAllowed"} | dict.fromkeys(
    ("read", "write", "delete", "subscribe", "publish"), "NoPermissionError"
)


@pytest.fixture(scope="module")
def ids(stack: Stack) -> dict[str, list[str]]:
    """Have both apps run tasks of one name through queues of one name; return their ids."""
    return {app: stack.run_tasks(app, [f"{app}-{number}" for number in range(20)]) for app in APPS}


def test_each_app_runs_its_own_tasks(stack: Stack, ids: dict[str, list[str]]) -> None:
    assert {app: len(found) for app, found in ids.items()} == dict.fromkeys(APPS, 20)
    assert {app: stack.notes(app) for app in APPS} == {
        app: sorted(f"{app}-{number}" for number in range(20)) for app in APPS
    }


@pytest.mark.parametrize("app", APPS)
def test_a_delayed_task_waits_in_the_broker_of_each_app(stack: Stack, app: str) -> None:
    sent = f"app.send_task('bulk.work', args=('{app}-late',), countdown=2)"
    assert stack.python(app, f"print(json.dumps({sent}.get(timeout=30) is not None))")


@pytest.mark.parametrize("app", APPS)
def test_an_app_reaches_nothing_of_the_other(stack: Stack, ids: dict[str, list[str]], app: str) -> None:
    keys = {name: f"{name}:celery-task-meta-{ids[name][0]}" for name in APPS}
    for key in keys.values():
        assert stack.redis(stack.primary(), f"exists {key}") == "1"
    words = [(name, keys[name], keys[name]) for name in (app, OTHER[app])]
    own, others = stack.python(app, LOOK.format(words=[(*one, "") for one in words]))
    assert own == dict.fromkeys(NOWHERE, "allowed")
    assert others == NOWHERE


@pytest.mark.parametrize("app", APPS)
def test_the_account_of_its_flower_sees_an_app_alone(stack: Stack, app: str) -> None:
    account = f"{app}-flower", stack.secret(f"{app}_flower_rabbitmq_password")
    vhosts, queues, other = stack.api(
        *account, ("GET", "vhosts", None), ("GET", "queues", None), ("GET", f"queues/{OTHER[app]}", None)
    )
    assert [one["name"] for one in vhosts] == [app]
    assert {one["vhost"] for one in queues} == {app}
    assert {"default", "bulk", "dead-letters", "celery_delayed_27"} <= {one["name"] for one in queues}
    assert other == {"refused": 401}
