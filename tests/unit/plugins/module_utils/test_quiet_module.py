"""A module whose arguments appear nowhere, and the modules that have secrets in theirs."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils import basic

from ansible_collections.celeryops.stack.plugins.module_utils.quiet_module import QuietModule
from ansible_collections.celeryops.stack.plugins.modules import commands, files, release

SECRET = "canary-number-1"


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a module writes into the host's log."""
    lines: list[str] = []
    monkeypatch.setattr(basic.AnsibleModule, "log", lambda _self, text, **_more: lines.append(str(text)))
    return lines


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> QuietModule:
    """One that was called with a secret."""
    assert logged == []
    given = {"environment": {"TOKEN": SECRET, "DEBUG": "1"}, "_ansible_module_name": "celeryops.stack.release"}
    monkeypatch.setattr(basic, "_load_params", lambda *_more: dict(given))
    return QuietModule(argument_spec={"environment": {"type": "dict", "default": {}}}, supports_check_mode=True)


def test_its_call_is_logged_and_no_argument(module: QuietModule, logged: list[str]) -> None:
    assert module.params["environment"]["TOKEN"] == SECRET
    (line,) = logged
    assert line == "celeryops.stack.release was called; its arguments are not logged"


@pytest.mark.parametrize("fails", [False, True])
def test_no_argument_is_in_its_result_and_no_value_is_starred_out(
    module: QuietModule, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """A variable that is "1" would make stars of a digit in the name of every release."""
    returned: dict[str, Any] = {}
    for name in ("exit_json", "fail_json"):
        monkeypatch.setattr(basic.AnsibleModule, name, lambda _self, *_words, **result: returned.update(result))
    module.fail_json("release 1.1", actions=[]) if fails else module.exit_json(actions=[])
    assert returned == {"invocation": {}, "actions": []}
    assert module.no_log_values == set()


@pytest.mark.parametrize("called", [release, commands, files], ids=lambda called: called.__name__.rpartition(".")[2])
def test_modules_that_are_given_secrets_are_quiet(called: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class BegunError(Exception):
        """It was made."""

    def begin(**_more: Any) -> None:
        raise BegunError

    monkeypatch.setattr(called, "QuietModule", begin)
    with pytest.raises(BegunError):
        called.main()
