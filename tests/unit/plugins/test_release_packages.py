"""The packages of a release, where another name of the machine may be fetching apt's lists at the same time."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.action.release import ActionModule

MISSING = {"failed": True, "msg": "No package matching 'git' is available"}
LOCKED = {"failed": True, "msg": "Could not get lock /var/lib/dpkg/lock-frontend"}
DONE: dict[str, Any] = {"changed": True}


class Action(ActionModule):  # type: ignore[misc]  # Ansible's classes have no types
    """Has answers of apt in the place of a host."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers, self.asked = [*answers], []  # type: list[dict[str, Any]], list[int]

    def _execute_module(self, **call: Any) -> dict[str, Any]:
        assert call["module_name"] == "ansible.builtin.apt"
        assert call["module_args"]["name"] == ["git"]
        assert call["module_args"]["update_cache"] is True
        self.asked.append(call["module_args"]["cache_valid_time"])
        return self.answers.pop(0)


@pytest.mark.parametrize(
    ("answers", "asked", "result"),
    [
        ([DONE], [3600], DONE),
        ([MISSING, DONE], [3600, 0], DONE),
        # A package that nobody has is asked for twice, and told as apt tells it.
        ([MISSING, MISSING], [3600, 0], MISSING),
        ([LOCKED], [3600], LOCKED),
    ],
)
def test_lists_that_are_not_complete_yet_are_fetched(
    answers: list[dict[str, Any]], asked: list[int], result: dict[str, Any]
) -> None:
    action = Action(*answers)
    assert action._install_packages(["git"], {}) == result
    assert action.asked == asked
    assert action.answers == []
