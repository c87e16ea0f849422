"""A host with servers of another hand: what they hold stays in use, or the run ends before it changes anything.

The tests build on each other, as a person's runs do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from testinfra.host import Host

#: What a person would write after the first message.
KEEP = {"redis_persistence": "aof"}
SUFFIX = ".before-celeryops~"


def test_a_run_that_would_start_a_server_empty_changes_nothing(
    host: Host, engine: str, site: Callable[..., Any], publish: Callable[..., None], state: Callable[[], Any]
) -> None:
    host.check_output("rabbitmqctl --silent add_vhost tasks")
    host.check_output("rabbitmqctl --silent set_permissions --vhost tasks guest '.*' '.*' '.*'")
    publish("tasks", "old", 25, login="guest:guest")
    for number in range(40):
        host.check_output(f"REDISCLI_AUTH=by-hand {engine}-cli --no-auth-warning set key:{number} x")
    before = state()
    run = site(rabbitmq_node_name="rabbit@fresh")
    assert run.changed == []
    (message,) = run.messages
    assert (
        "'rabbit@fresh' would start empty, and leave behind the data of rabbit@localhost; write rabbit@localhost"
        in message
    )
    assert "redis_persistence: 'rdb' would start" in message
    assert state() == before


def test_the_first_run_keeps_what_is_in_use(
    host: Host,
    site: Callable[..., Any],
    queues: Callable[[], dict[tuple[str, str], int]],
    keys: Callable[[], int],
) -> None:
    run = site(**KEEP)
    assert run.messages == []
    assert queues()["tasks", "old"] == 25
    assert keys() == 40
    assert "rabbit@localhost" in host.check_output("rabbitmqctl --silent eval 'node().'")
    assert "rabbitmq_shovel" in host.file("/etc/rabbitmq/enabled_plugins").content_string
    # The hand's configuration is beside what replaced it, and for nobody more than before.
    assert "heartbeat = 77" in host.file(f"/etc/rabbitmq/rabbitmq.conf{SUFFIX}").content_string
    assert "rabbit@localhost" in host.file(f"/etc/rabbitmq/rabbitmq-env.conf{SUFFIX}").content_string
    cookie = host.file(f"/var/lib/rabbitmq/.erlang.cookie{SUFFIX}")
    assert (cookie.content_string, cookie.mode, cookie.user) == ("HANDMADECOOKIE12345", 0o400, "rabbitmq")
    assert "replaced, with a copy beside it" in run.output
    assert "HANDMADECOOKIE12345" not in run.output
    again = site(**KEEP)
    assert (again.messages, again.changed) == ([], [])
    assert "copy beside it" not in again.output


def test_a_host_with_another_name_goes_on_with_its_data(
    host: Host, site: Callable[..., Any], queues: Callable[[], dict[tuple[str, str], int]]
) -> None:
    name = host.check_output("hostname")
    host.check_output("hostname renamed && echo 127.0.1.1 renamed >>/etc/hosts")
    try:
        run = site("--tags=rabbitmq", rabbitmq_config={"heartbeat": 50})
        assert run.messages == []
        assert "service | Run the server and its port mapper" in " ".join(run.changed)
        assert queues()["tasks", "old"] == 25
    finally:
        host.check_output(f"hostname {name}")


def test_what_leaves_the_inventory_in_a_run_that_restarts_leaves_no_message_behind(
    site: Callable[..., Any], publish: Callable[..., None], queues: Callable[[], dict[tuple[str, str], int]]
) -> None:
    kept, empty, classic = ({"name": name, "vhost": "stay"} for name in ("full", "empty", "classic"))
    declared = {"rabbitmq_vhosts": [{"name": "stay"}, {"name": "leaves"}]}
    run = site("--tags=rabbitmq", **declared, rabbitmq_queues=[kept, empty, {**classic, "type": "classic"}])
    assert run.messages == []
    for vhost, queue, kind in (("stay", "full", "quorum"), ("stay", "classic", "classic"), ("leaves", "in", "quorum")):
        publish(vhost, queue, 20, kind=kind)
    run = site("--tags=rabbitmq", rabbitmq_vhosts=[{"name": "stay"}], rabbitmq_config={"heartbeat": 40})
    assert run.messages == []
    assert queues() == {("tasks", "old"): 25, ("stay", "full"): 20, ("stay", "classic"): 20, ("leaves", "in"): 20}
    for name in ("queue stay/full", "queue stay/classic", "vhost leaves"):
        assert f"{name} is no longer declared but still in use, so it stays" in run.output


def test_what_was_there_before_is_not_removed_when_it_was_declared_for_a_time(
    host: Host, site: Callable[..., Any], queues: Callable[[], dict[tuple[str, str], int]]
) -> None:
    host.check_output("rabbitmqctl --silent purge_queue --vhost tasks old")
    both = [{"name": "stay"}, {"name": "tasks"}]
    assert site("--tags=rabbitmq", rabbitmq_vhosts=both).messages == []
    run = site("--tags=rabbitmq", rabbitmq_vhosts=[{"name": "stay"}])
    assert run.messages == []
    assert queues()["tasks", "old"] == 0


def test_a_restart_that_loses_something_ends_the_run(
    host: Host, engine: str, site: Callable[..., Any], keys: Callable[[], int]
) -> None:
    unit, data = f"{engine}-server", f"/var/lib/{engine}"
    drop_in = f"/etc/systemd/system/{unit}.service.d/10-thief.conf"
    thief = f"mkdir -p {data}/taken; mv {data}/appendonlydir {data}/dump.rdb {data}/taken || true"
    host.check_output(
        f"printf '[Service]\\nExecStartPre=+/bin/sh -c \"{thief}\"\\n' >{drop_in}; systemctl daemon-reload"
    )
    try:
        run = site("--tags=redis", **KEEP, redis_maxclients=5000)
        (message,) = run.messages
        assert "lacks what it held before: 40 of 40 keys of database 0" in message
    finally:
        host.check_output(f"rm {drop_in}; systemctl daemon-reload; systemctl stop {unit}")
        host.check_output(
            f"rm -rf {data}/appendonlydir {data}/dump.rdb; mv {data}/taken/* {data}; systemctl start {unit}"
        )
    assert keys() == 40


def test_a_backup_comes_back_onto_a_fresh_host(
    host: Host,
    engine: str,
    site: Callable[..., Any],
    playbook: Callable[..., Any],
    queues: Callable[[], dict[tuple[str, str], int]],
    keys: Callable[[], int],
    tmp_path: Path,
) -> None:
    """All of it: the variables, a backup, servers without data, and the playbook that restores."""
    schedule = {"schedule": "daily", "keep": 1}
    wanted = {**KEEP, "rabbitmq_backup": schedule, "redis_backup": {**schedule, "command": ["/usr/bin/sha256sum"]}}
    assert site(**wanted).messages == []
    assert (
        host.check_output("systemctl is-active celeryops-backup-rabbitmq.timer celeryops-backup-redis.timer").split()
        == ["active"] * 2
    )
    old = f"/var/backups/celeryops-redis/{engine}-{host.check_output('hostname')}-20200101T000000Z.rdb"
    host.check_output(f"touch {old} /var/backups/celeryops-redis/own.rdb")
    variables = {**wanted, "celeryops_backup_fetch": str(tmp_path)}
    run = playbook("backup", **variables)
    assert run.messages == []
    definitions, data = sorted(tmp_path.glob("old/*"), key=lambda path: path.suffix)
    assert [path.stat().st_mode & 0o777 for path in (definitions, data)] == [0o600] * 2
    assert not host.file(old).exists
    assert host.file("/var/backups/celeryops-redis/own.rdb").exists

    folders = "/var/lib/rabbitmq/mnesia", f"/var/lib/{engine}/appendonlydir", f"/var/lib/{engine}/dump.rdb"
    host.check_output(f"systemctl stop rabbitmq-server {engine}-server; rm -r {' '.join(folders)}")
    assert site(**wanted).messages == []
    assert (queues(), keys()) == ({}, 0)
    files = {"celeryops_restore_rabbitmq": str(definitions), "celeryops_restore_redis": str(data)}
    run = playbook("restore", **wanted, **files)
    assert run.messages == []
    assert queues()["tasks", "old"] == 0
    assert keys() == 40
    # It holds keys now.
    again = playbook("restore", **wanted, **files)
    assert ["holds 40 keys" in message for message in again.messages] == [True]
    assert "restore | Add what the broker lacks" not in " ".join(again.changed)
    run = site(**KEEP)
    assert run.messages == []
    assert host.run("ls /etc/systemd/system/celeryops-backup-* /etc/celeryops/redis-backup.*").stdout == ""
    assert host.file("/var/backups/celeryops-redis/own.rdb").exists
    assert site(**KEEP).changed == []
