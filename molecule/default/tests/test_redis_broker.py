"""What Redis or Valkey has to be and to allow as a broker, beside what the tests of all brokers show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host

Produce = Callable[..., Any]
Ask = Callable[[str], str]

pytestmark = pytest.mark.broker("redis")


@pytest.mark.parametrize(
    ("name", "value"), [("maxmemory-policy", "noeviction"), ("timeout", "0"), ("appendonly", "yes")]
)
def test_the_server_keeps_what_waits(ask_redis: Ask, name: str, value: str) -> None:
    assert ask_redis(f"CONFIG GET {name}").split() == [name, value]


def test_a_transaction_outlives_a_restart(host: Host, ask_redis: Ask, engine: str) -> None:
    """Celery's transport gives messages back, and keeps those that nobody acknowledged yet, in transactions."""
    key = f"shop:outlives:{engine}"
    assert ask_redis(f"<<'END'\nMULTI\nSET {key} 1\nEXEC\nEND").split() == ["OK", "QUEUED", "OK"]
    host.check_output(f"systemctl restart {engine}-server.service")
    assert ask_redis(f"GETDEL {key}") == "1"


def test_the_apps_account_may_do_all_that_celery_does(produce: Produce, ask_redis: Ask) -> None:
    """Redis keeps a list of what it refused: it is empty after all kinds of tasks and of remote control."""
    ask_redis("ACL LOG RESET")
    produce(
        "from celery import chain, chord, group\n"
        "part = lambda n: app.signature('shop.reports.partial_sum', args=([n, n],))\n"
        "chord([part(n) for n in range(3)])(app.signature('shop.reports.grand_total')).get(timeout=60)\n"
        "group([part(n) for n in range(3)])().get(timeout=60)\n"
        "chain(part(1), app.signature('shop.stock.count', args=('x',), immutable=True))().get(timeout=60)\n"
        "send('shop.payments.charge', f'acl-{time.time()}', 5, 1, 0.2).get(timeout=60)\n"
        "send('shop.stock.count', 'x', priority=9).get(timeout=60)\n"
        "late = send('shop.mails.remind', 'acl', 'a@example.org', countdown=300)\n"
        "late.revoke()\n"
        "seen = app.control.inspect(timeout=5)\n"
        "assert seen.ping() and seen.active_queues() and seen.stats() and seen.scheduled() is not None\n"
        "app.control.rate_limit('shop.stock.count', '100/s', reply=True)\n"
        "app.control.add_consumer('acl', reply=True)\n"
        "app.control.cancel_consumer('acl', reply=True)\n"
        "send('shop.stock.count', 'x').forget()\n"
        "with app.events.default_dispatcher() as events:\n"
        "    events.send('worker-heartbeat')\n"
        "app.control.purge()\n"
        "print(0)"
    )
    assert "shop" not in ask_redis("ACL LOG").split()
    produce(
        "import os, redis\n"
        "try:\n"
        "    redis.Redis.from_url(os.environ['CELERY_BROKER_URL']).flushall()\n"
        "except redis.exceptions.NoPermissionError:\n"
        "    print(0)"
    )
    assert "shop" in ask_redis("ACL LOG").split()
    ask_redis("ACL LOG RESET")


def test_every_key_has_its_apps_prefix(ask_redis: Ask) -> None:
    keys = ask_redis("KEYS '*'").split("\n")
    assert any(key.startswith("shop:_kombu.binding") for key in keys)
    assert [key for key in keys if not key.startswith(("shop:", "django_shop:", "naive:"))] == []
