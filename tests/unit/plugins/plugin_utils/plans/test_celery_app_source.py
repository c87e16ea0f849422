"""Where the packages of an app come from: what the role takes, and what only people and pip do."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from app_plans import ROLE, SECRET, only, planned, refused
from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.plans import celery_app_source
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.celery_app_source import _repository_problems

OTHER, MISSING = "key-of-another-source-type", "missing-for-the-source-type"


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


@pytest.mark.parametrize(
    ("source", "packages"),
    [
        ({"type": "pip"}, ["python3-venv"]),
        ({"type": "git", "repo": "https://git.example.org/shop"}, ["python3-venv", "git", "ca-certificates"]),
        (
            {"type": "git", "repo": "git@example.org:shop"},
            ["python3-venv", "git", "ca-certificates", "openssh-client"],
        ),
        ({"type": "virtualenv"}, []),
        (
            {"type": "pip", "packages": ["shop @ git+https://git.example.org/shop@v1"]},
            ["python3-venv", "git", "ca-certificates"],
        ),
        (
            {"type": "wheel", "requirements": "blog @ git+ssh://git@git.example.org/blog"},
            ["python3-venv", "git", "ca-certificates", "openssh-client"],
        ),
        ({"type": "path", "overrides": ["kombu @ git+https://h/kombu"]}, ["python3-venv", "git", "ca-certificates"]),
    ],
)
def test_packages_follow_from_the_source(source: dict[str, Any], packages: list[str]) -> None:
    assert celery_app_source.system_packages(source, []) == packages
    assert celery_app_source.system_packages(source, ["libpq5"]) == [*packages, "libpq5"]


def test_a_package_in_a_repository_needs_git() -> None:
    celery = ["celery[redis] @ git+https://git.example.org/celery"]
    assert planned(extra_packages=celery)["packages"] == ["python3-venv", "git", "ca-certificates"]
    assert planned()["packages"] == ["python3-venv"]


@pytest.mark.parametrize(
    ("package", "instead"),
    [
        (f"--index-url=https://u:{SECRET}@h/simple", "options in requirements of celery_app_source"),
        (" -e .", "options in requirements of celery_app_source"),
        (f"x\n--index-url=https://u:{SECRET}@h/simple", "options in requirements of celery_app_source"),
        (f"x @ https://u:{SECRET}@h/x.whl", "the address as index_url of celery_app_source"),
    ],
)
def test_extra_packages_that_are_refused(package: str, instead: str) -> None:
    problem = only(refused(extra_packages=["celery[redis]>=5.7", package]))
    assert (problem.variable, problem.instead) == ("celery_app_extra_packages", instead)


def test_extra_packages_may_have_an_address() -> None:
    planned(extra_packages=["x @ https://h:8443/x.whl", "y @ git+ssh://git@h/y"])


@pytest.mark.parametrize(
    ("source", "identity", "key"),
    [
        ({"type": "pip"}, "installs-nothing", ""),
        ({"type": "pip", "packages": ["shop"], "path": "x"}, OTHER, ".path"),
        ({"type": "pip", "packages": ["shop"], "subdirectory": "x"}, OTHER, ".subdirectory"),
        ({"type": "pip", "packages": ["shop"], "colour": 1}, OTHER, ".colour"),
        ({"type": "pip", "packages": ["--pre"]}, "option-among-requirements", ".packages"),
        ({"type": "pip", "packages": [f"shop @ https://u:{SECRET}@h/x.whl"]}, "contains-a-password", ".packages"),
        ({"type": "pip", "packages": ["shop"], "require_hashes": True}, "no-hash-in-requirements", ".require_hashes"),
        ({"type": "pip", "packages": ["shop"], "deploy_key": SECRET}, OTHER, ".deploy_key"),
        ({"type": "wheel"}, MISSING, ".path"),
        ({"type": "wheel", "path": "dist/shop.tar.gz"}, "not-a-wheel", ".path"),
        ({"type": "git", "version": "v1"}, MISSING, ".repo"),
        ({"type": "git", "repo": "https://h/x"}, MISSING, ".version"),
        ({"type": "git", "repo": "--upload-pack=x", "version": "v1"}, "not-a-repository", ".repo"),
        ({"type": "git", "repo": "https://h/x", "version": "--x"}, "not-a-git-reference", ".version"),
        ({"type": "path", "path": "x", "subdirectory": "../y"}, "leads-out-of-the-source", ".subdirectory"),
        ({"type": "path", "path": "x", "requirements_file": "/etc/x"}, "leads-out-of-the-source", ".requirements_file"),
        ({"type": "virtualenv", "path": "venv"}, "not-an-absolute-path", ".path"),
        ({"type": "virtualenv", "path": "/v", "packages": ["x"]}, OTHER, ".packages"),
    ],
)
def test_sources_that_are_refused(source: dict[str, Any], identity: str, key: str) -> None:
    assert told(refused(source=source)) == [(identity, f"celery_app_source{key}")]


def test_a_key_of_other_types_is_told_with_these() -> None:
    assert " git or path " in only(refused(source={"type": "pip", "packages": ["x"], "subdirectory": "x"})).instead


def test_a_switch_that_belongs_to_another_type_is_told() -> None:
    found = told(refused(source={"type": "virtualenv", "path": "/v", "require_hashes": True}))
    assert (OTHER, "celery_app_source.require_hashes") in found


@pytest.mark.parametrize(
    "source",
    [
        {"type": "pip", "packages": ["shop --hash=sha256:00"], "require_hashes": True},
        {"type": "pip", "requirements": "shop --hash=sha256:00", "require_hashes": True},
        {"type": "path", "path": "x", "requirements_file": "requirements.txt", "require_hashes": True},
        {"type": "virtualenv", "path": "/v", "require_hashes": False, "packages": [], "extras": None},
    ],
)
def test_sources_that_are_accepted(source: dict[str, Any]) -> None:
    planned(source=source)


def test_the_examples_of_sources_are_accepted() -> None:
    for kind in celery_app_source.SOURCE_KEYS:
        planned(source=yaml.safe_load(celery_app_source._source_example(kind)))


def test_every_key_of_a_source_belongs_to_a_type() -> None:
    specs = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    known = set(specs["celery_app_source"]["options"]) - {"type"}
    assert set().union(*(needed | more for needed, more in celery_app_source.SOURCE_KEYS.values())) == known
    assert set(celery_app_source.SOURCE_KEYS) == set(specs["celery_app_source"]["options"]["type"]["choices"])
