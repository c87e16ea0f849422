"""The backup of a server: off by default, its units, and every mistake that its variable can have."""

from __future__ import annotations

from typing import Any

import pytest
from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.backup import Server, backup_of, is_calendar

REDIS = Server(
    role="redis", title="Redis", kind="redis", unit="redis-server.service", user="redis", group="redis-g",
    program="/etc/celeryops/redis-backup", arguments=("--user", "admin"), password=True,
)  # fmt: skip
RABBITMQ = Server(
    role="rabbitmq", title="RabbitMQ", kind="rabbitmq", unit="rabbitmq-server.service", user="rabbitmq",
    group="rabbitmq", program="/etc/rabbitmq/celeryops-backup",
)  # fmt: skip


def planned(server: Server = REDIS, **given: Any) -> Any:
    result, problems = backup_of(server, given)
    assert problems == []
    return result


def units(**given: Any) -> dict[str, list[str]]:
    """Return the lines of each unit file, by its ending."""
    files = planned(**given)["files"]
    return {entry["path"].rpartition(".")[2]: entry["text"].splitlines() for entry in files}


def test_nothing_is_backed_up_by_default_and_what_was_goes() -> None:
    result = planned()
    assert result["directory"] == ""
    assert [result[name] for name in ("directories", "programs", "passwords", "files", "units")] == [[]] * 5
    assert [entry["path"] for entry in result["stale"]] == [
        "/etc/celeryops/redis-backup.py", "/etc/celeryops/redis-backup.env",
    ]  # fmt: skip
    assert result["prune"] == {"glob": "celeryops-backup-redis.*", "markers": ["role redis)"]}
    assert [entry["path"] for entry in planned(RABBITMQ)["stale"]] == ["/etc/rabbitmq/celeryops-backup.py"]


def test_a_schedule_is_enough() -> None:
    result = planned(schedule="daily")
    assert result["directories"] == [{"path": "/var/backups/celeryops-redis"}]
    assert result["directory"] == "/var/backups/celeryops-redis"
    assert result["programs"] == [{"path": "/etc/celeryops/redis-backup.py"}]
    assert result["passwords"] == [{"path": "/etc/celeryops/redis-backup.env"}]
    assert result["stale"] == []
    assert result["units"] == [
        {"name": "celeryops-backup-redis.timer", "enabled": True, "state": "started"},
        # Named, or it would be pruned; only its timer and a person start it.
        {"name": "celeryops-backup-redis.service"},
    ]
    assert [entry["path"] for entry in result["files"]] == [
        "/etc/systemd/system/celeryops-backup-redis.service", "/etc/systemd/system/celeryops-backup-redis.timer",
    ]  # fmt: skip
    assert planned(RABBITMQ, schedule="daily")["passwords"] == []


def test_the_unit_runs_as_the_server_s_account_in_a_sandbox() -> None:
    lines = units(schedule="daily")["service"]
    assert "User=redis" in lines
    assert "Group=redis-g" in lines
    assert "After=redis-server.service" in lines
    assert "EnvironmentFile=/etc/celeryops/redis-backup.env" in lines
    assert (
        "ExecStart=/usr/bin/python3 /etc/celeryops/redis-backup.py --kind redis "
        "--directory /var/backups/celeryops-redis --keep 14 --user admin"
    ) in lines
    assert "ProtectSystem=strict" in lines
    assert "ReadWritePaths=/var/backups/celeryops-redis" in lines
    assert [line for line in lines if line.startswith("UMask=")] == ["UMask=0077"]
    # It has the account of a unit that stays, whose shared memory would go with this one's end.
    assert [line for line in lines if line.startswith("RemoveIPC=")] == []
    assert "MemoryDenyWriteExecute=yes" in lines
    assert len([line for line in lines if line.startswith("SystemCallFilter=")]) == 2


def test_erlang_may_compile_at_run_time() -> None:
    text = planned(RABBITMQ, schedule="daily")["files"][0]["text"]
    assert "MemoryDenyWriteExecute" not in text
    assert "EnvironmentFile" not in text


