"""The packages of a release, where another name of the machine may be fetching apt's lists at the same time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase

from ansible_collections.celeryops.stack.plugins.action.release import ActionModule
from ansible_collections.celeryops.stack.plugins.module_utils.release import absent_packages

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


#: As dpkg-query of Debian 12 prints it.
LISTING = """\
installed\tlibpq5\tamd64\t15.14-0+deb12u1\t
installed\tzlib1g-dev\tamd64\t1:1.2.13.dfsg-1\tlibz-dev
installed\tmawk\tamd64\t1.3.4.20200120-3.1\tawk, other (= 3), third:any
not-installed\tgawk\tamd64\t\t
config-files\tnginx\tamd64\t1.22.1-9\thttpd
"""


@pytest.mark.parametrize(
    "there",
    [
        "libpq5", "libpq5:amd64", "libpq5:any", "libpq5=15.14-0+deb12u1", "libpq5=15.*", "libpq5>=15", "libz-dev",
        "zlib1g-dev:amd64=1:1.2.*", "awk", "other", "third",
    ],
)  # fmt: skip
def test_a_package_is_there_by_every_name_that_apt_takes(there: str) -> None:
    assert absent_packages([there], LISTING, lambda version, least: version >= least) == []


@pytest.mark.parametrize(
    "absent", ["libpq", "libpq5:arm64", "libpq5=14.*", "libpq5>=16", "gawk", "nginx", "httpd", "libpq5-dev", "libpq*"]
)
def test_what_a_host_lacks_is_asked_for(absent: str) -> None:
    assert absent_packages(["libpq5", absent], LISTING, lambda version, least: version >= least) == [absent]


class Host(ActionModule):  # type: ignore[misc]
    """A host on which a package can be installed and is not found by its name afterwards."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        source = {"type": "virtualenv", "path": "/srv/venv"}
        self._task: Any = SimpleNamespace(args={"source": source, "system_packages": ["libpq*"], "import": "shop"})
        self._loader: Any = SimpleNamespace(get_basedir=str)
        self._connection: Any = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))

    def _ask(self, request: dict[str, Any], _task_vars: dict[str, Any] | None) -> dict[str, Any]:
        self.asked.append(request["system_packages"])
        missing = request["system_packages"]
        return {"changed": False, "missing_packages": missing} if missing else {"changed": True, "release": "1.4.2"}

    def _install_packages(self, _names: list[str], _task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return {"changed": True}

    def _remove_tmp_path(self, tmp_path: str) -> None:
        """There is none."""


def test_a_release_is_built_whatever_name_its_packages_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})
    host = Host()
    assert host.run(task_vars={})["release"] == "1.4.2"
    assert host.asked == [["libpq*"], []]
