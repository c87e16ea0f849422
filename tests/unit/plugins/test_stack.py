"""How the hosts of an inventory fit together."""

from __future__ import annotations

from typing import Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.stack import (
    broker_url,
    rabbitmq_objects,
    redis_users,
    survey,
    view,
)

GROUPS = {"rabbitmq": ["mq1"], "redis": ["cache1"], "celery_workers": ["app1", "mq1"], "celery_beat": ["app1"]}
Variables = dict[str, dict[str, Any]]


def variables(**changes: dict[str, Any]) -> Variables:
    found: Variables = {
        host: {
            "celery_app_name": "shop",
            "celery_worker_classes": {"high": {"queues": ["payments"]}, "default": None},
            "rabbitmq_listen_addresses": ["127.0.0.1", "10.0.0.1"],
            "redis_bind": ["0.0.0.0"],
        }
        for host in ("mq1", "cache1", "app1", "app2")
    }
    found["mq1"]["ansible_host"] = "10.0.0.1"
    for host, change in changes.items():
        found[host].update(change)
    return found


def seen_by(host: str, found: Variables | None = None, groups: dict[str, list[str]] | None = None) -> dict[str, Any]:
    told = variables() if found is None else found
    return view(survey(groups or GROUPS, lambda name, key, default: told[name].get(key, default)), host)


def test_a_server_on_the_same_host_is_reached_on_loopback_and_another_by_its_address() -> None:
    assert seen_by("mq1")["rabbitmq"] == [{"host": "mq1", "address": "127.0.0.1", "port": 5672}]
    assert seen_by("app1")["rabbitmq"] == [{"host": "mq1", "address": "10.0.0.1", "port": 5672}]
    changed = variables(cache1={"redis_port": 6400})
    assert seen_by("app1", changed)["redis"] == [{"host": "cache1", "address": "cache1", "port": 6400}]


def test_a_server_on_the_same_machine_by_another_name_is_reached_on_loopback() -> None:
    alias = variables(app1={"ansible_host": "10.0.0.1"})
    assert seen_by("app1", alias)["rabbitmq"] == [{"host": "mq1", "address": "127.0.0.1", "port": 5672}]
    assert seen_by("app1", alias)["management"] == {"address": "127.0.0.1", "port": 15672}


def test_the_groups_suggest_the_broker_and_a_variable_decides() -> None:
    assert seen_by("app1")["broker"] == "rabbitmq"
    assert seen_by("app1", groups={**GROUPS, "rabbitmq": []})["broker"] == "redis"
    both = {host: {"celery_app_broker": "redis"} for host in ("app1", "mq1")}
    assert seen_by("app1", variables(**both))["broker"] == "redis"
    assert seen_by("app1", variables(**both))["rabbitmq_wanted"] is False
    assert seen_by("app1")["rabbitmq_wanted"] is True


def test_each_app_is_seen_by_its_own_hosts_and_all_by_the_servers() -> None:
    two = variables(app1={"celery_app_name": "blog", "celery_app_broker": "redis", "celery_worker_classes": {}})
    assert seen_by("mq1", two)["app"] == "shop"
    seen = seen_by("app1", two)
    assert (seen["app"], seen["broker"], seen["queues"]) == ("blog", "redis", [])
    apps = [(app["name"], app["broker"]) for app in seen_by("cache1", two)["apps"]]
    assert apps == [("blog", "redis"), ("shop", "rabbitmq")]
    assert seen_by("mq1", two)["rabbitmq_wanted"] is True


def test_queues_come_from_the_classes_of_all_hosts_and_of_all_levels() -> None:
    found = variables(mq1={"celery_worker_host_classes": {"bulk": {"queues": ["feeds", "payments"]}}})
    assert seen_by("app1", found)["queues"] == ["feeds", "payments"]


def test_the_order_of_the_classes_has_no_meaning() -> None:
    one = {"high": {"queues": ["payments"]}, "bulk": {"queues": ["feeds"]}}
    other = dict(reversed(one.items()))
    assert seen_by("app1", variables(app1={"celery_worker_classes": one})) == seen_by(
        "app1", variables(app1={"celery_worker_classes": other})
    )


