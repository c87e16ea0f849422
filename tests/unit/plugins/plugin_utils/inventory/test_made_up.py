"""A missing folder of passwords is a question, not a rotation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.made_up import (
    LIST,
    forget,
    in_use,
    made_up,
    note,
    question,
)

NAMES = [
    "rabbitmq_admin_password", "rabbitmq_erlang_cookie", "redis_admin_password", "shop_rabbitmq_password",
    "shop_redis_password", "shop_flower_password", "shop_flower_cookie_secret", "shop_flower_rabbitmq_password",
]  # fmt: skip


def host(servers: list[str], **apps: list[str]) -> dict[str, Any]:
    own = {name: {"units": {}, "brokers": [], "secrets": secrets} for name, secrets in apps.items()}
    return {"ours": {"apps": own, "secrets": servers}}


@pytest.mark.parametrize(
    ("machine", "names"),
    [
        (host([]), []),
        (host(["rabbitmq"]), NAMES[:2]),
        (host(["redis"]), NAMES[2:3]),
        (host([], shop=["rabbitmq"]), NAMES[3:4]),
        (host([], shop=["redis"]), NAMES[4:5]),
        (host([], shop=["flower", "flower_cookie", "flower_rabbitmq"]), NAMES[5:]),
        (host([], blog=["rabbitmq", "redis", "flower"]), []),
        ({}, []),
    ],
)
def test_which_passwords_a_host_has(machine: dict[str, Any], names: list[str]) -> None:
    assert in_use([*NAMES, "django_shop_password"], machine) == names


def test_a_password_of_an_app_whose_name_ends_like_one() -> None:
    assert in_use(["a_flower_rabbitmq_password"], host([], a=["flower_rabbitmq"])) == ["a_flower_rabbitmq_password"]


def test_what_was_made_up_is_known_until_it_is_placed_or_replaced(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    note(tmp_path, ["a"])
    note(tmp_path, ["b"])
    assert sorted(made_up(tmp_path)) == ["a", "b"]
    assert (tmp_path / LIST).stat().st_mode & 0o777 == 0o600
    (tmp_path / "a").write_text("by hand")
    assert sorted(made_up(tmp_path)) == ["b"]


def test_what_was_placed_is_no_question_any_more(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    note(tmp_path, ["a"])
    forget(tmp_path)
    assert made_up(tmp_path) == {}
    assert (tmp_path / "a").exists()
    (tmp_path / LIST).write_text("no JSON")
    assert made_up(tmp_path) == made_up(tmp_path / "nowhere") == {}


def ask(seen: dict[str, Any], expected: list[str], names: list[str] | None = None) -> list[str]:
    return [
        str(found)
        for found in question(Path("/inv/.celeryops/secrets"), NAMES if names is None else names, seen, expected)
    ]


def test_the_first_run_asks_nothing() -> None:
    assert ask({"app1": host([])}, ["app1"]) == ask({}, ["app1"], []) == []


def test_the_question_names_what_and_both_ways_out() -> None:
    [text] = ask({"new1": host([]), "app1": host(["rabbitmq"], shop=["rabbitmq", "redis", "flower"])}, ["app1", "new1"])
    assert text == (
        "celeryops_secrets_dir: on app1, passwords are in use that are missing in /inv/.celeryops/secrets: "
        "rabbitmq_admin_password, rabbitmq_erlang_cookie, shop_flower_password, shop_rabbitmq_password and 1 more; set "
        "celeryops_secrets_dir to the folder that has them (.celeryops/secrets of the machine that ran this before), "
        "or celeryops_rotate_secrets: true to replace them on all hosts"
    )


def test_a_host_that_was_not_reached_may_have_them() -> None:
    [text] = ask({"new1": host([])}, ["new1", "app1"])
    assert text.startswith(
        "celeryops_secrets_dir: on app1, this run did not reach it, so it may use passwords that are missing in "
    )
    assert ask({"new1": host([])}, ["new1", "app1"], []) == []
