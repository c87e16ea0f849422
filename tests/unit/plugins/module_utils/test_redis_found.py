"""What a host holds of Redis before the role comes, and which of it the role's server would load."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import redis_found
from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import engine_names
from ansible_collections.celeryops.stack.plugins.module_utils.redis_found import effective, started_with
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.redis import takeover_problems

DATA = "/var/lib/redis"
PACKAGED = "/usr/bin/redis-server /etc/redis/redis.conf --supervised systemd --daemonize no"
FILES = {
    "/etc/redis/redis.conf": "# save 1 1\ndir /var/lib/redis\nsave 60 5\nsave 10 9"
    '\nrequirepass "a b\'c"\ninclude /etc/own',
    "/etc/own": 'appendonly yes\nsave ""\nAppendDirName logs\n\'broken',
    "/etc/loop": "include /etc/loop\nport 7000",
}


def settings(line: str) -> dict[str, str]:
    return effective(line.split(), lambda path: FILES.get(path, ""))


def test_settings_are_read_as_the_server_reads_them() -> None:
    read = settings(PACKAGED)
    assert (read["dir"], read["requirepass"]) == (DATA, "a b'c")
    assert (read["appendonly"], read["appenddirname"], read["save"]) == ("yes", "logs", "")


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        (f"{PACKAGED} --appendonly no", "appendonly", "no"),
        (f"{PACKAGED} --save 5 1 --dir /srv", "save", "5 1"),
        ("redis-server --dir /srv --dbfilename own.rdb", "dbfilename", "own.rdb"),
        ("redis-server --include /etc/own", "appendonly", "yes"),
        ("redis-server /etc/loop", "port", "7000"),
        ("redis-server /etc/missing", "save", "3600 1 300 100 60 10000"),
        ("redis-server", "dir", "."),
    ],
)
def test_the_command_line_wins(line: str, name: str, value: str) -> None:
    assert settings(line)[name] == value


def test_the_command_line_of_a_unit_is_the_last_one() -> None:
    shown = (
        "ExecStart={ path=/bin/true ; argv[]=/bin/true ; ignore_errors=no ; pid=0 }\n"
        "ExecStart={ path=x ; argv[]=/usr/bin/redis-server /srv/r.conf --port 1 ; ignore_errors=no ; "
        "status=0/0 }\nActiveState=active\n"
    )
    assert started_with(shown) == ["/usr/bin/redis-server", "/srv/r.conf", "--port", "1"]
    assert started_with("ExecStart=\n") == []


class Host:
    """A host with its own data directory; what systemd says of the unit is given."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.data, self.conf = folder / "data", folder / "redis.conf"
        self.data.mkdir()
        names = {
            **engine_names("redis"),
            "data_dir": str(self.data),
            "state": str(self.data / "state.conf"),
            "server": "/bin/true",
        }
        monkeypatch.setattr(redis_found, "engine_names", lambda _engine: names)

    def found(self, conf: str, *, active: bool = False) -> dict[str, Any]:
        self.conf.write_text(conf)
        shown = f"ExecStart={{ path=x ; argv[]=/usr/bin/redis-server {self.conf} ; ignore_errors=no ; }}\n"
        shown += "ActiveState=active\n" if active else "ActiveState=inactive\n"
        told: dict[str, Any] = redis_found.server("redis", lambda _command: shown)
        return told


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_what_a_stopped_server_has_is_seen_on_its_disk(host: Host) -> None:
    log = host.data / "appendonlydir"
    log.mkdir()
    (log / "appendonly.aof.1.base.rdb").write_text("REDIS")
    dump = host.data / "dump.rdb"
    dump.write_text("REDIS")
    os.utime(dump, (1, 1))
    told = host.found(f'dir {host.data}\nappendonly yes\nsave ""')
    assert told == {
        "running": False, "source": str(host.conf), "appendonly": True, "saves": False, "snapshot": str(dump),
        "saved": True, "log": str(log), "stale_snapshot": True, "keys": -1, "databases": 0, "modules": [],
        "replica_of": "",
    }  # fmt: skip
    os.utime(dump)
    os.utime(log / "appendonly.aof.1.base.rdb", (1, 1))
    assert not host.found(f"dir {host.data}")["stale_snapshot"]


def test_an_old_log_is_a_single_file(host: Host) -> None:
    (host.data / "own.aof").write_text("*2")
    told = host.found(f"dir {host.data}\nappendonly yes\nappendfilename own.aof")
    assert told["log"] == str(host.data / "own.aof")
    assert host.found(f"dir {host.data}\nappendonly yes")["log"] == ""