def test_the_consumer_timeout_covers_what_a_process_prefetches() -> None:
    assert seen_by("app1")["longest_task"] == 1800
    assert seen_by("app1")["consumer_timeout"] == 2 * 3600
    slow = variables(app1={"celery_worker_classes": {"bulk": {"time_limit": "1h"}, "odd": {"time_limit": "soon"}}})
    assert seen_by("app1", slow)["longest_task"] == 3600
    assert seen_by("app1", slow)["consumer_timeout"] == 4 * 3600
    greedy = variables(app1={"celery_worker_defaults": {"time_limit": "1h", "prefetch_multiplier": 9}})
    assert seen_by("app1", greedy)["consumer_timeout"] == 16 * 3600


def test_the_address_is_one_that_the_server_listens_on() -> None:
    both = variables(mq1={"rabbitmq_listen_addresses": ["127.0.0.1", "10.0.0.11"]})
    assert seen_by("app1", both)["rabbitmq"][0]["address"] == "10.0.0.11"
    assert seen_by("mq1", both)["rabbitmq"][0]["address"] == "127.0.0.1"
    one = variables(mq1={"rabbitmq_listen_addresses": ["10.0.0.11"]})
    assert seen_by("mq1", one)["rabbitmq"][0]["address"] == "10.0.0.11"
    any_ = variables(mq1={"rabbitmq_listen_addresses": ["0.0.0.0"]})
    assert seen_by("mq1", any_)["rabbitmq"][0]["address"] == "127.0.0.1"
    assert seen_by("app1", any_)["rabbitmq"][0]["address"] == "10.0.0.1"


def test_the_management_page_is_left_out_where_it_cannot_be_reached() -> None:
    assert seen_by("mq1")["management"] == {"address": "127.0.0.1", "port": 15672}
    assert seen_by("app1")["management"] == {}
    opened = variables(mq1={"rabbitmq_management_listen_address": "10.0.0.9", "rabbitmq_management_port": 8080})
    assert seen_by("app1", opened)["management"] == {"address": "10.0.0.9", "port": 8080}


def test_every_variable_that_speaks_of_long_tasks_counts() -> None:
    def hours(**changes: object) -> int:
        return int(seen_by("app1", variables(app1=dict(changes)))["consumer_timeout"]) // 3600

    assert hours(celery_app_longest_task="6h") == 16
    assert hours(celery_app_settings={"task_time_limit": 21600}) == 16
    assert hours(celery_app_settings={"worker_prefetch_multiplier": "15"}) == 16
    assert hours(celery_app_queue_type="classic", celery_app_longest_eta="12h") == 16
    assert hours(celery_app_queue_type="quorum", celery_app_longest_eta="12h") == 2


def test_an_inventory_of_servers_alone_is_sound() -> None:
    seen = seen_by("mq1", groups={"rabbitmq": ["mq1"], "redis": ["cache1"]})
    assert (seen["app"], seen["queues"], seen["longest_task"], seen["consumer_timeout"]) == ("", [], 1800, 7200)
    assert seen["rabbitmq_wanted"] is True


def test_the_servers_hold_what_each_app_needs() -> None:
    apps = [
        {"name": "shop", "broker": "rabbitmq", "key_prefix": "shop:", "dead_letter_queue": "shop.dead"},
        {"name": "blog", "broker": "redis", "key_prefix": "b:", "dead_letter_queue": "dead-letters"},
    ]
    objects = rabbitmq_objects(apps, {"shop": "one"}, {"shop": "two"})
    assert [vhost["name"] for vhost in objects["vhosts"]] == ["shop"]
    assert [(user["name"], user["password"]) for user in objects["users"]] == [("shop", "one"), ("shop-flower", "two")]
    (policy,) = objects["policies"]
    assert r"|shop\.dead$|" in policy["pattern"]
    assert policy["definition"]["dead-letter-routing-key"] == "shop.dead"
    users = redis_users(apps, {"shop": "three", "blog": "four"})
    assert [(user["purpose"], user["key_prefix"]) for user in users] == [("results", "shop:"), ("both", "b:")]


def test_urls_are_encoded_and_name_every_node() -> None:
    reached = [{"address": "a", "port": 1}, {"address": "b", "port": 2}]
    assert broker_url("http", [{"address": "::1", "port": 1}], "u", "p", "api") == "http://u:p@[::1]:1/api"
    assert broker_url("amqp", reached, "u", "p@/ :%", "my/vhost") == (
        "amqp://u:p%40%2F%20%3A%25@a:1/my%2Fvhost;amqp://u:p%40%2F%20%3A%25@b:2/my%2Fvhost"
    )
