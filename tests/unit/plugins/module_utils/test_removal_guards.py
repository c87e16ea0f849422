"""What keeps an app or a server from being removed."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from ansible_collections.celeryops.stack.plugins.module_utils.removal_guards import brokers_of, users_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.redis_users import acl_rules

UNIT = "celery-shop-high.service"


def process(
    proc: Path, number: int, words: list[str], *, exe: str = "/usr/bin/python3.11", unit: str = "", **own: str
) -> None:
    folder = proc / str(number)
    folder.mkdir()
    (folder / "cmdline").write_text("".join(f"{word}\0" for word in words))
    (folder / "cgroup").write_text(f"0::/system.slice/{unit or 'web.service'}\n")
    (folder / "maps").write_text(own.get("maps", ""))
    (folder / "exe").symlink_to(exe)


def test_processes_of_a_release_that_are_no_unit_of_it(tmp_path: Path) -> None:
    process(tmp_path, 5, ["/opt/celeryops/shop/current/bin/python", "-m", "celery"], unit=UNIT)
    process(tmp_path, 6, ["/opt/celeryops/shop/current/bin/python", "gunicorn"])
    process(tmp_path, 7, ["web"], exe="/opt/celeryops/shop/releases/1/bin/web")
    process(tmp_path, 8, ["python"], maps="7f00 r-xp 0 0 0 /opt/celeryops/shop/releases/1/lib/_x.so\n")
    process(tmp_path, 9, ["/opt/celeryops/shop_2/current/bin/python"])
    process(tmp_path, 10, ["vim", "/opt/celeryops/shop/current/x.py"])
    process(tmp_path, 11, [])
    (tmp_path / "uptime").touch()
    assert users_of("shop", [], [UNIT], str(tmp_path)) == ["python (pid 6)", "web (pid 7)", "python (pid 8)"]


def test_processes_of_an_account(tmp_path: Path) -> None:
    process(tmp_path, 5, ["sleep"])
    process(tmp_path, 6, ["sleep"], unit=UNIT)
    name = pwd.getpwuid(os.getuid()).pw_name
    assert users_of("shop", [name], [UNIT], str(tmp_path)) == ["sleep (pid 5)"]
    assert users_of("shop", ["no-such-account"], [UNIT], str(tmp_path)) == []


def test_who_has_a_broker_in_redis() -> None:
    kinds = {"shop": "broker", "both": "both", "web": "results"}
    for prefix in ("", "x:"):
        users = [
            (name, acl_rules({"name": name, "purpose": purpose, "key_prefix": prefix}))
            for name, purpose in kinds.items()
        ]
        acl = "# x\nuser default off ~* +@all\n" + "".join(f"user {name} on #ab {rules}\n" for name, rules in users)
        assert brokers_of(acl) == ["both", "shop"]