def test_only_files_of_its_own_name_are_a_servers_log(host: Host) -> None:
    log = host.data / "appendonlydir"
    log.mkdir()
    (log / "own.aof.manifest").write_text("file own.aof.1.base.rdb seq 1 type b")
    (log / "own.aof.1.incr.aof").touch()
    conf = f"dir {host.data}\nappendonly yes\n"
    assert host.found(f"{conf}appendfilename own.aof")["log"] == ""
    (log / "own.aof.1.base.rdb").write_text("REDIS")
    told = host.found(f"{conf}appendfilename own.aof")
    assert (told["log"], told["stale_snapshot"]) == (f"{log}/own.aof.*", True)
    # The role's server would see an empty log there.
    assert host.found(conf)["log"] == ""


@pytest.mark.parametrize(
    ("conf", "of"),
    [
        ("", ""),
        ("replicaof no one", ""),
        ("replicaof mq0 6379", "mq0 6379"),
        ("slaveof 10.0.0.1 7000", "10.0.0.1 7000"),
    ],
)
def test_a_replica_says_so(host: Host, conf: str, of: str) -> None:
    assert host.found(conf)["replica_of"] == of


def test_modules_that_it_loads_are_told_without_their_arguments(host: Host) -> None:
    told = host.found("loadmodule /usr/lib/redis/modules/rejson.so secret\nloadmodule ./search.so")
    assert told["modules"] == ["/usr/lib/redis/modules/rejson.so", "./search.so"]


def test_a_directory_behind_a_link_is_the_same(host: Host) -> None:
    other = host.data.parent / "elsewhere"
    host.data.rename(other)
    host.data.symlink_to(other)
    (other / "dump.rdb").write_text("REDIS")
    for folder in (host.data, other):
        assert host.found(f"dir {folder}")["snapshot"] == str(host.data / "dump.rdb")


def test_what_this_role_set_up_is_not_looked_at(host: Host) -> None:
    (host.data / "state.conf").touch()
    assert host.found(f"dir {host.data}") == {}


def test_a_running_server_is_asked_itself(host: Host) -> None:
    server = socket.socket(socket.AF_UNIX)
    path = host.data / "s"
    server.bind(str(path))
    server.listen()
    got: list[bytes] = []

    def serve() -> None:
        connection, _other = server.accept()
        for _each in range(9):
            got.append(connection.recv(4096))
            text = got[-1]
            if b"INFO" in text:
                body = (
                    b"# Keyspace\r\ndb0:keys=40,expires=1,avg_ttl=5\r\ndb3:keys=2,expires=0,avg_ttl=0,subexpiry=0\r\n"
                )
                connection.sendall(b"$%d\r\n%s\r\n" % (len(body), body))
            elif b"appendonly" in text:
                connection.sendall(b"*2\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n")
            elif b"CONFIG" in text:
                connection.sendall(b"*0\r\n")
            else:
                connection.sendall(b"+OK\r\n")
        connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    told = host.found(f"dir {host.data}\nunixsocket {path}\nrequirepass secret", active=True)
    thread.join(5)
    server.close()
    assert (told["running"], told["appendonly"], told["keys"], told["databases"]) == (True, True, 42, 4)
    assert b"secret" in got[0]
    # Nobody answers: it may have any number.
    assert host.found(f"unixsocket {host.data}/none", active=True)["keys"] == -1


def test_a_configuration_by_hand_is_told_until_the_role_has_come(host: Host) -> None:
    host.conf.write_text("maxmemory 1gb\n")
    digest = hashlib.md5(host.conf.read_bytes(), usedforsecurity=False).hexdigest()
    conffiles = f"\n /etc/init.d/redis-server 12ab\n {host.conf} {digest}\n"

    def run(command: Sequence[str]) -> str:
        start = f"ExecStart={{ path=x ; argv[]=/usr/bin/redis-server {host.conf} ; ignore_errors=no ; }}\n"
        return start if command[0] == "systemctl" else conffiles

    assert redis_found.hand_made("redis", run) == ""
    host.conf.write_text("maxmemory 2gb\n")
    assert redis_found.hand_made("redis", run) == str(host.conf)
    (host.data / "state.conf").touch()
    assert redis_found.hand_made("redis", run) == ""
    host.conf.unlink()
    (host.data / "state.conf").unlink()
    assert redis_found.hand_made("redis", run) == ""


def test_a_drop_in_after_the_roles_own_is_told(tmp_path: Path) -> None:
    for name, text in (("a.conf", "ExecStart=/x"), ("celeryops.conf", "ExecStart=/y"), ("x.conf", "[Service]\nNice=1")):
        (tmp_path / name).write_text(text)
    assert redis_found._overrides(str(tmp_path), "celeryops.conf") == []
    (tmp_path / "override.conf").write_text("[Service]\nExecStart=\nExecStart=/usr/bin/redis-server /srv/r.conf\n")
    assert redis_found._overrides(str(tmp_path), "celeryops.conf") == [str(tmp_path / "override.conf")]


