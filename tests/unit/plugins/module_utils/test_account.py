"""Which existing accounts may run an app."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import account, trial
from ansible_collections.celeryops.stack.plugins.module_utils.account import (
    Account,
    AccountError,
    examine,
    refusal,
    take_over,
)
from ansible_collections.celeryops.stack.plugins.module_utils.host_paths import accounts


@pytest.mark.parametrize("manage", [True, False])
def test_uid_0_by_any_name(manage: bool) -> None:
    reason = refusal("toor", 0, "/usr/sbin/nologin", ["toor"], manage)
    assert reason == "the account toor has uid 0, so the app would run as root; choose another celery_app_user"


@pytest.mark.parametrize("manage", [True, False])
@pytest.mark.parametrize("group", ["root", "sudo", "wheel", "admin", "docker", "lxd", "disk", "shadow", "kmem", "adm"])
def test_privileged_groups(group: str, manage: bool) -> None:
    reason = refusal("shop", 999, "/usr/sbin/nologin", ["shop", group], manage)
    assert reason is not None
    assert reason.startswith(f"the account shop is in the group {group}, which amounts to root")


def test_a_persons_account_only_when_the_user_says_so() -> None:
    assert "looks like a person's" in str(refusal("anna", 1000, "/bin/bash", ["anna"], True))
    assert refusal("anna", 1000, "/bin/bash", ["anna"], False) is None


def test_a_service_account() -> None:
    assert refusal("shop", 999, "/usr/sbin/nologin", ["shop", "www-data"], True) is None


def test_groups_that_a_directory_service_does_not_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """One such as LDAP's says who is in which group when it is asked for the account, and only then."""
    adm, own, unnamed = grp.getgrnam("adm").gr_gid, pwd.getpwnam("nobody").pw_gid, 64321
    primary = grp.getgrgid(own).gr_name
    monkeypatch.setattr(grp, "getgrall", list)
    monkeypatch.setattr(os, "getgrouplist", lambda _name, gid: [gid, adm, unnamed])
    with pytest.raises(AccountError, match="the account nobody is in the group adm, which amounts to root"):
        examine("nobody", primary, "/nonexistent", manage=False)
    found = accounts(["nobody"])["nobody"] or {}
    assert found["groups"] == ["adm", str(unnamed), primary]
    assert found["primary"] == primary
    assert trial.account_of("nobody").groups == (own, adm, unnamed)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_new_account_gets_what_an_earlier_one_left(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "beat").mkdir(parents=True)
    for name, uid in (("roots", 0), ("nobodys", 64321), ("anothers", pwd.getpwnam("daemon").pw_uid)):
        (state / "beat" / name).touch()
        os.chown(state / "beat" / name, uid, uid)
    (tmp_path / "secret").touch()
    (state / "link").symlink_to(tmp_path / "secret")
    take_over([str(state), str(tmp_path / "absent")], "nobody")
    uid = pwd.getpwnam("nobody").pw_uid
    owners = {path.name: path.lstat().st_uid for path in (state, *state.rglob("*"))}
    assert owners == {
        "state": uid, "beat": uid, "roots": uid, "nobodys": 64321, "link": uid,
        "anothers": pwd.getpwnam("daemon").pw_uid,
    }  # fmt: skip
    assert (tmp_path / "secret").stat().st_uid == 0
    linked = tmp_path / "linked"
    linked.symlink_to(tmp_path)
    take_over([str(linked)], "nobody")
    assert (tmp_path / "secret").stat().st_uid == 0


def test_a_number_without_a_name_is_nobodys_only_when_it_is_that_of_the_systems_account(tmp_path: Path) -> None:
    earlier = next(uid for uid in range(998, 100, -1) if not any(entry.pw_uid == uid for entry in pwd.getpwall()))
    for top, owner in (("system", earlier), ("person", 64321), ("root", 0)):
        (tmp_path / top).mkdir()
        for name, uid in (("own", owner), ("away", 64321), ("other", earlier)):
            (tmp_path / top / name).touch()
            os.chown(tmp_path / top / name, uid, uid)
        os.chown(tmp_path / top, owner, owner)
    take_over([str(tmp_path / top) for top in ("system", "person", "root")], "nobody")
    taken = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.stat().st_uid == 65534}
    assert taken == {"system", "system/own", "system/other", "root", "root/own"}


def test_only_an_account_that_is_made_takes_over() -> None:
    assert Account(commands=[["groupadd", "shop"], ["useradd", "shop"]]).creates
    assert not Account(commands=[["usermod", "--shell", "/bin/false", "--", "shop"]]).creates


@pytest.mark.parametrize(
    ("uid", "shell", "groups", "manage", "word"),
    [
        (0, "/bin/false", [], True, "uid 0"),
        (0, "/bin/false", [], False, "uid 0"),
        (999, "/usr/sbin/nologin", ["x", "sudo"], True, "sudo"),
        (999, "/usr/sbin/nologin", ["docker"], False, "docker"),
        (1000, "/bin/bash", ["anna"], True, "a person's"),
    ],
)
def test_accounts_that_must_not_run_an_app(uid: int, shell: str, groups: list[str], manage: bool, word: str) -> None:
    assert word in (account.refusal("x", uid, shell, groups, manage) or "")


def test_accounts_that_may_run_an_app() -> None:
    assert account.refusal("x", 999, "/usr/sbin/nologin", ["x"], True) is None
    assert account.refusal("x", 999, "/bin/sh", ["x"], True) is None
    assert account.refusal("x", 1000, "/bin/bash", ["x"], False) is None


def test_an_account_that_is_missing_is_made_with_its_group_and_without_a_shell() -> None:
    lacks = account.examine("celeryops-none", "celeryops-nobody", "/var/lib/x", manage=True)
    assert lacks.after == ["user celeryops-none", "group celeryops-nobody"]
    assert [command[0] for command in lacks.commands] == ["groupadd", "useradd"]
    assert lacks.commands[1][lacks.commands[1].index("--shell") + 1] == "/usr/sbin/nologin"


def test_an_account_of_somebody_else_is_never_made() -> None:
    with pytest.raises(account.AccountError, match="there is no account celeryops-none"):
        account.examine("celeryops-none", "celeryops-nobody", "/var/lib/x", manage=False)


def test_root_is_refused_even_when_its_group_would_have_to_be_made() -> None:
    with pytest.raises(account.AccountError, match="uid 0"):
        account.examine("root", "celeryops-nobody", "/root", manage=True)
