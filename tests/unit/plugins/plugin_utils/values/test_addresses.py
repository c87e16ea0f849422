"""Where URLs lead to: one spelling for one server, and never a credential."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.values.addresses import places


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h/0", ("h:6379/0",)),
        ("redis://H:6379", ("h:6379/0",)),
        ("REDIS://user:secret@H.:6379/", ("h:6379/0",)),
        ("rediss://:secret@h:6380/2?ssl_cert_reqs=required", ("h:6380/2",)),
        ("amqp://u:secret@mq", ("mq:5672//",)),
        ("amqp://u:secret@mq//", ("mq:5672//",)),
        ("pyamqp://u:secret@mq/%2F", ("mq:5672//",)),
        ("amqps://u:secret@mq/shop", ("mq:5671/shop",)),
        ("amqp://b:secret@b/x;amqp://a:secret@a/x; amqp://b/x", ("a:5672/x", "b:5672/x")),
        ("sentinel://s1/0", ("s1:26379/0",)),
        ("rediss://h/0", ("h:6379/0",)),
        # What cannot be read hides nothing behind it.
        ("redis://h:port/0;redis://h/1", ("h:6379/1",)),
        ("db+postgresql://u:secret@db/celery", ("db+postgresql://db:/celery",)),
        ("redis://[::1]/0", ("::1:6379/0",)),
        ("redis+socket://:secret@/run/r.sock", ("redis+socket://localhost:/run/r.sock",)),
        ("django-db", ("django-db",)),
        ("redis://user:12/secret@h:6379/0", ()),
        ("user:secret@h", ("(not shown)",)),
        ("redis://user:se#cret@h/0", ()),
        ("redis://user:se[cret@h/0", ()),
        ("", ()),
        (None, ()),
    ],
)
def test_a_server_has_one_name(url: object, expected: tuple[str, ...]) -> None:
    assert places(url) == expected


def test_names_of_a_machine_are_asked_for() -> None:
    assert places("redis://localhost/1", {"localhost": "app1"}.__getitem__) == ("app1:6379/1",)