#: As the package has it, with a snapshot.
SERVER = {
    "running": True, "source": "/etc/redis/redis.conf", "appendonly": False, "saves": True,
    "snapshot": f"{DATA}/dump.rdb", "saved": True, "log": "", "stale_snapshot": False, "keys": 40,
    "databases": 1, "modules": [], "replica_of": "",
}  # fmt: skip
NOTHING = {"enabled": False, "managed": False, "established": False, "files": {}, "overrides": [], "server": {}}
AOF = {"appendonly": True, "log": f"{DATA}/appendonlydir", "stale_snapshot": True}


def told(
    persistence: str,
    *,
    server: dict[str, Any] | None = None,
    leave: str = "keep",
    settings: dict[str, Any] | None = None,
    nodes: tuple[str, ...] = (),
    **held: Any,
) -> list[str]:
    facts = {"celeryops_redis": {"redis": {**NOTHING, "server": server or {}, **held}, "valkey": dict(NOTHING)}}
    variables = {
        "redis_engine_change": "refuse",
        "redis_existing_data": leave,
        "redis_databases": 16,
        "redis_nodes": nodes,
    }
    variables["redis_settings"] = settings or {}
    return [str(problem) for problem in takeover_problems("redis", persistence, facts, variables)]


@pytest.mark.parametrize("persistence", ["rdb", "aof", "none"])
@pytest.mark.parametrize(
    "server",
    [
        {},
        SERVER,
        {**SERVER, "running": False},
        # It has nothing anywhere.
        {**SERVER, "saved": False, "keys": 0, "saves": False},
        {**SERVER, "saved": False, "keys": 0, "snapshot": "/srv/dump.rdb"},
        # The log comes with a snapshot when it stops, or came with one when it stopped.
        {**SERVER, **AOF},
        {**SERVER, **AOF, "running": False, "stale_snapshot": False},
    ],
)
def test_what_would_be_loaded_is_taken_over(persistence: str, server: dict[str, Any]) -> None:
    assert told(persistence, server=server) == []


@pytest.mark.parametrize("persistence", ["rdb", "none"])
@pytest.mark.parametrize(
    "server",
    [
        {**SERVER, **AOF, "saves": False},
        {**SERVER, **AOF, "saves": False, "saved": False},
        {**SERVER, **AOF, "running": False},
        {**SERVER, **AOF, "saves": False, "log": f"{DATA}/appendonly.aof"},
        # The snapshot would be written elsewhere.
        {**SERVER, **AOF, "snapshot": f"{DATA}/own.rdb"},
    ],
)
def test_a_log_without_a_snapshot_as_new_needs_a_log(persistence: str, server: dict[str, Any]) -> None:
    (text,) = told(persistence, server=server)
    assert text.startswith(f"redis_persistence: '{persistence}' would start Redis without its data")
    assert "; write aof; or redis_existing_data: leave for one run" in text
    assert told("aof", server=server) == []
    assert told(persistence, server=server, leave="leave") == []


@pytest.mark.parametrize("persistence", ["rdb", "aof", "none"])
@pytest.mark.parametrize(
    ("server", "place"),
    [
        ({**SERVER, "snapshot": f"{DATA}/own.rdb"}, f"{DATA}/own.rdb"),
        ({**SERVER, "snapshot": "/srv/redis/dump.rdb"}, "/srv/redis/dump.rdb"),
        ({**SERVER, "snapshot": "/srv/redis/dump.rdb", "saved": False}, "/srv/redis/dump.rdb"),
        ({**SERVER, "snapshot": "/srv/redis/dump.rdb", "saved": False, "keys": -1}, "/srv/redis/dump.rdb"),
        ({**SERVER, "snapshot": "/srv/redis/dump.rdb", "running": False}, "/srv/redis/dump.rdb"),
        ({**SERVER, **AOF, "log": f"{DATA}/logs"}, f"{DATA}/logs"),
        ({**SERVER, **AOF, "log": "/srv/appendonlydir"}, "/srv/appendonlydir"),
        ({**SERVER, **AOF, "log": f"{DATA}/appendonlydir/own.aof.*"}, f"{DATA}/appendonlydir/own.aof.*"),
    ],
)
def test_data_in_another_place_are_not_left_there(persistence: str, server: dict[str, Any], place: str) -> None:
    (text,) = told(persistence, server=server)
    assert text.startswith(
        f"redis_existing_data: 'keep' cannot be done: by /etc/redis/redis.conf the data of Redis are in {place},"
    )
    assert told(persistence, server=server, leave="leave") == []


