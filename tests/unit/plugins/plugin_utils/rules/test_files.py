"""Files of several apps on one machine."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import App, Deployment, Machine
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules.files import RULES


@pytest.mark.parametrize(
    ("paths", "groups", "said"),
    [
        (("/srv/a", "/srv/./a"), (None, None), ("file-of-two-apps", "blog", "/srv/a")),
        (("//srv/a", "/srv/a"), (None, None), ("file-of-two-apps", "blog", "/srv/a")),
        (("/srv/a", "/srv/b"), (None, None), None),
        # Below the app's own directory, of which each has one.
        (("a", "a"), (None, None), None),
        (("/srv/a", "/srv/a"), (["celery_workers"], None), ("file-of-two-apps", "blog", "/srv/a")),
        (("/srv/a", "/srv/a"), (["flower"], None), None),
        (("/srv/a", "/srv//a/b"), (None, None), ("file-below-a-file", "blog", "/srv/a/b")),
        (("/srv/a/b/c", "/srv/a"), (None, None), ("file-below-a-file", "shop", "/srv/a/b/c")),
        (("/srv/a", "/srv/a/b"), (["celery_workers"], None), ("file-below-a-file", "blog", "/srv/a/b")),
        (("/srv/a", "/srv/a/b"), (["flower"], None), None),
        (("/srv/a", "/srv/ab"), (None, None), None),
    ],
)
def test_a_file_of_two_apps_is_told_where_they_meet(
    paths: tuple[str, str], groups: tuple[Any, Any], said: tuple[str, str, str] | None
) -> None:
    def app(name: str, side: int, host: str) -> App:
        files = ({"number": 3, "path": paths[side], "groups": groups[side], "restarts": None},)
        # Each is on a machine of its own as well.
        return App(name, hosts=(host, f"a-{name}", f"z-{name}"), files=files)

    def told(address: str) -> list[tuple[str, str | None, Any]]:
        deployment = Deployment(
            machines={
                "app1": Machine("app1", "app1"), "app2": Machine("app2", address),
                **{host: Machine(host, host) for host in ("a-shop", "z-shop", "a-blog", "z-blog")},
            },
            apps={"shop": app("shop", 0, "app1"), "blog": app("blog", 1, "app2")},
            groups={"celery_workers": ["app1"], "flower": []},
        )  # fmt: skip
        findings = [(rule.name, one) for rule in RULES for one in rule.find(deployment)]
        assert {one.problem.variable for _rule, one in findings} <= {"celery_app_files[3].path"}
        assert all(" on app1" in one.problem.reason for _rule, one in findings)
        return [(rule, one.app, one.problem.value) for rule, one in findings]

    assert told("app1") == ([said] if said else [])
    assert told("app2") == []
