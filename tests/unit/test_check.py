"""Whole inventories, run through the real playbook's check: what must be told of wrong ones, and nothing of sound ones.

The tables are beside this file: ``wrong_inventories`` with what the one message tells, by the ids of its lines and by
the variables, ``sound_inventories`` as teams would write them. No host in them exists.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from checker import Checker, laid_over_the_shop

from ansible_collections.celeryops.stack.plugins.plugin_utils.rules.catalogue import RULES

HERE = Path(__file__).parent
WRONG = {
    f"{path.stem}: {entry['name']}": entry
    for path in sorted((HERE / "wrong_inventories").glob("*.yml"))
    for entry in yaml.safe_load(path.read_text())
}
#: Every fifth is tried in `make test-fast`, and by the whole playbook; in `make test` the others by the playbook's task
#: alone, unless there is more beside the variables than it takes. `make test-all` has the playbook for all.
WHOLE = {
    name
    for place, (name, entry) in enumerate(WRONG.items())
    if place % 5 == 0 or {"inventory", "facts"} & entry.keys() or os.environ.get("CELERYOPS_THOROUGH")
}
TRIED = [pytest.param(name, marks=[pytest.mark.slow] * (place % 5 > 0)) for place, name in enumerate(WRONG)]
SOUND = sorted((HERE / "sound_inventories").glob("*.yml"))


@pytest.fixture(scope="session")
def checker() -> Iterator[Checker]:
    """One process for all inventories."""
    with Checker() as running:
        yield running


@pytest.mark.parametrize("name", TRIED)
def test_a_wrong_inventory_is_told_what_to_write_instead(tmp_path: Path, checker: Checker, name: str) -> None:
    entry = WRONG[name]
    kind = "playbook" if name in WHOLE else "task"
    answer = checker.ask(tmp_path, laid_over_the_shop(entry), entry.get("files"), entry.get("facts"), kind=kind)
    assert answer.code != 0, answer.said
    assert answer.said.count("fatal: ") == 1
    assert "nothing was changed" in answer.head
    assert answer.told == sorted((one, variable) for told in entry["tells"] for one, variable in told.items())
    # What can be meant says how to accept it, and nothing else does.
    rule = entry.get("rule")
    offered = any(f'celery_app_accept: ["{rule}' in line for line in answer.mistakes)
    assert offered is (rule in {one.name for one in RULES if one.acceptable})
    assert [text for text in entry.get("never", []) if text in answer.said] == []
    assert [*tmp_path.rglob("*_password")] == []
    # Ansible itself may have some, such as about a dash in a group's name.
    assert "celery_app_accept" not in answer.warnings


@pytest.mark.parametrize(
    "own", [{"redis_port": "x", "celery_app_user": "root"}, {"redis_maxmemory_policy": "allkeys-lru"}, {}]
)
def test_the_task_alone_says_what_the_playbook_says(tmp_path: Path, checker: Checker, own: dict[str, Any]) -> None:
    inventory = laid_over_the_shop({"vars": own})
    whole = checker.ask(tmp_path, inventory)
    alone = checker.ask(tmp_path, inventory, kind="task")
    assert "PLAY RECAP" in whole.said
    assert "PLAY RECAP" not in alone.said
    assert (alone.code, alone.head, alone.mistakes) == (whole.code, whole.head, whole.mistakes)
    assert alone.warnings == whole.warnings


def test_the_gate_has_the_whole_playbook_for_a_fifth_of_each_table() -> None:
    for path in (HERE / "wrong_inventories").glob("*.yml"):
        names = {name for name in WRONG if name.startswith(f"{path.stem}: ")}
        assert len(names & WHOLE) >= len(names) // 5, path.stem


@pytest.mark.parametrize("name", ["../../oops/evil", 42, "Shop", None, ["shop"], "{{ nothing }}"])
def test_a_name_that_is_none_leads_to_no_password(tmp_path: Path, checker: Checker, name: Any) -> None:
    folder = tmp_path / "one" / "inventory"
    folder.mkdir(parents=True)
    answer = checker.ask(folder, laid_over_the_shop({"vars": {"celery_app_name": name}}))
    assert [line.partition(":")[0] for line in answer.mistakes] == ["  - celery_app_name"]
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["hosts.yml", "said.txt"]


def test_passwords_are_kept_when_nothing_is_wrong_and_stay(tmp_path: Path, checker: Checker) -> None:
    checker.ask(tmp_path, laid_over_the_shop({"vars": {"redis_port": "x"}}))
    secrets = tmp_path / ".celeryops" / "secrets"
    assert not secrets.exists()
    secrets.mkdir(parents=True)
    (secrets / "redis_admin_password").write_text("written-by-hand-and-long\n")
    assert checker.ask(tmp_path, laid_over_the_shop({})).code == 0
    kept = {path.name: path.read_text() for path in secrets.iterdir()}
    assert kept["redis_admin_password"] == "written-by-hand-and-long\n"
    assert {"shop_rabbitmq_password", "shop_redis_password", "rabbitmq_erlang_cookie"} < kept.keys()
    assert {path.stat().st_mode & 0o777 for path in secrets.iterdir() if path.name != "redis_admin_password"} == {0o600}
    assert checker.ask(tmp_path, laid_over_the_shop({})).code == 0
    assert {path.name: path.read_text() for path in secrets.iterdir()} == kept


def test_a_password_that_somebody_wrote_is_judged(tmp_path: Path, checker: Checker) -> None:
    secrets = tmp_path / ".celeryops" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "rabbitmq_erlang_cookie").write_text("short\n")
    answer = checker.ask(tmp_path, laid_over_the_shop({}))
    assert [line.partition(":")[0] for line in answer.mistakes] == ["  - rabbitmq_erlang_cookie"]
    assert [path.name for path in secrets.iterdir()] == ["rabbitmq_erlang_cookie"]


def test_a_folder_for_passwords_that_cannot_be_made_is_told(tmp_path: Path, checker: Checker) -> None:
    (tmp_path / "file").write_text("")
    folder = f"{tmp_path}/file/secrets"
    answer = checker.ask(tmp_path, laid_over_the_shop({"vars": {"celeryops_secrets_dir": folder}}))
    told = f"'{folder}' cannot be written to (Not a directory); write another directory"
    assert answer.mistakes == [f"  - celeryops_secrets_dir: {told}"]


def test_a_folder_that_the_lookup_of_passwords_cannot_read_is_told(tmp_path: Path, checker: Checker) -> None:
    folder = tmp_path / "two  blanks"
    folder.mkdir()
    (mistake,) = checker.ask(folder, laid_over_the_shop({})).mistakes
    assert mistake.startswith(f"  - celeryops_secrets_dir: '{folder}/.celeryops/secrets' has blanks or signs behind a")
    variables = {"celeryops_secrets_dir": str(tmp_path / "secrets")}
    assert checker.ask(folder, laid_over_the_shop({"vars": variables})).code == 0
    assert (tmp_path / "secrets" / "shop_rabbitmq_password").is_file()


@pytest.mark.parametrize("name", ["a\\1c", "one blank", "a b\\1c", "it's"])
def test_a_folder_with_signs_keeps_its_passwords(tmp_path: Path, checker: Checker, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    assert checker.ask(folder, laid_over_the_shop({})).code == 0
    kept = {path.name for path in (folder / ".celeryops" / "secrets").iterdir()}
    assert {"shop_rabbitmq_password", "shop_flower_rabbitmq_password", "shop_redis_password"} < kept
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_table_is_long_enough_and_names_nothing_twice() -> None:
    entries = [entry["name"] for entry in WRONG.values()]
    assert len(entries) >= 150
    assert [name for name, times in Counter(entries).items() if times > 1] == []


def test_every_rule_has_two_wrong_inventories_at_least() -> None:
    told = Counter(entry.get("rule") for entry in WRONG.values())
    assert [rule.name for rule in RULES if not rule.unwise and told[rule.name] < 2] == []
    assert sorted(set(told) - {None} - {rule.name for rule in RULES}) == []


@pytest.mark.parametrize("path", SOUND, ids=lambda path: path.stem)
def test_a_sound_inventory_passes_unharmed(tmp_path: Path, checker: Checker, path: Path) -> None:
    text = path.read_text()
    beside = re.search(r"^# Beside it: (.*)$", text, re.MULTILINE)
    # A directory is there when a file is in it.
    files = [f"{name}setup.py" if name.endswith("/") else name for name in (beside[1].split() if beside else ())]
    answer = checker.ask(tmp_path, yaml.safe_load(text), dict.fromkeys(files, ""))
    assert answer.code == 0, answer.said
    assert answer.warnings == ""
    assert "unreachable=0" in answer.said


def test_there_are_twenty_sound_inventories_and_each_says_whose_it_is() -> None:
    assert len(SOUND) >= 20
    assert [path.name for path in SOUND if not path.read_text().splitlines()[1].startswith("# ")] == []


def classes(**high: Any) -> dict[str, Any]:
    """Return classes of the shop that differ in ``high``."""
    return {"celery_worker_classes": {"high": {"queues": ["payments"], **high}, "default": {}}}


#: Each of these is the only mistake of its inventory: accepting it lets the inventory pass.
MEANT: dict[str, dict[str, Any]] = {
    "shared-queue:default": classes(queues=["payments", "default"]),
    "stop-timeout:high": classes(time_limit="1h", stop_timeout="5m"),
    "unknown-argument:high": classes(extra_arguments=["--tenant", "shop"]),
    "unlimited-prefetch:shop": {"celery_app_settings": {"worker_prefetch_multiplier": 0}},
    "eta-in-worker": {"celery_app_queue_type": "classic", "celery_app_longest_eta": "1h"},
    "long-eta:shop": {"celery_app_longest_eta": "60d"},
    "one-task-per-child": {"celery_worker_defaults": {"max_tasks_per_child": 1}},
    "memory": {"celery_worker_host_memory": "1G", "celery_worker_defaults": {"memory_max": "2G"}},
    "concurrency:high": classes(concurrency=500),
    "tls-without-server:redis_backend_use_ssl": {"celery_app_settings": {"redis_backend_use_ssl": {"ciphers": "HIGH"}}},
    "policy-without-dead-letters:limit": {
        "rabbitmq_policies": [{"vhost": "shop", "name": "limit", "pattern": ".", "definition": {"max-length": 5}}]
    },
    "no-worker-class:shop": {"celery_worker_classes": {}, "celery_app_routes": []},
    "missing-package:gevent": {
        "celery_app_source": {
            "type": "pip",
            "requirements": "celery==5.7.0\nbilliard==4.2.2\nvine==5.1.0\nshop==1.4.2\n",
        },
        **classes(pool="gevent", concurrency=50),
    },
    "account-of-an-app:shop": {"rabbitmq_users": [{"name": "shop", "password": "Zq8wLm2xVt5rKd4n"}]},
    "redbeat-without-redis:shop": {
        "celery_beat_scheduler": "redbeat.RedBeatScheduler",
        "celery_app_result_backend": "",
    },
    "schedule-without-beat:crm": {
        "celery_app_name": "crm",
        "celery_beat_state": "absent",
        "celery_app_settings": {"beat_schedule": {"nightly": {"task": "shop.close", "schedule": 86400}}},
    },
    "weak-password:celery_app_result_backend": {"celery_app_result_backend": "redis://cache.example.com/0"},
}


@pytest.mark.parametrize("accepted", MEANT)
def test_what_is_accepted_is_not_told_and_nothing_else_is_accepted(
    tmp_path: Path, checker: Checker, accepted: str
) -> None:
    mistake = laid_over_the_shop({"vars": {**MEANT[accepted], "celery_app_accept": [accepted]}})
    answer = checker.ask(tmp_path, mistake)
    assert answer.code == 0, answer.said
    assert answer.warnings == ""
    # An acceptance of another subject of the same rule, and of another rule.
    rule = accepted.partition(":")[0]
    others = [f"{rule}:other", *(other for other in ("long-eta", "memory") if other != rule)]
    mistake["all"]["vars"]["celery_app_accept"] = others
    answer = checker.ask(tmp_path, mistake)
    assert answer.code != 0
    assert f'celery_app_accept: ["{rule}' in "\n".join(answer.mistakes)


UNWISE: dict[str, tuple[dict[str, Any], str]] = {
    "evicted-results:one.invalid": (
        {"redis_maxmemory_policy": "allkeys-lru"},
        "redis_maxmemory_policy: 'allkeys-lru' may delete a result that somebody waits for",
    ),
    "perhaps-shared-system-queues:shop": (
        {"celery_app_settings": {"control_queue_exclusive": False}},
        "celery_app_settings.control_queue_exclusive: False makes queues that are neither durable nor exclusive",
    ),
    "fragile-messages:confirm_publish": (
        {"celery_app_settings": {"broker_transport_options": {"confirm_publish": False}}},
        "celery_app_settings.broker_transport_options.confirm_publish: False loses tasks without an error",
    ),
    "unverified-tls:broker_use_ssl": (
        {
            "celery_app_broker_url": "amqps://shop:Zq8wLm2xVt5r@mq.example.com:5671/shop",
            "celery_app_settings": {"broker_use_ssl": {"cert_reqs": "none"}},
        },
        "celery_app_settings.broker_use_ssl: {'cert_reqs': 'none'} verifies no certificate",
    ),
    "consumer-timeout-elsewhere:high": (
        {
            "celery_app_broker_url": "amqp://shop:Zq8wLm2xVt5r@mq.example.com:5672/shop",
            **classes(time_limit="6h"),
        },
        "celery_app_broker_url: 'mq.example.com:5672/shop' is by its name no server of this inventory, so that nothing",
    ),
    "unverified-tls:celery_app_broker_url": (
        {"celery_app_broker_url": "rediss://shop:Zq8wLm2xVt5r@cache.example.com/0?ssl_cert_reqs=CERT_NONE"},
        "celery_app_broker_url: 'ssl_cert_reqs=CERT_NONE' verifies no certificate",
    ),
    "unverified-tls:celery_app_result_backend": (
        {"celery_app_result_backend": "rediss://:Zq8wLm2xVt5r@cache.example.com/0?ssl_cert_reqs=optional"},
        "celery_app_result_backend: 'ssl_cert_reqs=optional' is meant for servers",
    ),
    "perhaps-newer-setting:worker_eta_task_limit": (
        {"celery_app_source": {"type": "path", "path": "."}, "celery_app_settings": {"worker_eta_task_limit": 5}},
        "celery_app_settings.worker_eta_task_limit: 5 is a setting from Celery 5.6 on, and the app's own lock file has",
    ),
    "results-without-backend:shop.reports.*": (
        {"celery_app_results": {"shop.reports.*": "keep"}, "celery_app_result_backend": ""},
        "celery_app_results.shop.reports.*: 'keep' has nowhere to keep them",
    ),
}


@pytest.mark.parametrize("entry", UNWISE)
def test_what_is_only_unwise_passes_and_says_how_to_silence_it(tmp_path: Path, checker: Checker, entry: str) -> None:
    variables, told = UNWISE[entry]
    lock = {"uv.lock": '[[package]]\nname = "celery"\nversion = "5.5.3"\n'}
    answer = checker.ask(tmp_path, laid_over_the_shop({"vars": variables}), lock)
    assert answer.code == 0, answer.said
    assert told in answer.warnings
    assert "Zq8wLm2xVt5r" not in answer.said
    assert f'celery_app_accept: ["{entry}"] if it is meant' in answer.warnings
    answer = checker.ask(tmp_path, laid_over_the_shop({"vars": {**variables, "celery_app_accept": [entry]}}))
    assert (answer.code, answer.warnings) == (0, "")


def test_every_unwise_rule_is_in_the_table() -> None:
    assert {entry.partition(":")[0] for entry in UNWISE} == {rule.name for rule in RULES if rule.unwise}


DURATIONS = (
    "celery_app_longest_eta", "celery_app_longest_task", "celery_app_visibility_timeout", "celery_app_result_expires",
    "rabbitmq_stop_timeout", "rabbitmq_consumer_timeout", "redis_timeout", "redis_tcp_keepalive",
    "celery_beat_max_interval", "celery_beat_start_timeout", "celery_beat_stop_timeout", "flower_state_save_interval",
    "flower_purge_offline_workers", "flower_watchdog",
)  # fmt: skip
SIZES = (
    "celery_worker_host_memory", "celery_worker_log_max_size", "flower_memory_max", "redis_maxmemory",
    "rabbitmq_memory_high_watermark", "rabbitmq_disk_free_limit",
)  # fmt: skip
CLASS_DURATIONS = ("time_limit", "soft_time_limit", "start_timeout", "stop_timeout", "watchdog")
CLASS_SIZES = ("max_memory_per_child", "memory_high", "memory_max")
#: Off, or nothing of it.
MAY_BE_ZERO = {
    "celery_app_longest_eta", "redis_timeout", "redis_tcp_keepalive", "celery_beat_max_interval", "flower_watchdog",
    "celery_worker_host_memory", "celery_worker_classes.high.watchdog",
}  # fmt: skip


@pytest.mark.parametrize(
    ("duration", "size"),
    [("soon", "plenty"), ("-5m", "-1G"), (0, 0), ("101y", "10000000000T"), (10**30, 10**30)],
    ids=["in words", "below nothing", "nothing", "overflowing", "overflowing numbers"],
)
def test_every_duration_and_size_is_read_and_all_mistakes_come_at_once(
    tmp_path: Path, checker: Checker, duration: Any, size: Any
) -> None:
    own = {**dict.fromkeys(CLASS_DURATIONS, duration), **dict.fromkeys(CLASS_SIZES, size)}
    variables = {
        **dict.fromkeys(DURATIONS, duration),
        **dict.fromkeys(SIZES, size),
        "celery_app_broker": "redis" if duration == 0 else "rabbitmq",
        "celery_app_once": {"shop.reports.nightly": duration},
        "celery_worker_classes": {"high": {"queues": ["payments"], **own}, "default": {}},
    }
    answer = checker.ask(tmp_path, laid_over_the_shop({"vars": variables}))
    expected = {
        *DURATIONS,
        *SIZES,
        "celery_app_once.shop.reports.nightly.period",
        *(f"celery_worker_classes.high.{key}" for key in own),
    } - (MAY_BE_ZERO if duration == 0 else set())
    told = Counter(line.removeprefix("  - ").partition(": ")[0] for line in answer.mistakes)
    assert dict(told) == dict.fromkeys(expected, 1)
    assert answer.head == f"{len(expected)} mistakes in the variables; nothing was changed:"


def test_mistakes_of_all_roles_and_hosts_come_in_one_message(tmp_path: Path, checker: Checker) -> None:
    answer = checker.ask(
        tmp_path,
        laid_over_the_shop(
            {
                "vars": {
                    "redis_maxmemory": "plenty",
                    "rabbitmq_stop_timeout": "soon",
                    "celery_app_user": "root",
                    "celery_beat_max_interval": "x",
                    "flower_basic_auth": {},
                    "redis_prot": 6380,
                    "celery_app_settings": {"task_acks_lat": True},
                    "celery_app_routes": [{"task": "shop.feeds.*", "queue": "feeds"}],
                },
                "groups": {"celery_beat": ["one.invalid", "two.invalid"], "rabbitmq": ["one.invalid", "mq2.invalid"]},
                "host_vars": {"mq2.invalid": {"rabbitmq_port": 99999}, "two.invalid": {"celery_app_routes": 5}},
            }
        ),
    )
    told = [line.removeprefix("  - ").partition(": ")[0] for line in answer.mistakes]
    assert sorted(told) == sorted(
        [
            "redis_maxmemory", "rabbitmq_stop_timeout", "celery_app_user", "celery_beat_max_interval",
            "flower_basic_auth", "redis_prot", "celery_app_settings.task_acks_lat", "celery_beat", "rabbitmq",
            "rabbitmq_port", "celery_app_routes", "redis_bind",
            *["rabbitmq_listen_addresses"] * 2,
        ]
    )  # fmt: skip
    assert answer.said.count("fatal: ") == 1


def test_what_the_playbook_derives_for_the_app_is_part_of_the_check(tmp_path: Path, checker: Checker) -> None:
    user = {"name": "report", "password": "long-enough-for-a-test", "permissions": [{"vhost": "shop", "read": ".*"}]}
    answer = checker.ask(tmp_path, laid_over_the_shop({"vars": {"rabbitmq_users": [user]}}))
    assert answer.code == 0, answer.said
    user["permissions"] = [{"vhost": "shp"}]
    answer = checker.ask(tmp_path, laid_over_the_shop({"vars": {"rabbitmq_users": [user]}}))
    assert answer.code != 0
    assert "'shp' is not a declared virtual host" in answer.said


def test_variables_may_look_at_other_hosts(tmp_path: Path, checker: Checker) -> None:
    looking = {
        "celery_app_default_queue": "{{ hostvars['one.invalid'].queue_of_all }}",
        "redis_port": "{{ hostvars[groups['redis'][0]].redis_number }}",
        "redis_number": 6400,
        "queue_of_all": "default",
    }
    answer = checker.ask(tmp_path, laid_over_the_shop({"vars": looking}))
    assert answer.code == 0, answer.said
    answer = checker.ask(tmp_path, laid_over_the_shop({"vars": {**looking, "redis_number": "many"}}))
    assert answer.mistakes == ["  - redis_port: 'many' is not a whole number; write a whole number"]