def test_what_the_roles_server_could_not_load_is_refused() -> None:
    (text,) = told("aof", server={**SERVER, "databases": 41})
    assert text.startswith("redis_databases: 16 is less than Redis has: there are keys in database 40,")
    modules = ["/srv/rejson.so", "/srv/search.so"]
    (text,) = told("aof", server={**SERVER, "modules": modules}, settings={"LoadModule": "/srv/rejson.so x"})
    assert "redis_settings.loadmodule: ['/srv/rejson.so'] lacks what /etc/redis/redis.conf loads" in text
    assert "would not start: /srv/search.so; write a list" in text
    for settings in ({"loadmodule": modules}, {"loadmodule": ["/srv/search.so", "/srv/rejson.so a b"]}):
        assert told("aof", server={**SERVER, "modules": modules}, settings=settings) == []


def test_a_replica_does_not_become_a_server_of_its_own() -> None:
    server = {**SERVER, "replica_of": "10.0.0.1 6379"}
    (text,) = told("rdb", server=server)
    assert text.startswith("redis_existing_data: 'keep' cannot be done: Redis is a replica of 10.0.0.1 6379, and would")
    assert told("rdb", server=server, leave="leave") == []


def test_a_log_that_nobody_reads_is_not_started_with() -> None:
    server = {**SERVER, "log": f"{DATA}/appendonlydir"}
    (text,) = told("aof", server=server)
    assert "with an old log of writes" in text
    assert told("rdb", server=server) == []


@pytest.mark.parametrize(("keys", "count"), [(40, "40 keys"), (-1, "keys (it does not say how many)")])
def test_what_is_in_memory_alone_is_not_lost_with_a_restart(keys: int, count: str) -> None:
    server = {**SERVER, "saves": False, "saved": False, "keys": keys}
    (text,) = told("rdb", server=server)
    assert f"Redis has {count} in its memory alone" in text
    assert told("rdb", server={**server, "running": False}) == []
    assert told("rdb", server=server, leave="leave") == []


def test_a_drop_in_that_undoes_the_roles_is_refused() -> None:
    (text,) = told("rdb", overrides=["/etc/systemd/system/redis-server.service.d/override.conf"])
    assert "override.conf sets ExecStart= after the role's own drop-in; write its settings into redis_settings" in text


def test_one_of_several_is_not_left_alone_as_a_replica() -> None:
    (text,) = told("rdb", replicated=True, replica_of="10.0.0.2 6379")
    assert "would leave this server alone as a replica of 10.0.0.2 6379" in text
    assert told("rdb", replicated=True, replica_of="10.0.0.2 6379", nodes=("10.0.0.1", "10.0.0.2")) == []
    assert told("rdb", replicated=True, replica_of="") == []
    # Somebody's own doing.
    assert told("rdb", replica_of="10.0.0.2 6379") == []


@pytest.mark.parametrize(
    ("state", "primary"),
    [
        ("# the server's own\n", ""),
        ("replicaof 10.0.0.1 6379\n", "10.0.0.1 6379"),
        ("replicaof 10.0.0.1 6379\n# CONFIG REWRITE\nslaveof 10.0.0.3 6379\n", "10.0.0.3 6379"),
        ("# replicaof 10.0.0.1 6379\nreplicaof no one\n", ""),
    ],
)
def test_whose_replica_a_server_is_stands_in_its_own_state(state: str, primary: str) -> None:
    assert " ".join(redis_found._REPLICA_OF.findall(state)[-1:]) == primary


def test_a_running_server_that_does_not_say_what_it_has_may_have_something() -> None:
    holds: dict[str, Any] = {"files": {}}
    other = {"running": True, "saved": False, "log": "", "keys": 0}
    assert not redis_found.has_data(holds, {})
    assert not redis_found.has_data(holds, other)
    assert redis_found.has_data(holds, {**other, "keys": -1})
    assert not redis_found.has_data(holds, {**other, "running": False, "keys": -1})
    assert redis_found.has_data({"files": {"/var/lib/redis/dump.rdb": "REDIS0012"}}, {})


def test_another_engine_is_refused_before_anything_else() -> None:
    facts = {"celeryops_redis": {"redis": NOTHING, "valkey": {**NOTHING, "enabled": True}}}
    variables = {"redis_engine_change": "refuse", "redis_existing_data": "keep", "redis_nodes": []}
    (problem,) = takeover_problems("redis", "rdb", facts, variables)
    assert str(problem).startswith(
        "redis_implementation: 'redis' is not what this host holds: Valkey is set up here; write valkey"
    )
    assert list(takeover_problems("redis", "rdb", facts, {**variables, "redis_engine_change": "start_empty"})) == []


def test_without_facts_nothing_is_said() -> None:
    assert list(takeover_problems("redis", "rdb", {}, {"redis_engine_change": "refuse"})) == []
