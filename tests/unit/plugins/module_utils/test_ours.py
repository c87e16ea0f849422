"""What earlier runs left on a host."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.ours import addresses, look
from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import quote_environment_file

MARK = "# Managed by celeryops.stack (role {}). Local changes are overwritten.\n"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    for folder in ("units", "etc/shop", "etc/redis", "rabbitmq"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def seen(host: Path) -> dict[str, object]:
    return look(str(host / "units"), str(host / "etc"), str(host / "rabbitmq"))


def test_a_bare_host(tmp_path: Path) -> None:
    assert seen(tmp_path) == {
        "apps": {}, "secrets": [], "accounts": {"rabbitmq": [], "redis": []},
    }  # fmt: skip


def test_units_of_ours_with_their_app_and_role(host: Path) -> None:
    for name, role in (("shop-high", "celery_worker"), ("shop-beat", "celery_beat"), ("b_2-a-b", "celery_worker")):
        (host / f"units/celery-{name}.service").write_text(MARK.format(role))
    (host / "units/celery-theirs-high.service").write_text("[Unit]\n" + MARK.format("celery_worker"))
    (host / "units/celery-shop.target").write_text(MARK.format("celery_worker"))
    (host / "units/celery-gone-high.service").symlink_to("/nowhere/at/all")
    assert {app: found["units"] for app, found in seen(host)["apps"].items()} == {  # type: ignore[attr-defined]
        "b_2": {"celery-b_2-a-b.service": "celery_worker"},
        "shop": {"celery-shop-beat.service": "celery_beat", "celery-shop-high.service": "celery_worker"},
    }


@pytest.mark.parametrize(
    ("option", "setting", "redbeat"),
    [
        (" --scheduler=redbeat.RedBeatScheduler", "", True),
        (" --scheduler redbeat:RedBeatScheduler", "", True),
        ("", "redbeat.RedBeatScheduler", True),
        # The command line wins.
        (" --scheduler=celery.beat:PersistentScheduler", "redbeat.RedBeatScheduler", False),
        (" --scheduler=redbeater.Own", "", False),
        ("", "", False),
    ],
)
def test_whether_a_scheduler_is_one_of_several(host: Path, option: str, setting: str, redbeat: bool) -> None:
    start = f"ExecStart=/opt/x/celery --app=shop beat --loglevel=INFO{option} --max-interval=5\n"
    (host / "units/celery-shop-beat.service").write_text(MARK.format("celery_beat") + "[Service]\n" + start)
    (host / "etc/shop/celery.json").write_text(f'{{"settings": {{"beat_scheduler": "{setting}"}}}}')
    assert seen(host)["apps"]["shop"]["redbeat"] is redbeat  # type: ignore[index]


def test_where_an_app_connects_to_and_no_password(host: Path) -> None:
    broker, store = "amqp://shop:hunter2@mq1:5672/shop;amqp://shop:hunter2@[::1]/shop", "redis://shop:hunter3@c1/0"
    (host / "etc/shop/celery.env").write_text(
        MARK.format("celery_app")
        + f"CELERY_BROKER_URL={quote_environment_file(broker)}\nCELERY_RESULT_BACKEND={quote_environment_file(store)}\n"
    )
    (host / "etc/shop/queues.json").write_text('{"queues": [{"name": "default", "type": "quorum"}, {"name": "feeds"}]}')
    (host / "etc/shop/celery.json").write_text('{"settings": {}}')
    (host / "etc/shop/retired.json").write_text('["old"]')
    (host / "etc/shop/flower.env").touch()
    (host / "etc/redis/users.acl").write_text("# Managed\nuser admin on #ab ~* +@all\nuser shop on #cd ~shop:*\n")
    (host / "rabbitmq/definitions.json").write_text('{"users": [{"name": "shop", "password_hash": "hunter4"}]}')
    (host / "rabbitmq/rabbitmq.conf").write_text("# Managed by celeryops.stack (role rabbitmq). Local\n")
    found = seen(host)
    [(name, app)] = list(found["apps"].items())  # type: ignore[attr-defined]
    assert (name, app["brokers"]) == (
        "shop",
        [
            {"scheme": "amqp", "kind": "rabbitmq", "user": "shop", "host": "mq1", "port": 5672, "path": "shop"},
            {"scheme": "amqp", "kind": "rabbitmq", "user": "shop", "host": "::1", "port": 5672, "path": "shop"},
        ],
    )
    assert app["secrets"] == ["rabbitmq", "redis", "flower", "flower_cookie", "flower_rabbitmq"]
    assert (app["queues"], app["retired"]) == (["default", "feeds"], ["old"])
    assert found["secrets"] == ["rabbitmq", "redis"]
    assert found["accounts"] == {"rabbitmq": ["shop"], "redis": ["admin", "shop"]}
    assert "hunter" not in str(found)


def test_servers_that_are_not_ours_have_no_passwords_of_ours(host: Path) -> None:
    (host / "rabbitmq/rabbitmq.conf").write_text("listeners.tcp.default = 5672\n")
    assert seen(host)["secrets"] == []


def test_addresses_that_cannot_be_read() -> None:
    assert list(addresses("amqp://[bad;redis://u%40x:p@h:7000/0;memory://")) == [
        {"scheme": "redis", "kind": "redis", "user": "u@x", "host": "h", "port": 7000, "path": "0"}
    ]


def test_which_server_an_address_means() -> None:
    url = "sentinel://:p@s1/0;rediss://r1;amqps://mq1;db+postgresql://db1/shop"
    kinds = [(one["kind"], one["port"]) for one in addresses(url)]
    assert kinds == [("redis", 26379), ("redis", 6379), ("rabbitmq", 5671), ("", 0)]


@pytest.mark.parametrize("text", ["", "{", "[1, 2", '"queues"', '{"queues": 5}', '{"queues": ["default"]}'])
def test_what_cannot_be_read_is_not_empty(host: Path, text: str) -> None:
    (host / "etc/shop/celery.env").touch()
    app = seen(host)["apps"]["shop"]  # type: ignore[index]
    assert (app["queues"], app["retired"]) == ([], [])
    (host / "etc/shop/queues.json").write_text(text)
    (host / "etc/shop/retired.json").write_text(text)
    app = seen(host)["apps"]["shop"]  # type: ignore[index]
    assert (app["queues"], app["retired"]) == (None, None)


def test_a_host_that_was_set_up_earlier_has_queues_among_its_settings(host: Path) -> None:
    (host / "etc/shop/celery.env").touch()
    (host / "etc/shop/celery.json").write_text('{"queues": [{"name": "feeds"}]}')
    assert seen(host)["apps"]["shop"]["queues"] == ["feeds"]  # type: ignore[index]
