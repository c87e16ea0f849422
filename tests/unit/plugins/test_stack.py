"""How the hosts of an inventory fit together."""

from __future__ import annotations

from typing import Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.stack import broker_url, problems, queues, stack

GROUPS = {"rabbitmq": ["mq1"], "redis": ["cache1"], "celery_workers": ["app1", "mq1"], "celery_beat": ["app1"]}


def hostvars(**changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    variables: dict[str, dict[str, Any]] = {
        host: {
            "celery_app_name": "shop",
            "celery_worker_classes": {"high": {"queues": ["payments"]}, "default": None},
            "rabbitmq_listen_addresses": ["127.0.0.1", "10.0.0.1"],
            "redis_bind": ["0.0.0.0"],
        }
        for host in ("mq1", "cache1", "app1", "app2")
    }
    variables["mq1"]["ansible_host"] = "10.0.0.1"
    for host, change in changes.items():
        variables[host].update(change)
    return variables


def test_a_server_on_the_same_host_is_reached_on_loopback_and_another_by_its_address() -> None:
    assert stack(GROUPS, hostvars(), "mq1")["rabbitmq"] == [{"host": "mq1", "address": "127.0.0.1", "port": 5672}]
    assert stack(GROUPS, hostvars(), "app1")["rabbitmq"] == [{"host": "mq1", "address": "10.0.0.1", "port": 5672}]
    changed = hostvars(cache1={"redis_port": 6400})
    assert stack(GROUPS, changed, "app1")["redis"] == [{"host": "cache1", "address": "cache1", "port": 6400}]


def test_without_rabbitmq_redis_is_the_broker() -> None:
    assert stack(GROUPS, hostvars(), "app1")["broker"] == "rabbitmq"
    assert stack({**GROUPS, "rabbitmq": []}, hostvars(), "app1")["broker"] == "redis"


def test_queues_come_from_the_classes_of_all_hosts_and_of_all_levels() -> None:
    variables = hostvars(mq1={"celery_worker_host_classes": {"bulk": {"queues": ["feeds", "payments"]}}})
    assert queues(GROUPS, variables) == ["feeds", "payments"]


def test_the_order_of_the_classes_has_no_meaning() -> None:
    one = {"high": {"queues": ["payments"]}, "bulk": {"queues": ["feeds"]}}
    other = dict(reversed(one.items()))
    assert stack(GROUPS, hostvars(app1={"celery_worker_classes": one}), "app1") == stack(
        GROUPS, hostvars(app1={"celery_worker_classes": other}), "app1"
    )


def test_the_consumer_timeout_covers_what_a_process_prefetches() -> None:
    assert stack(GROUPS, hostvars(), "app1")["longest_task"] == 1800
    assert stack(GROUPS, hostvars(), "app1")["consumer_timeout"] == 2 * 3600
    slow = hostvars(app1={"celery_worker_classes": {"bulk": {"time_limit": "1h"}, "odd": {"time_limit": "soon"}}})
    assert stack(GROUPS, slow, "app1")["longest_task"] == 3600
    assert stack(GROUPS, slow, "app1")["consumer_timeout"] == 4 * 3600
    greedy = hostvars(app1={"celery_worker_defaults": {"time_limit": "1h", "prefetch_multiplier": 9}})
    assert stack(GROUPS, greedy, "app1")["consumer_timeout"] == 16 * 3600


def test_a_sound_inventory_has_no_problems() -> None:
    assert problems(GROUPS, hostvars()) == []
    alone = {"rabbitmq": ["mq1"], "redis": ["mq1"], "celery_workers": ["mq1"]}
    assert problems(alone, hostvars(mq1={"rabbitmq_listen_addresses": ["127.0.0.1"]})) == []


def test_a_server_that_listens_on_loopback_only_is_found_when_others_need_it() -> None:
    (problem,) = problems(GROUPS, hostvars(mq1={"rabbitmq_listen_addresses": ["127.0.0.1", "-::1"]}))
    assert "cannot be reached from app1" in str(problem)


def test_what_is_not_supported_yet_is_refused() -> None:
    groups = {**GROUPS, "rabbitmq": ["mq1", "cache1"], "celery_beat": ["app1", "app2"]}
    assert [problem.variable for problem in problems(groups, hostvars())] == ["rabbitmq", "celery_beat"]
    (problem,) = problems(GROUPS, hostvars(app1={"celery_app_name": "blog"}))
    assert problem.variable == "celery_app_name"


def test_the_address_is_one_that_the_server_listens_on() -> None:
    both = hostvars(mq1={"rabbitmq_listen_addresses": ["127.0.0.1", "10.0.0.11"]})
    assert stack(GROUPS, both, "app1")["rabbitmq"][0]["address"] == "10.0.0.11"
    assert stack(GROUPS, both, "mq1")["rabbitmq"][0]["address"] == "127.0.0.1"
    one = hostvars(mq1={"rabbitmq_listen_addresses": ["10.0.0.11"]})
    assert stack(GROUPS, one, "mq1")["rabbitmq"][0]["address"] == "10.0.0.11"
    any_ = hostvars(mq1={"rabbitmq_listen_addresses": ["0.0.0.0"]})
    assert stack(GROUPS, any_, "mq1")["rabbitmq"][0]["address"] == "127.0.0.1"
    assert stack(GROUPS, any_, "app1")["rabbitmq"][0]["address"] == "10.0.0.1"


def test_the_management_page_is_left_out_where_it_cannot_be_reached() -> None:
    assert stack(GROUPS, hostvars(), "mq1")["management"] == {"address": "127.0.0.1", "port": 15672}
    assert stack(GROUPS, hostvars(), "app1")["management"] == {}
    opened = hostvars(mq1={"rabbitmq_management_listen_address": "10.0.0.9", "rabbitmq_management_port": 8080})
    assert stack(GROUPS, opened, "app1")["management"] == {"address": "10.0.0.9", "port": 8080}


def test_every_variable_that_speaks_of_long_tasks_counts() -> None:
    def hours(**changes: object) -> int:
        return int(stack(GROUPS, hostvars(app1=dict(changes)), "app1")["consumer_timeout"]) // 3600

    assert hours(celery_app_longest_task="6h") == 16
    assert hours(celery_app_settings={"task_time_limit": 21600}) == 16
    assert hours(celery_app_settings={"worker_prefetch_multiplier": "15"}) == 16
    assert hours(celery_app_queue_type="classic", celery_app_longest_eta="12h") == 16
    assert hours(celery_app_queue_type="quorum", celery_app_longest_eta="12h") == 2


def test_a_queue_that_nobody_reads_is_found() -> None:
    def found(**changes: object) -> list[str]:
        everywhere = {host: dict(changes) for host in ("mq1", "app1")}
        return [f"{problem.variable} {problem.value}" for problem in problems(GROUPS, hostvars(**everywhere))]

    assert set(found(celery_app_routes=[{"task": "a.*", "queue": "paymnets"}])) == {"celery_app_routes paymnets"}
    assert set(found(celery_worker_classes={"a": {"queues": ["x"]}})) == {"celery_app_default_queue default"}
    assert found(celery_app_routes=[{"task": "a.*", "queue": "x"}], celery_app_queues=["x"]) == []
    assert found(celery_worker_host_classes={"high": {"queues": ["x"]}}, celery_app_default_queue="x") == []
    assert set(found(celery_worker_host_classes={"default": {"state": "absent"}})) == {
        "celery_app_default_queue default"
    }


def test_an_inventory_of_servers_alone_is_sound() -> None:
    servers = {"rabbitmq": ["mq1"], "redis": ["cache1"]}
    seen = stack(servers, hostvars(), "mq1")
    assert (seen["app"], seen["queues"], seen["longest_task"], seen["consumer_timeout"]) == ("", [], 1800, 7200)
    assert problems(servers, hostvars()) == []


def test_a_misspelt_group_is_found() -> None:
    groups = {"rabbitmq": ["mq1"], "redis": ["mq1"], "celery_worker": ["app1"], "redis2": ["cache1"]}
    (problem,) = problems(groups, hostvars())
    assert (problem.value, problem.instead) == ("celery_worker", "celery_workers")


def test_urls_are_encoded_and_name_every_node() -> None:
    reached = [{"address": "a", "port": 1}, {"address": "b", "port": 2}]
    assert broker_url("http", [{"address": "::1", "port": 1}], "u", "p", "api") == "http://u:p@[::1]:1/api"
    assert broker_url("amqp", reached, "u", "p@/ :%", "my/vhost") == (
        "amqp://u:p%40%2F%20%3A%25@a:1/my%2Fvhost;amqp://u:p%40%2F%20%3A%25@b:2/my%2Fvhost"
    )
