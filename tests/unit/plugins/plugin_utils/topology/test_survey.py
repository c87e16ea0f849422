"""How the hosts of an inventory fit together."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.machines import (
    Given,
    listen_addresses,
    loopback,
    machine_at,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.members import members, queue_places
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.server_objects import (
    rabbitmq_objects,
    redis_users,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.survey import survey, view

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
    return view(surveyed(groups or GROUPS, lambda name, key, default: told[name].get(key, default)), host)


def surveyed(groups: dict[str, list[str]], given: Given) -> dict[str, Any]:
    return survey(members(groups, given), groups, given)


def names(both: str) -> dict[str, str]:
    """The names by which Sentinels know the servers of queues and of results, where these are the same."""
    return {"broker": both, "results": both}


def test_a_server_on_the_same_host_is_reached_on_loopback_and_another_by_its_address() -> None:
    assert seen_by("mq1")["rabbitmq"] == [{"host": "mq1", "address": "127.0.0.1", "port": 5672}]
    assert seen_by("app1")["rabbitmq"] == [{"host": "mq1", "address": "10.0.0.1", "port": 5672}]
    changed = variables(cache1={"redis_port": 6400})
    assert seen_by("app1", changed)["redis"] == [{"host": "cache1", "address": "cache1", "port": 6400}]


SENTINELS = {**GROUPS, "redis": ["mq1", "cache1"], "sentinel": ["mq1", "cache1", "app1"]}


def test_a_redis_of_several_servers_is_reached_through_its_sentinels() -> None:
    told = variables(
        mq1={"redis_bind": ["127.0.0.1", "10.0.0.1"]},
        cache1={"sentinel_bind": ["10.0.0.2"], "sentinel_port": 26400},
        app1={"ansible_host": "10.0.0.3"},
    )
    found = seen_by("app1", told, SENTINELS)
    assert found["sentinels"] == [
        {"host": "10.0.0.1", "port": 26379}, {"host": "10.0.0.2", "port": 26400}, {"host": "10.0.0.3", "port": 26379},
    ]  # fmt: skip
    assert (found["master_names"], found["sentinel_user"]) == (names("celeryops"), "celeryops")
    told["mq1"] |= {"sentinel_master_name": "cache", "sentinel_client_user": "apps"}
    found = seen_by("cache1", told, SENTINELS)
    assert (found["master_names"], found["redis_master_name"], found["sentinel_user"]) == (names("cache"), "cache", "apps")
    assert "password" not in str(found)


def test_one_redis_has_no_sentinels() -> None:
    for groups in (GROUPS, {**SENTINELS, "redis": ["cache1"]}):
        found = seen_by("app1", groups=groups)
        assert (found["sentinels"], found["master_names"], found["sentinel_user"]) == ([], names(""), "")


def test_a_server_on_the_same_machine_by_another_name_is_reached_on_loopback() -> None:
    alias = variables(app1={"ansible_host": "10.0.0.1"})
    assert seen_by("app1", alias)["rabbitmq"] == [{"host": "mq1", "address": "127.0.0.1", "port": 5672}]
    assert seen_by("app1", alias)["management"] == [{"address": "127.0.0.1", "port": 15672}]


def test_a_server_behind_the_same_address_and_another_port_is_another_machine() -> None:
    tunnel = {"ansible_host": "127.0.0.1", "rabbitmq_listen_addresses": ["127.0.0.1", "192.168.56.10"]}
    two = variables(mq1={**tunnel, "ansible_port": 2222}, app1={"ansible_host": "127.0.0.1", "ansible_port": "2200"})
    assert seen_by("app1", two)["rabbitmq"][0]["address"] == "192.168.56.10"
    assert seen_by("app1", two)["management"] == []
    same = variables(mq1={**tunnel, "ansible_port": 2222}, app1={"ansible_host": "127.0.0.1", "ansible_port": "2222"})
    assert seen_by("app1", same)["rabbitmq"][0]["address"] == "127.0.0.1"
    spelt = variables(mq1={"ansible_host": "MQ.example.com"}, app1={"ansible_host": "mq.example.com."})
    assert seen_by("app1", spelt)["rabbitmq"][0]["address"] == "127.0.0.1"


def test_a_machine_behind_the_usual_port_needs_no_port() -> None:
    assert machine_at("H.example.com.") == machine_at("h.example.com", 22) == "h.example.com"
    assert machine_at("h", "2222") == "[h]:2222"


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


def hours(**changes: Any) -> int:
    return int(seen_by("app1", variables(app1=changes))["consumer_timeout"]) // 3600


def test_the_consumer_timeout_covers_what_a_process_prefetches() -> None:
    assert seen_by("app1")["longest_task"] == 1800
    assert hours() == 8, "a task of half an hour behind eight others"
    slow = variables(app1={"celery_worker_classes": {"bulk": {"time_limit": "1h"}, "odd": {"time_limit": "soon"}}})
    assert seen_by("app1", slow)["longest_task"] == 3600
    assert seen_by("app1", slow)["consumer_timeout"] == 16 * 3600
    assert hours(celery_worker_defaults={"time_limit": "1h", "prefetch_multiplier": 20}) == 32


def test_the_class_that_a_host_has_where_none_is_written_counts_as_well() -> None:
    bare = variables(app1={"celery_worker_defaults": {"time_limit": "2h"}})
    for said in bare.values():
        del said["celery_worker_classes"]
    assert seen_by("app1", bare)["longest_task"] == 7200


def test_each_class_counts_with_what_it_takes_itself() -> None:
    def with_bulk(**keys: Any) -> int:
        return hours(celery_worker_classes={"default": {}, "bulk": keys})

    assert with_bulk(time_limit="1h") == 16
    # One message in advance: a class whose tasks may take longer than an hour, and one that says so.
    assert (with_bulk(time_limit="3h"), with_bulk(time_limit="5h")) == (8, 16)
    assert with_bulk(time_limit="1h", prefetch_multiplier=1) == 8
    assert with_bulk(time_limit="10s", prefetch_multiplier=8) == 8
    assert with_bulk(time_limit="3h", prefetch_multiplier=8) == 32
    # Of the whole app it was said: then it holds for long tasks too.
    classes = {"celery_worker_classes": {"bulk": {"time_limit": "3h"}}}
    assert hours(**classes, celery_app_prefetch_multiplier=8) == 32
    assert hours(**classes, celery_app_settings={"worker_prefetch_multiplier": 8}) == 32
    # What one level says of a class, another one may take back, and the class with it.
    long = {"celery_worker_classes": {"bulk": {"time_limit": "12h"}}}
    for more, known in (({}, 32), ({"time_limit": None}, 8), ({"state": "absent"}, 8), ({"time_limit": "1d"}, 64)):
        assert hours(**long, celery_worker_host_classes={"bulk": more}) == known
    assert hours(celery_worker_classes=["bulk"], celery_worker_host_classes={"bulk": 7}) == 8


ALONE = {**GROUPS, "celery_workers": ["app1"]}


def prefetch(groups: dict[str, list[str]] | None = None, **changes: Any) -> int:
    return int(seen_by("app1", variables(app1=changes), groups)["prefetch_multiplier"])


def test_how_many_hosts_there_are_changes_no_number() -> None:
    kept = ("prefetch_multiplier", "consumer_timeout", "visibility_timeout", "longest_task")
    for own in ({}, {"celery_app_broker": "redis"}, {"celery_worker_defaults": {"prefetch_multiplier": 2}}):
        told = variables(**dict.fromkeys(("app1", "mq1", "app2"), own))
        one, two, three = (
            seen_by("app1", told, {**GROUPS, "celery_workers": workers})
            for workers in (["app1"], ["app1", "mq1"], ["app1", "mq1", "app2"])
        )
        assert [one[key] for key in kept] == [two[key] for key in kept] == [three[key] for key in kept]


def test_a_worker_of_rabbitmq_may_take_more_in_advance() -> None:
    assert prefetch() == prefetch(ALONE) == 8
    assert prefetch({**ALONE, "rabbitmq": []}) == prefetch(celery_app_broker="redis") == 1
    assert prefetch(celery_app_broker_url="amqp://elsewhere/shop") == 1, "its consumer timeout is not known"
    assert seen_by("cache1", groups={"rabbitmq": ["mq1"], "redis": ["cache1"]})["prefetch_multiplier"] == 1


def test_long_tasks_of_the_whole_app_are_not_taken_in_advance() -> None:
    assert prefetch(celery_app_longest_task="1h") == prefetch(celery_app_settings={"task_time_limit": 3600}) == 8
    assert prefetch(celery_app_longest_task="3601s") == prefetch(celery_app_settings={"task_time_limit": 3601}) == 1
    assert prefetch(celery_worker_defaults={"time_limit": 3601}) == 8, "which the classes' own units say"


def test_what_is_said_of_the_prefetch_counts_for_the_timeout() -> None:
    assert hours(celery_app_prefetch_multiplier=1) == 8, "of another host nothing is said"
    both = {host: {"celery_app_prefetch_multiplier": 1} for host in ("app1", "mq1")}
    assert seen_by("app1", variables(**both))["consumer_timeout"] == 2 * 3600
    assert hours(celery_app_prefetch_multiplier=1, celery_app_settings={"worker_prefetch_multiplier": 15}) == 16
    assert hours(celery_app_prefetch_multiplier=15, celery_app_settings={"worker_prefetch_multiplier": 1}) == 8


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
    assert seen_by("mq1")["management"] == [{"address": "127.0.0.1", "port": 15672}]
    assert seen_by("app1")["management"] == []
    opened = variables(mq1={"rabbitmq_management_listen_address": "10.0.0.9", "rabbitmq_management_port": 8080})
    assert seen_by("app1", opened)["management"] == [{"address": "10.0.0.9", "port": 8080}]


def test_every_variable_that_speaks_of_long_tasks_counts() -> None:
    assert hours(celery_app_longest_task="6h") == 16
    assert hours(celery_app_settings={"task_time_limit": 21600}) == 16
    assert hours(celery_app_settings={"worker_prefetch_multiplier": "15"}) == 16
    assert hours(celery_app_queue_type="classic", celery_app_longest_eta="12h") == 32
    assert hours(celery_app_queue_type="quorum", celery_app_longest_eta="12h") == 8


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
    assert objects["vhosts"] == [{"name": "shop", "default_queue_type": "quorum"}]
    (policy,) = objects["policies"]
    assert r"|shop\.dead$|" in policy["pattern"]
    assert policy["definition"]["dead-letter-routing-key"] == "shop.dead"
    users = redis_users(apps, {"shop": "three", "blog": "four"})
    assert [(user["purpose"], user["key_prefix"]) for user in users] == [("results", "shop:"), ("both", "b:")]


@pytest.mark.parametrize(("said", "meant"), [("classic", "classic"), ("quorum", "quorum"), (None, "quorum")])
def test_a_client_that_names_no_type_gets_that_of_the_apps_queues(said: str | None, meant: str) -> None:
    (app,) = seen_by("app1", variables(app1={"celery_app_queue_type": said} if said else {}))["apps"]
    (vhost,) = rabbitmq_objects([app], {app["name"]: "one"}, {app["name"]: "two"})["vhosts"]
    assert vhost["default_queue_type"] == meant


def test_the_consumer_timeout_is_the_next_power_of_two_in_hours() -> None:
    def needed(longest: int, prefetch: int = 1, **own: Any) -> int:
        settings = {"worker_prefetch_multiplier": prefetch}
        changes = {"celery_app_longest_task": longest, "celery_app_settings": settings, **own}
        return int(seen_by("app1", variables(app1=changes), ALONE)["consumer_timeout"]) // 3600

    # A task behind another one, and ten minutes: two hours to the second.
    assert (needed(3300), needed(3301)) == (2, 4)
    # A task behind six others, and ten minutes: sixteen hours but a few seconds, and one second more.
    assert (needed(8142, 6), needed(8143, 6)) == (16, 32)
    # What cannot be read is told by its role.
    assert needed(3300, celery_app_queue_type="classic", celery_app_longest_eta="soon") == 2
    assert needed(3300, celery_app_queue_type="classic") == 4


def test_the_visibility_timeout_is_worked_out_where_more_than_one_message_waits() -> None:
    redis = {"celery_app_broker": "redis"}

    def timeout(**own: Any) -> Any:
        return seen_by("app1", variables(app1={**redis, **own}))["visibility_timeout"]

    assert timeout() == timeout(celery_app_settings={"worker_prefetch_multiplier": 1}) == ""
    endless = variables(app1={**redis, "celery_app_settings": {"worker_prefetch_multiplier": 0}})
    assert seen_by("app1", endless, ALONE)["visibility_timeout"] == ""
    greedy = {"celery_worker_defaults": {"prefetch_multiplier": 2}}
    assert seen_by("app1", variables(app1=greedy))["visibility_timeout"] == "", "RabbitMQ has none"
    assert timeout(**greedy) == 3 * 1800 + 3600 + 600
    assert timeout(**greedy, celery_app_longest_eta="soon") == 3 * 1800 + 3600 + 600
    assert timeout(**greedy, celery_app_longest_eta="2h", celery_app_longest_task="1h") == 3 * 3600 + 7200 + 600
    unread = {"app1": {**redis, **greedy, "celery_app_longest_eta": "soon"}, "mq1": {"celery_app_longest_eta": "x"}}
    assert seen_by("app1", variables(**unread))["visibility_timeout"] == 3 * 1800 + 600
    # A Redis elsewhere is no RabbitMQ, whatever the groups suggest.
    elsewhere = {**greedy, "celery_app_broker": None, "celery_app_broker_url": "redis://elsewhere/0"}
    assert timeout(**elsewhere) == 3 * 1800 + 3600 + 600


def test_a_class_with_shorter_tasks_changes_no_visibility_timeout() -> None:
    def timeout(**classes: Any) -> Any:
        told = variables(app1={"celery_app_broker": "redis", "celery_worker_classes": classes})
        return seen_by("app1", told)["visibility_timeout"]

    several = {"bulk": {"prefetch_multiplier": 4, "time_limit": "1h"}}
    assert timeout(**several) == timeout(**several, quick={"time_limit": "1m", "prefetch_multiplier": 50})
    assert timeout(**several) == timeout(**several, slow={"time_limit": "2h"}) == 5 * 3600 + 3600 + 600
    assert timeout(**several, slow={"time_limit": "3h"}) == 2 * 10800 + 3600 + 600


def test_an_app_is_named_in_redis_and_among_the_dead_as_its_first_host_says() -> None:
    (app,) = seen_by("mq1")["apps"]
    assert (app["key_prefix"], app["dead_letter_queue"]) == ("shop:", "dead-letters")
    first = {"celery_app_key_prefix": "s:", "celery_app_dead_letter_queue": "dead"}
    other = {"celery_app_key_prefix": "t:", "celery_app_dead_letter_queue": "lost"}
    (app,) = seen_by("mq1", variables(app1=first, mq1=other))["apps"]
    assert (app["key_prefix"], app["dead_letter_queue"]) == ("s:", "dead")


def test_servers_have_their_usual_ports() -> None:
    seen = seen_by("app1")
    assert seen["redis"] == [{"host": "cache1", "address": "cache1", "port": 6379}]
    assert seen["rabbitmq"] == [{"host": "mq1", "address": "10.0.0.1", "port": 5672}]


def test_what_is_no_list_of_addresses_is_loopback() -> None:
    for listen in ("10.0.0.1", [], None, 7):
        assert listen_addresses(listen) == ["127.0.0.1"]
    assert listen_addresses(["-::1", "10.0.0.1"]) == listen_addresses(("-::1", "10.0.0.1")) == ["::1", "10.0.0.1"]


def test_the_first_address_of_a_server_is_its_address() -> None:
    two = variables(mq1={"rabbitmq_listen_addresses": ["10.0.0.11", "10.0.0.12"]})
    assert seen_by("app1", two)["rabbitmq"][0]["address"] == "10.0.0.11"
    assert seen_by("mq1", two)["rabbitmq"][0]["address"] == "10.0.0.11"


def test_a_server_that_carries_no_app_knows_itself() -> None:
    assert seen_by("cache1")["redis"][0]["address"] == "127.0.0.1"


def test_the_management_page_is_that_of_each_server_that_can_be_reached() -> None:
    two = variables(app2={"rabbitmq_management_listen_address": "10.0.0.2"})
    groups = {**GROUPS, "rabbitmq": ["mq1", "app2"]}
    second = {"address": "10.0.0.2", "port": 15672}
    assert seen_by("app1", two, groups)["management"] == [second]
    assert seen_by("mq1", two, groups)["management"] == [{"address": "127.0.0.1", "port": 15672}, second]
    everywhere = variables(mq1={"rabbitmq_management_listen_address": "0.0.0.0"})
    assert seen_by("mq1", everywhere)["management"][0]["address"] == "127.0.0.1"
    assert seen_by("app1", everywhere)["management"][0]["address"] == "10.0.0.1"
    one = variables(mq1={"rabbitmq_management_listen_address": "10.0.0.9"})
    assert seen_by("mq1", one)["management"][0]["address"] == "10.0.0.9"


def test_only_workers_have_classes_and_each_counts() -> None:
    found = variables(app2={"celery_worker_classes": {"bulk": {"queues": ["feeds"]}}})
    assert seen_by("app1", found, {**GROUPS, "celery_beat": ["app2"]})["queues"] == ["payments"]
    # Hosts that are alike share their values.
    found["mq1"]["celery_worker_classes"] = found["app1"]["celery_worker_classes"]
    workers = {**GROUPS, "celery_workers": ["app1", "mq1", "app2"]}
    assert seen_by("app1", found, workers)["queues"] == ["feeds", "payments"]


def test_the_policy_of_dead_letters() -> None:
    apps = [{"name": "shop", "broker": "rabbitmq", "key_prefix": "shop:", "dead_letter_queue": "dead"}]
    (policy,) = rabbitmq_objects(apps, {"shop": "one"}, {"shop": "two"})["policies"]
    assert policy == {
        "vhost": "shop",
        "name": "celeryops-dead-letters",
        "pattern": "^(?!celery_delayed_|celeryev|dead$|.*pidbox$).*",
        "apply_to": "queues",
        "priority": 0,
        "definition": {"delivery-limit": 20, "dead-letter-exchange": "", "dead-letter-routing-key": "dead"},
    }


def test_flower_may_watch_and_delete_nothing_of_the_workers() -> None:
    apps = [{"name": "shop", "broker": "rabbitmq", "key_prefix": "shop:", "dead_letter_queue": "dead"}]
    users = rabbitmq_objects(apps, {"shop": "one"}, {"shop": "two"})["users"]
    (permission,) = next(user["permissions"] for user in users if user["name"] == "shop-flower")
    own = {"celeryev.8d1c", "3f2a.reply.celery.pidbox"}
    theirs = {"celeryev", "celery.pidbox", "reply.celery.pidbox", "default", "tasks", "dead", "high@app1.celery.pidbox"}

    def allowed(kind: str) -> set[str]:
        return {name for name in own | theirs if re.search(permission[kind], name)}

    assert allowed("configure") == own
    assert allowed("write") == own | {"celery.pidbox"}
    assert allowed("read") == own | {"celeryev", "reply.celery.pidbox"}


def test_a_queue_is_placed_where_a_class_of_a_worker_names_it() -> None:
    told = variables(
        app1={
            "celery_worker_group_classes": {
                "high": {"queues": ["payments", "eu"]},
                "none": 7,
                "text": {"queues": "us"},
            },
            "celery_worker_host_classes": ["no", "classes"],
            "celery_worker_defaults": {"queues": ["all"]},
        },
        cache1={"celery_worker_classes": {"idle": {"queues": ["idle"]}}},
    )
    apps = members(GROUPS, lambda name, key, default: told[name].get(key, default))
    assert queue_places(apps["shop"]) == {
        # The level that decides; of what is not a list, what somebody seems to have meant.
        "payments": "celery_worker_group_classes.high.queues",
        "eu": "celery_worker_group_classes.high.queues",
        "us": "celery_worker_group_classes.text.queues",
        "all": "celery_worker_defaults.queues",
    }


def test_what_only_the_host_itself_reaches() -> None:
    for address in ("127.0.0.1", "127.1", "::1", "localhost", "LOCALHOST", "localhost.", "localhost.localdomain"):
        assert loopback(address)
    for address in ("10.127.0.1", "::10", "localhost-db", "localhost.example.com", "0.0.0.0", ""):
        assert not loopback(address)


def connections(groups: dict[str, list[str]], **defaults: Any) -> tuple[int, int]:
    """Return what the inventory makes to RabbitMQ and to Redis with one class on each worker."""
    own = {"celery_worker_classes": {"default": defaults}}
    seen = seen_by("mq1", variables(**dict.fromkeys(("app1", "mq1", "app2"), own)), groups)
    return seen["rabbitmq_connections"], seen["redis_connections"]


ONE = {"rabbitmq": ["mq1"], "redis": ["cache1"], "celery_workers": ["app1"]}


@pytest.mark.parametrize(
    ("keys", "made"),
    [
        ({"concurrency": 4}, (7, 6)),
        ({"concurrency": 4, "workers": 3}, (21, 18)),
        ({}, (19, 18)),
        ({"pool": "threads", "concurrency": 100}, (13, 102)),
        ({"concurrency": 4, "state": "absent"}, (0, 0)),
    ],
)
def test_the_connections_of_a_worker(keys: dict[str, Any], made: tuple[int, int]) -> None:
    assert connections(ONE, **keys) == made
    two = {**ONE, "celery_workers": ["app1", "app2"]}
    assert connections(two, **keys) == (2 * made[0], 2 * made[1])


@pytest.mark.parametrize(("group", "number"), [("celery_producers", 64), ("celery_beat", 1), ("flower", 11)])
def test_the_connections_of_the_other_hosts(group: str, number: int) -> None:
    assert connections({**ONE, group: ["app2"]}, concurrency=4) == (7 + number, 6 + number)


def test_a_broker_elsewhere_has_no_connections_here() -> None:
    for own in ({"celery_app_broker": "redis"}, {"celery_app_broker_url": "amqp://elsewhere//"}):
        seen = seen_by("mq1", variables(app1=own), ONE)
        assert seen["rabbitmq_connections"] == 0
        assert seen["redis_connections"] == (36 + 16 if "celery_app_broker" in own else 36)


NODES = ("rabbit@mq1", "rabbit@mq2", "rabbit@mq3")


def members_of(**machines: dict[str, Any]) -> list[str]:
    """Return the names of three nodes, of whose machines is known what the keywords say."""
    groups = {"rabbitmq": ["mq1", "mq2", "mq3"]}

    def given(_host: str, _name: str, default: Any) -> Any:
        return default

    found = survey(members(groups, given), groups, given, lambda host: machines.get(host, {}))
    return [node["member"]["name"] for node in found["servers"]["rabbitmq"]]


def machine_of(name: str, **rest: Any) -> dict[str, Any]:
    return {"hostname": name, "celeryops_rabbitmq": {"nodes": [f"rabbit@{name}"], **rest}}


def test_a_node_that_was_not_looked_at_has_the_name_by_which_the_others_know_it() -> None:
    peers = {f"rabbit@{name}": [node for node in NODES if node != f"rabbit@{name}"] for name in ("mq1", "mq2")}
    one, two = machine_of("mq1", peers=peers), machine_of("mq2", peers=peers)
    assert members_of(mq1=one, mq2=two) == list(NODES)
    # One that is left, whatever its host is called; and as Khepri's configuration has it.
    assert members_of(mq1=machine_of("a", configured=["rabbit@a", "rabbit@b", "rabbit@c"]), mq3=machine_of("c")) == [
        "rabbit@a",
        "rabbit@b",
        "rabbit@c",
    ]
    # Two of which nobody knows which is which, and one that is not known.
    assert members_of(mq1=machine_of("a", configured=["rabbit@a", "rabbit@b", "rabbit@c"])) == ["rabbit@a", "", ""]
    assert members_of(mq1=one) == list(NODES)
    assert members_of(mq1=machine_of("mq1"), mq2=machine_of("mq2")) == ["rabbit@mq1", "rabbit@mq2", ""]
    assert members_of() == ["", "", ""]


def test_what_a_node_knows_counts_only_when_it_is_the_one_that_runs() -> None:
    left_behind = {"hostname": "mq1", "celeryops_rabbitmq": {"nodes": [], "configured": list(NODES)}}
    assert members_of(mq1=left_behind, mq2=machine_of("mq2")) == ["rabbit@mq1", "rabbit@mq2", ""]


REPLICATED = {**GROUPS, "redis": ["cache1", "app2"], "sentinel": ["cache1", "app2", "mq1"]}


def replicated(**changes: dict[str, Any]) -> Variables:
    own = {
        "cache1": {"redis_bind": ["127.0.0.1", "10.0.0.2"], "redis_implementation": "valkey"},
        "app2": {"ansible_host": "10.0.0.3"},
        **changes,
    }
    return variables(**own)


def test_several_redis_servers_and_their_sentinels_find_each_other() -> None:
    seen = seen_by("app1", replicated(), REPLICATED)
    assert seen["redis_nodes"] == [{"host": "10.0.0.2", "port": 6379}, {"host": "10.0.0.3", "port": 6379}]
    assert [place["host"] for place in seen["sentinels"]] == ["10.0.0.2", "10.0.0.3", "10.0.0.1"]
    assert {place["port"] for place in seen["sentinels"]} == {26379}
    assert (seen["redis_master_name"], seen["redis_engine"]) == ("celeryops", "valkey")
    assert (seen["redis_address"], seen["sentinel_address"]) == ("", "")
    here = seen_by("cache1", replicated(), REPLICATED)
    assert (here["redis_address"], here["sentinel_address"]) == ("10.0.0.2", "10.0.0.2")


def test_the_address_that_is_written_comes_first() -> None:
    own = {"redis_announce_ip": "192.0.2.1", "sentinel_announce_ip": "192.0.2.2", "sentinel_port": 26400}
    seen = seen_by("app2", replicated(app2={**own, "sentinel_bind": ["192.0.2.3"]}), REPLICATED)
    assert (seen["redis_address"], seen["sentinel_address"]) == ("192.0.2.1", "192.0.2.2")
    assert {"host": "192.0.2.2", "port": 26400} in seen["sentinels"]
    del own["sentinel_announce_ip"]
    seen = seen_by("app2", replicated(app2={**own, "sentinel_bind": ["192.0.2.3"]}), REPLICATED)
    assert seen["sentinel_address"] == "192.0.2.3"


def test_a_host_without_an_address_is_found_nowhere() -> None:
    seen = seen_by("app2", replicated(app2={}), REPLICATED)
    assert seen["redis_nodes"][1]["host"] == seen["redis_address"] == seen["sentinel_address"] == ""


def test_one_redis_server_has_nobody_beside_it() -> None:
    seen = seen_by("app1", variables(), {**GROUPS, "sentinel": ["cache1", "app1", "mq1"]})
    assert (seen["redis_nodes"], seen["sentinels"], seen["redis_master_name"], seen["watched"]) == ([], [], "", [])
    assert seen["redis_address"] == ""


#: Queues on two servers, results on two others; a worker is one of the latter.
BOTH_STORES = {
    **GROUPS,
    "rabbitmq": [],
    "redis": ["cache1", "app2"],
    "redis_results": ["mq1", "app1"],
    "sentinel": ["cache1", "app2", "mq1"],
}


def in_two_stores(**changes: dict[str, Any]) -> Variables:
    """Each server has an address, and those of the results are of another engine."""
    own: dict[str, dict[str, Any]] = {
        "cache1": {"ansible_host": "10.0.0.2"},
        "app2": {"ansible_host": "10.0.0.3"},
        "mq1": {"ansible_host": "10.0.0.4", "redis_implementation": "valkey"},
        "app1": {"ansible_host": "10.0.0.5", "redis_implementation": "valkey"},
    }
    return variables(**{host: {**told, **changes.get(host, {})} for host, told in own.items()})


def test_what_a_server_is_told_is_of_its_own_store() -> None:
    queues, results = seen_by("cache1", in_two_stores(), BOTH_STORES), seen_by("app1", in_two_stores(), BOTH_STORES)
    assert [place["host"] for place in queues["redis_nodes"]] == ["10.0.0.2", "10.0.0.3"]
    assert [place["host"] for place in results["redis_nodes"]] == ["10.0.0.4", "10.0.0.5"]
    assert (queues["redis_purpose"], results["redis_purpose"]) == ("broker", "results")
    assert (queues["redis_engine"], results["redis_engine"]) == ("redis", "valkey")
    assert (queues["redis_address"], results["redis_address"]) == ("10.0.0.2", "10.0.0.5")
    assert (queues["redis_master_name"], results["redis_master_name"]) == ("celeryops", "celeryops-results")
    assert queues["redis_connections"] > results["redis_connections"] > 0
    assert queues["redis_sentinels"] == results["redis_sentinels"] == queues["sentinels"] != []


def test_each_host_finds_queues_and_results_where_they_are() -> None:
    for host in ("app1", "app2", "mq1"):
        found = seen_by(host, in_two_stores(), BOTH_STORES)
        assert [node["host"] for node in found["redis"]] == ["cache1", "app2"]
        assert [node["host"] for node in found["results"]] == ["mq1", "app1"]
        assert found["separate_results"] is True
        assert found["master_names"] == {"broker": "celeryops", "results": "celeryops-results"}
    assert [node["host"] for node in seen_by("app1")["results"]] == ["cache1"]
    assert seen_by("app1")["separate_results"] is False


def test_sentinels_watch_the_stores_that_have_replicas() -> None:
    def watched(**groups: list[str]) -> list[tuple[str, int]]:
        seen = seen_by("mq1", in_two_stores(), {**BOTH_STORES, **groups})
        assert bool(seen["sentinels"]) == bool(seen["watched"])
        return [(one["name"], len(one["servers"])) for one in seen["watched"]]

    assert watched() == [("celeryops", 2), ("celeryops-results", 2)]
    assert watched(redis=["cache1"]) == [("celeryops-results", 2)]
    assert watched(redis_results=["mq1"]) == [("celeryops", 2)]
    assert watched(redis=["cache1"], redis_results=["mq1"]) == []
    one = seen_by("mq1", in_two_stores(), {**BOTH_STORES, "redis": ["cache1"]})
    assert one["master_names"] == {"broker": "", "results": "celeryops-results"}


@pytest.mark.parametrize(
    ("groups", "broker", "meant"),
    [
        ({}, "redis", "both"),
        ({}, "rabbitmq", "results"),
        ({"redis_results": ["mq1"]}, "redis", "broker"),
        ({"redis_results": ["mq1"]}, "rabbitmq", "broker"),
    ],
)
def test_results_of_their_own_leave_a_redis_to_the_queues(
    groups: dict[str, list[str]], broker: str, meant: str
) -> None:
    told = variables(app1={"celery_app_broker": broker}, app2={"celery_app_broker": broker})
    assert seen_by("cache1", told, {**GROUPS, **groups})["redis_purpose"] == meant


def test_accounts_are_for_what_the_servers_keep() -> None:
    apps = [{"name": name, "broker": broker, "key_prefix": ""} for name, broker in (("a", "redis"), ("b", "rabbitmq"))]
    passwords = {"a": "one", "b": "two"}

    def accounts(purpose: str) -> dict[str, str]:
        return {user["name"]: user["purpose"] for user in redis_users(apps, passwords, purpose)}

    assert accounts("both") == {"a": "both", "b": "results"}
    assert accounts("broker") == {"a": "broker"}
    assert accounts("results") == {"a": "results", "b": "results"}
