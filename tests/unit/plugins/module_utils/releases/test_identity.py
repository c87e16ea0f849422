"""The name of a release."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.releases import identity

FACTS = {"python": "3.13", "machine": "x86_64", "extra_packages": ["celery"], "content": None}
PIP = {"type": "pip", "packages": ["shop==1.4.2"]}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (PIP, "1.4.2"),
        ({"type": "pip", "packages": ["shop[web]==2.0rc1 ; python_version > '3'"]}, "2.0rc1"),
        ({"type": "pip", "packages": ["shop"]}, "shop"),
        ({"type": "pip", "requirements": "shop==7.1 \\\n  --hash=sha256:00"}, "7.1"),
        ({"type": "pip", "packages": ["shop @ https://h/x"]}, "shop"),
        ({"type": "wheel", "path": "/x/shop-1.2.3-py3-none-any.whl"}, "1.2.3"),
        ({"type": "git", "version": "release/2024"}, "release-2024-0123456"),
        ({"type": "git", "version": COMMIT}, COMMIT[:12]),
        ({"type": "path", "path": "../my shop/"}, "my-shop"),
        ({"type": "path", "path": ".."}, "path"),
    ],
)
def test_a_release_is_called_what_a_person_would_call_it(source: dict[str, Any], expected: str) -> None:
    assert identity.label(source, {"commit": COMMIT}) == expected
    name = identity.release_id(source, {"commit": COMMIT})
    assert name.startswith(f"{expected}-")
    assert "/" not in name


@pytest.mark.parametrize(
    "change",
    [
        {"packages": ["shop==1.4.2", "x"]},
        {"requirements": "x"},
        {"constraints": "x"},
        {"require_hashes": True},
        {"build": "2"},
        {"overrides": ["celery>=5.7"]},
        {"index_url": "https://other/simple"},
    ],
)
def test_what_decides_the_content_decides_the_name(change: dict[str, Any]) -> None:
    assert identity.release_id({**PIP, **change}, FACTS) != identity.release_id(PIP, FACTS)


@pytest.mark.parametrize("key", ["python", "machine", "content", "extra_packages"])
def test_what_the_host_is_decides_the_name(key: str) -> None:
    assert identity.release_id(PIP, {**FACTS, key: "other"}) != identity.release_id(PIP, FACTS)


def test_a_new_password_of_the_index_is_no_new_release() -> None:
    one, two = ({**PIP, "index_url": f"https://u:{word}@h/simple"} for word in ("one", "two"))
    assert identity.release_id(one, FACTS) == identity.release_id(two, FACTS)
    assert identity.release_id({**PIP, "constraints": None}, FACTS) == identity.release_id(PIP, FACTS)


def test_a_release_without_overrides_keeps_its_name() -> None:
    assert identity.release_id({**PIP, "overrides": []}, FACTS) == identity.release_id(PIP, FACTS)
    assert identity.release_id(PIP, FACTS) == "1.4.2-5400b7a3f2"


def test_the_order_of_what_is_known_has_no_meaning() -> None:
    name = identity.release_id(PIP, FACTS)
    assert identity.release_id(PIP, dict(reversed(FACTS.items()))) == name
    assert len(name.rpartition("-")[2]) == 10


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("shop-1.2.3-py3-none-any.whl", "1.2.3"),
        ("shop-1.2.3-7-py3-none-any.whl", "1.2.3"),
        ("shop-1.2.3-py3-any.whl", "shop"),
        ("shop-1.whl", "shop"),
    ],
)
def test_a_wheel_is_called_by_its_version_where_its_name_has_one(name: str, label: str) -> None:
    assert identity.label({"type": "wheel", "path": f"/x/{name}"}, {}) == label


def test_a_name_is_forty_characters_long_at_most() -> None:
    assert identity.label({"type": "path", "path": f"/x/{'a' * 50}"}, {}) == "a" * 40
