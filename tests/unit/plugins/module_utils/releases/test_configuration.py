"""Whether the files that a release is tried with are on the host, and can be put there."""

from __future__ import annotations

import grp
from pathlib import Path

import pytest
from release_request import request

from ansible_collections.celeryops.stack.plugins.module_utils.releases import configuration
from ansible_collections.celeryops.stack.plugins.module_utils.releases.programs import ReleaseError


def test_the_accounts_own_group_counts_before_there_is_such_an_account(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    account = {"group": grp.getgrgid(tmp_path.stat().st_gid).gr_name, "home": "/x"}
    assert configuration.may_write(request(user="nobody-here", account=account), str(tmp_path))
    assert not configuration.may_write(request(user="nobody-here"), str(tmp_path))


def test_what_is_not_the_apps_own_is_passed_over(tmp_path: Path) -> None:
    shared = {"path": "/etc/celeryops/shop/celery.json", "sha256": ""}
    own = {"path": str(tmp_path), "sha256": "", "own": True}
    with pytest.raises(ReleaseError, match=f"{tmp_path} is no file on this host"):
        configuration.must_have_places(request(configuration=[shared, own]), to_come=False, check_mode=False)
