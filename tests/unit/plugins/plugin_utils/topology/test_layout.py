"""Paths and names of an app."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.layout import app_layout, worker_unit


def test_every_path_carries_the_name_so_that_apps_can_share_a_host() -> None:
    shop, blog = app_layout("shop"), app_layout("blog")
    assert all(shop[key] != blog[key] for key in shop)
    assert worker_unit("shop", "high") == "celery-shop-high.service"


@pytest.mark.parametrize("name", ["", "Shop", "my-shop", "1shop", "a" * 26, "../etc", "shop;x", None, 5])
def test_names_that_cannot_be_paths_units_and_accounts_are_refused(name: object) -> None:
    with pytest.raises(ValueError, match="is not an app name"):
        app_layout(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["uv", "redis", "valkey", "rabbitmq", "guest", "admin", "default"])
def test_names_of_the_servers_and_of_their_accounts_are_taken(name: str) -> None:
    with pytest.raises(ValueError, match="is a name that the servers or their accounts have; write another one"):
        app_layout(name)
