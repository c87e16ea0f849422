"""Where RabbitMQ's packages come from, and in which versions."""

from __future__ import annotations

from typing import Any

import pytest
from problems import told
from rabbitmq_plans import ROLE, planned, refused

from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import render


@pytest.mark.parametrize(
    ("key", "field", "fetched", "left"),
    [
        ("/etc/apt/keyrings/own.gpg", "Signed-By: /etc/apt/keyrings/own.gpg", "", {"asc", "gpg"}),
        ("https://h/key", "Signed-By: /etc/apt/keyrings/celeryops-rabbitmq.asc", "https://h/key", {"gpg"}),
        ("https://h/key.gpg", "Signed-By: /etc/apt/keyrings/celeryops-rabbitmq.gpg", "https://h/key.gpg", {"asc"}),
        (
            "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n-----END PGP PUBLIC KEY BLOCK-----\n",
            "Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----",
            "",
            {"asc", "gpg"},
        ),
    ],
)
def test_the_key_of_a_repository(key: str, field: str, fetched: str, left: set[str]) -> None:
    result = planned(repository={"uris": ["https://h/p"], "suites": ["trixie"], "components": ["main"], "key": key})
    text = render(ROLE / "templates" / "repository.sources.j2", {"repository": result["repository"]})
    assert text.endswith(f"URIs: https://h/p\nSuites: trixie\nComponents: main\n{field}\n")
    assert result["repository"]["key_url"] == fetched
    stale = {entry["path"] for entry in result["stale_files"]}
    assert {path.rpartition(".")[2] for path in stale if "keyrings" in path} == left
    assert "/etc/apt/sources.list.d/celeryops-rabbitmq.sources" not in stale
    assert "/etc/apt/sources.list.d/celeryops-rabbitmq.sources" in {entry["path"] for entry in planned()["stale_files"]}


def test_pinned_versions_come_with_their_packages_in_the_order_of_their_needs() -> None:
    result = planned(version="4.0.*", erlang_version="1:27*")
    assert result["packages"] == ["erlang-base=1:27*", "rabbitmq-server=4.0.*"]
    assert "/etc/apt/preferences.d/celeryops-rabbitmq.pref" not in {entry["path"] for entry in result["stale_files"]}
    assert planned()["packages"] == ["rabbitmq-server"]
    assert planned(version="4.0.*")["packages"] == ["rabbitmq-server=4.0.*"]


@pytest.mark.parametrize(
    ("own", "key"),
    [
        ({"uris": ["https://h/p"]}, "suites"),
        ({"uris": ["h/p"], "suites": ["a/"], "key": "/k"}, "uris"),
        ({"uris": ["https://u:p@h/p"], "suites": ["a/"], "key": "/k"}, "uris"),
        ({"uris": ["https://h/p"], "suites": ["a"], "key": "/k"}, "components"),
        ({"uris": ["https://h/p"], "suites": ["a/"], "key": "k"}, "key"),
    ],
)
def test_a_repository_that_is_none(own: dict[str, Any], key: str) -> None:
    assert f"rabbitmq_repository.{key}" in [variable for _identity, variable in told(refused(repository=own))]


def test_a_version_is_one_of_debian() -> None:
    assert [variable for _identity, variable in told(refused(version="four"))] == ["rabbitmq_version"]
