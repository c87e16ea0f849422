"""What git on the host takes for the address of a repository, and what only people and pip do."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.celery_app_source import _repository_problems


@pytest.mark.parametrize(
    "address",
    [
        "https://git.example.org/acme/shop.git", "https://git.example.org/acme/shop", "http://git.example.org/tree/shop",
        "https://git.example.org/a/b/tree/shop", "https://me.git@git.example.org/acme/shop.git",
        "https://token@git.example.org/acme/shop", "git@git.example.org:acme/shop.git", "git.example.org:shop",
        "git@git.example.org:1234/shop.git", "ssh://git@git.example.org:2222/acme/shop.git", "git+ssh://git@h/shop.git",
        "/srv/git/shop.git", "file:///srv/git/shop.git", "git://git.example.org/shop.git", "",
    ],
)  # fmt: skip
def test_what_git_takes_is_not_told(address: str) -> None:
    assert list(_repository_problems(address)) == []


@pytest.mark.parametrize(
    "address",
    [
        "git+https://git.example.org/shop.git", "GIT+file:///srv/shop.git", "https://git.example.org/acme/shop.git@v1",
        "https://git.example.org/acme/shop.git#main", "git@git.example.org:acme/shop.git@v1",
        "https://github.com/acme/shop/tree/feature/x", "https://git.example.org/a/b/shop/-/blob/v1", "acme/shop",
        "./shop", "~/shop.git", "git.example.org/acme/shop.git", "../shop",
    ],
)  # fmt: skip
def test_what_git_does_not_take_is_told(address: str) -> None:
    assert len([*_repository_problems(address)]) == 1
