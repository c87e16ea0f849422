"""Workers of every pool run tasks, and go on when the servers were away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host

pytestmark = [pytest.mark.seldom, pytest.mark.apart("releases")]

#: A class of each pool that is not the default, the task that is routed to it, and its arguments.
POOLS = {
    "high": ("gevent", "shop.mails.send_receipt", "'pools', 'a@b.example', 1"),
    "default": ("solo", "shop.orders.expire_carts", ""),
    "bulk": ("threads", "shop.feeds.import_feed", "'pools', 1, 0.1"),
}
EXTRA = {"solo": {"concurrency": 1}, "gevent": {"concurrency": 20}, "threads": {"concurrency": 4}}


@pytest.mark.usefixtures("restored")
def test_each_pool_runs_and_goes_on_when_the_servers_were_away(
    host: Host, site: Callable[..., Any], produce: Callable[..., Any], inventory: dict[str, Any], servers: list[str]
) -> None:
    own = inventory["celery_worker_classes"]
    classes = {name: {**own[name], "pool": pool, **EXTRA[pool]} for name, (pool, *_task) in POOLS.items()}
    # Both are of prefork alone.
    classes["bulk"].pop("max_tasks_per_child", None)
    classes["bulk"].pop("time_limit", None)
    packages = ["celery[redis]", "gevent"]
    variables = {"celery_worker_classes": classes, "celery_app_extra_packages": packages}
    run = site("--tags=celery_app,celery_worker", variables=variables)
    assert run.messages == [], run.messages

    def each_runs() -> None:
        sent = ", ".join(f"send('{task}'{', ' if given else ''}{given})" for _pool, task, given in POOLS.values())
        ran = produce(f"print(json.dumps([one.get(timeout=90)['ran_by']['unit'] for one in [{sent}]]))")
        assert ran == [f"celery-shop-{name}.service" for name in POOLS]

    each_runs()
    numbers = "systemctl show --property=MainPID --value 'celery-shop-*.service'"
    before = host.check_output(numbers)
    host.check_output(f"systemctl stop {' '.join(servers)}; sleep 20; systemctl start {' '.join(servers)}")
    each_runs()
    assert host.check_output(numbers) == before, "one was restarted"
