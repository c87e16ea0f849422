# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""Which existing accounts may run an app."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.account import refusal


@pytest.mark.parametrize("manage", [True, False])
def test_uid_0_by_any_name(manage: bool) -> None:
    reason = refusal("toor", 0, "/usr/sbin/nologin", ["toor"], manage)
    assert reason == "the account toor has uid 0, so the app would run as root; choose another celery_app_user"


@pytest.mark.parametrize("manage", [True, False])
@pytest.mark.parametrize("group", ["root", "sudo", "wheel", "admin", "docker", "lxd", "disk", "shadow", "kmem", "adm"])
def test_privileged_groups(group: str, manage: bool) -> None:
    reason = refusal("shop", 999, "/usr/sbin/nologin", ["shop", group], manage)
    assert reason is not None
    assert reason.startswith(f"the account shop is in the group {group}, which can become root")


def test_a_persons_account_only_when_the_user_says_so() -> None:
    assert "looks like a person's" in str(refusal("anna", 1000, "/bin/bash", ["anna"], True))
    assert refusal("anna", 1000, "/bin/bash", ["anna"], False) is None


def test_a_service_account() -> None:
    assert refusal("shop", 999, "/usr/sbin/nologin", ["shop", "www-data"], True) is None