def test_what_is_written_is_taken() -> None:
    result = units(schedule=" Mon *-*-* 03:30 ", directory="/srv/b", keep=3, command=["/usr/bin/put", "{file}", "a b%"])
    [command] = [line for line in result["service"] if line.startswith("ExecStart=")]
    assert "--directory /srv/b --keep 3 " in command
    assert command.endswith('--user admin -- /usr/bin/put "{file}" "a b%%"')
    assert "OnCalendar=Mon *-*-* 03:30" in result["timer"]
    assert "Persistent=true" in result["timer"]
    assert "FixedRandomDelay=true" in result["timer"]
    validate = planned(schedule="Mon 03:30")["files"][1]["validate"]
    assert validate == "systemd-analyze calendar 'Mon 03:30'"


@pytest.mark.parametrize(
    "text",
    [
        "daily", "Weekly", "hourly", "03:30", "3:05", "*-*-* 03:30:00", "Mon..Fri *-*-* 22:00", "Sat,Sun 04:00",
        "*:0/15", "*-*-01 00:00", "2026-12-24", "*-02~03", "Mon", "Mon,Wed..Fri 10:00", "daily UTC",
        "03:30 Europe/Zurich", "*-1,7-1", "23:59:59", "00:00",
    ],
)  # fmt: skip
def test_times_that_systemd_takes(text: str) -> None:
    assert is_calendar(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "every day", "1d", "24h", "nightly", "0 3 * * *", "@daily", "24:00", "12:60", "12:00:60", "Moon 12:00",
        "daily\nOnBootSec=1", "12", "Mon 24:01", "daily hourly",
    ],
)  # fmt: skip
def test_times_that_it_does_not(text: str) -> None:
    assert not is_calendar(text)


@pytest.mark.parametrize(
    ("given", "mistake"),
    [
        ({"schedule": ""}, ("no-schedule", "redis_backup.schedule")),
        ({"schedule": None}, ("no-schedule", "redis_backup.schedule")),
        ({"schedule": "0 3 * * *"}, ("not-a-calendar-time", "redis_backup.schedule")),
        ({"keep": 0}, ("keeps-no-backup", "redis_backup.keep")),
        ({"keep": "all"}, ("keeps-no-backup", "redis_backup.keep")),
        ({"directory": "backups"}, ("not-an-absolute-path", "redis_backup.directory")),
        ({"directory": "/etc/backups"}, ("writable-code", "redis_backup.directory")),
        ({"directory": "/var/backups/"}, ("shared-directory", "redis_backup.directory")),
        ({"directory": "/backups"}, ("shared-directory", "redis_backup.directory")),
        ({"directory": "/var/lib/redis"}, ("backup-beside-the-data", "redis_backup.directory")),
        ({"directory": "/var/lib/redis/b"}, ("backup-beside-the-data", "redis_backup.directory")),
        ({"command": ["rclone", "copy"]}, ("not-a-command", "redis_backup.command")),
        ({"command": ["/bin/put it"]}, ("not-a-command", "redis_backup.command")),
        ({"command": ["/bin/put", "--password=x"]}, ("readable-by-everyone", "redis_backup.command")),
        ({"command": ["/bin/put", "https://a:b@c/"]}, ("readable-by-everyone", "redis_backup.command")),
    ],
)
def test_mistakes_are_told(given: dict[str, Any], mistake: tuple[str, str]) -> None:
    result, problems = backup_of(REDIS, {"schedule": "daily", **given})
    assert told(problems) == [mistake]
    assert result["units"] == []


def test_no_password_is_shown() -> None:
    _result, problems = backup_of(REDIS, {"schedule": "daily", "command": ["/bin/put", "https://a:hush@c/"]})
    assert "hush" not in str(problems[0])


def test_a_directory_beside_the_data_is_no_mistake() -> None:
    assert planned(schedule="daily", directory="/var/lib/redis-backups")["directory"] == "/var/lib/redis-backups"
