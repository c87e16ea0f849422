"""Reading dpkg's list."""

from __future__ import annotations

from ansible_collections.celeryops.stack.plugins.modules.packages import installed


def test_only_what_is_installed_and_configured_counts() -> None:
    output = "ii  adduser\nrc  redis-server\niU  rabbitmq-server\nhi  erlang-base\nun  valkey\n"
    assert installed(output) == ["adduser", "erlang-base"]
