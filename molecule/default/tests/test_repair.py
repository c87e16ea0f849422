"""What was changed by hand, or has left the inventory, is put right by another run; and a reboot changes nothing."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hosts import wait
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[3]
INVENTORY = ROOT / "molecule" / os.environ.get("MOLECULE_SCENARIO_NAME", "default") / "inventory"


def main_pid(host: Host, unit: str) -> str:
    return host.check_output(f"systemctl show --property=MainPID --value {unit}")


def main_pids(host: Host, inventory: dict[str, Any]) -> dict[str, str]:
    app = inventory["celery_app_name"]
    return {
        name: main_pid(host, f"celery-{app}-{name}.service")
        for name in [*inventory["celery_worker_classes"], "beat", "flower"]
    }


@pytest.fixture(scope="module")
def missed_users(
    host: Host, site: Callable[..., Any], inventory: dict[str, Any], broker: str, ask_redis: Callable[[str], str]
) -> dict[str, Any]:
    """The app's users were deleted in every server: the one run that followed, and what was there after it."""
    app = inventory["celery_app_name"]
    wanted = ask_redis(f"ACL GETUSER {app}")
    if broker == "rabbitmq":
        host.check_output(f"rabbitmqctl delete_user {app}")
        assert app not in host.check_output("rabbitmqctl --silent list_users | cut -f1").splitlines()
    ask_redis(f"ACL DELUSER {app}")
    assert app not in ask_redis("ACL USERS").splitlines()
    found = {"run": site(), "redis before": wanted, "redis": ask_redis(f"ACL GETUSER {app}")}
    if broker == "rabbitmq":
        found["users"] = host.check_output("rabbitmqctl --silent list_users | cut -f1").splitlines()
        found["permissions"] = host.check_output(f"rabbitmqctl --silent list_permissions --vhost {app}")
    return found


@pytest.mark.takes_over
@pytest.mark.broker("rabbitmq")
def test_a_deleted_user_of_the_broker_comes_back(missed_users: dict[str, Any], inventory: dict[str, Any]) -> None:
    app = inventory["celery_app_name"]
    assert missed_users["run"].messages == []
    assert missed_users["run"].changed != []
    assert app in missed_users["users"]
    assert f"{app}\t.*" in missed_users["permissions"]


@pytest.mark.takes_over
def test_a_deleted_user_of_redis_comes_back(missed_users: dict[str, Any]) -> None:
    assert missed_users["run"].messages == []
    assert missed_users["run"].changed != []
    assert missed_users["redis"] == missed_users["redis before"]


@pytest.mark.alike
@pytest.mark.usefixtures("restored")
def test_an_edited_unit_is_put_right_and_a_changed_class_placed_and_these_alone_restarted(
    host: Host, site: Callable[..., Any], inventory: dict[str, Any]
) -> None:
    unit = f"/etc/systemd/system/celery-{inventory['celery_app_name']}-high.service"
    wanted = host.file(unit).content_string
    before = main_pids(host, inventory)
    host.check_output(f"echo 'Environment=BY_HAND=1' >> {unit}")
    changed = {**inventory["celery_worker_classes"], "default": {"concurrency": 2}}
    run = site(variables={"celery_worker_classes": changed})
    assert run.messages == []
    assert host.file(unit).content_string == wanted
    after = main_pids(host, inventory)
    assert {name for name in before if before[name] != after[name]} == {"high", "default"}


#: A web process that runs while the inventory grows: it has the routes already, and ends when it has followed them.
SENDER = """
import time
from {module} import app
def queue():
    return app.amqp.router.route({{}}, "shop.audits.note")["queue"]
assert queue().name == "default", queue()
open("/tmp/celeryops-growing", "w").close()
while queue().name != "audits":
    time.sleep(0.5)
assert (queue().exchange.name, queue().routing_key) == ("tasks", "audits"), queue()
"""


@pytest.mark.alike
@pytest.mark.usefixtures("restored")
def test_a_class_that_joins_restarts_nobody_and_senders_find_it(
    host: Host, site: Callable[..., Any], inventory: dict[str, Any], broker: str
) -> None:
    app, module = inventory["celery_app_name"], inventory["celery_app_import"].split(":")[0]
    before, ours = main_pids(host, inventory), f"celery-{app}-audits.service"
    program = SENDER.format(app=app, module=module)
    host.check_output(
        f"cat > /run/growing.py <<'END'\n{program}\nEND\n"
        f"systemd-run --quiet --unit=growing --remain-after-exit --property=User={app} --property=WorkingDirectory=/"
        f" --property=EnvironmentFile=/etc/celeryops/{app}/celery.env"
        f" /opt/celeryops/{app}/current/bin/python -B /run/growing.py"
    )
    wait(lambda: host.file("/tmp/celeryops-growing").exists, 60, "the sender does not start")
    # With RabbitMQ its tasks may even be longer than all others: only the server has to know.
    limit = "12h" if broker == "rabbitmq" else "10m"
    servers = ["rabbitmq-server.service"] if broker == "rabbitmq" else []
    running = {unit: main_pid(host, unit) for unit in servers}
    timeout = "rabbitmqctl eval 'application:get_env(rabbit, consumer_timeout).'"
    waited = host.check_output(timeout) if servers else ""
    run = site(
        variables={
            "celery_worker_classes": {
                **inventory["celery_worker_classes"],
                "audits": {"queues": ["audits"], "concurrency": 1, "time_limit": limit},
            },
            "celery_app_routes": [*inventory["celery_app_routes"], {"task": "shop.audits.*", "queue": "audits"}],
        }
    )
    assert run.messages == []
    assert host.service(ours).is_running
    assert main_pids(host, inventory) == before
    assert {unit: main_pid(host, unit) for unit in servers} == running
    if servers:
        # Twice twelve hours and ten minutes, in the next power of two.
        assert host.check_output(timeout) == f"{{ok,{32 * 3_600_000}}}" != waited
    result = "systemctl show --property=SubState,Result growing.service"
    wait(lambda: "SubState=exited" in host.check_output(result), 60, "the sender does not follow")
    assert "Result=success" in host.check_output(result)
    host.check_output("systemctl stop growing.service; rm -f /run/growing.py /tmp/celeryops-growing")


@pytest.fixture(scope="class")
def smaller(
    host: Host,
    site: Callable[..., Any],
    inventory: dict[str, Any],
    run_name: str,
    leave_astray: Callable[[], None],
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A class left the inventory, and a duty the host, in one run: that run, and what was there after it.

    Both come back with the run of the next test.
    """
    app = inventory["celery_app_name"]
    others = {name: value for name, value in inventory["celery_worker_classes"].items() if name != "bulk"}
    others["default"] = {**(others["default"] or {}), "queues": ["default", "feeds", "reports"]}
    # As deep below the checkout as the inventory itself, whose paths are relative.
    moved = ROOT / "build" / "molecule" / f"moved-{run_name}"
    shutil.rmtree(moved, ignore_errors=True)
    shutil.copytree(INVENTORY, moved)
    hosts = moved / "hosts.yml"
    hosts.write_text(
        "".join(line for line in hosts.read_text().splitlines(True) if not line.startswith("celery_beat:"))
    )
    run = site(inventory=moved, variables={"celery_worker_classes": others})
    found: dict[str, Any] = {
        name: host.check_output(f"systemctl show --property=LoadState --value celery-{app}-{name}.service")
        for name in ("bulk", "beat")
    }
    found["file"] = host.file(f"/etc/systemd/system/celery-{app}-bulk.service").exists
    found["processes"] = host.check_output("ps -eo args=").splitlines()
    found["high"] = host.service(f"celery-{app}-high.service").is_running
    yield run, found
    leave_astray()


@pytest.mark.alike
@pytest.mark.takes_over
class TestWhatLeaves:
    """Both in one run, after which another one has to make the host as large again."""

    def test_a_class_that_leaves_the_inventory_leaves_the_host(self, smaller: tuple[Any, dict[str, Any]]) -> None:
        run, found = smaller
        assert run.messages == []
        assert not found["file"]
        assert found["bulk"] == "not-found"
        assert not [line for line in found["processes"] if "bulk@" in line]
        assert found["high"]

    def test_a_duty_that_moves_to_another_host_leaves_this_one(self, smaller: tuple[Any, dict[str, Any]]) -> None:
        run, found = smaller
        assert run.messages == []
        assert found["beat"] == "not-found"
        assert found["high"]


@pytest.mark.alike
@pytest.mark.takes_over
@pytest.mark.broker("rabbitmq")
def test_a_repair_of_every_secret_shows_none(
    host: Host, site: Callable[..., Any], secrets: Mapping[str, str], witness: Callable[..., Any], engine: str
) -> None:
    """Ansible has all secrets in hand: each file with one is damaged, and the broker refuses the administrator."""
    files = [
        "/etc/celeryops/shop/celery.env",
        "/etc/celeryops/shop/flower.env",
        "/etc/rabbitmq/definitions.json",
        f"/etc/celeryops/{engine}/users.acl",
        "/var/lib/rabbitmq/.erlang.cookie",
    ]
    cookie = files[-1]
    host.check_output(f"cp --preserve {cookie} /root/cookie")
    for path in files:
        host.check_output(f"printf '\\n' >> {path}")
    foretold = site("--check", "--diff", "-vvv")
    # The command line tools need the cookie that the server was started with.
    host.check_output(f"cp --preserve /root/cookie {cookie}; rm /root/cookie")
    assert foretold.messages == []
    assert [path for path in files if path not in foretold.output] == []
    assert [name for name, value in secrets.items() if value in foretold.output] == []

    with witness() as seen:
        repaired = site("--diff", "-vvv")
        # Not before: a server that is restarted reads its users from the definitions, and the login is right again.
        host.check_output("rabbitmqctl --silent change_password admin another-password")
        let_in = site("--diff", "-vvv", "--tags=rabbitmq_reconcile")
    assert (repaired.messages, let_in.messages) == ([], [])
    assert len(let_in.changed) == 1
    for shown in (seen(), repaired.output, let_in.output):
        assert [name for name, value in secrets.items() if value in shown] == []
    assert "import_definitions" in seen(), "nobody watched the repair of the login"


def test_a_killed_broker_comes_back_with_what_waited(
    host: Host, produce: Callable[..., Any], inventory: dict[str, Any], servers: list[str]
) -> None:
    app, name = inventory["celery_app_name"], "bulk"
    host.check_output(f"systemctl stop celery-{app}-{name}.service")
    try:
        ids = produce(
            "r = [send('shop.feeds.import_feed', 'killed', 10, 0.0) for _ in range(5)]\n"
            "time.sleep(2)\n"  # Redis writes its log to the disk every second.
            "print(json.dumps([one.id for one in r]))"
        )
        before = main_pid(host, servers[0])
        host.check_output(f"systemctl kill --signal=KILL {servers[0]}")
        wait(
            lambda: main_pid(host, servers[0]) not in {"0", before} and host.service(servers[0]).is_running,
            60,
            f"{servers[0]} did not come back",
        )
    finally:
        host.check_output(f"systemctl start celery-{app}-{name}.service")
    # Those that waited, and one from a worker that lost its connection.
    produce(
        f"[app.AsyncResult(one).get(timeout=60) for one in {ids}]\n"
        "send('shop.stock.count', 'x').get(timeout=60); print(0)"
    )


@pytest.mark.broker("rabbitmq")
def test_rabbitmq_ends_when_its_store_does_and_starts_when_its_disk_has_room(
    host: Host, produce: Callable[..., Any]
) -> None:
    """A part of the store is ended by hand here, and the disk is another one; the chaos scenario fills the real one."""
    unit, store = "rabbitmq-server.service", "/var/lib/rabbitmq/mnesia"
    # However long the disk is full.
    assert host.check_output(f"systemctl show --property=StartLimitIntervalUSec --value {unit}") == "0"
    # A store that is stopped has not died; the new one is watched like the first.
    before = main_pid(host, unit)
    host.check_output("rabbitmqctl --silent stop_app && rabbitmqctl --silent start_app")
    assert main_pid(host, unit) == before
    parts = [f"{system}_{part}" for system in ("ra_log", "ra_coordination_log") for part in ("wal", "meta")]
    parts += ["ra_log_segment_writer", "ra_coordination_segment_writer"]
    watched = host.check_output(
        f"rabbitmqctl --silent eval '[Name || Name <- [{','.join(parts)}],"
        " {monitored_by, Pids} <- [process_info(whereis(Name), monitored_by)],"
        " lists:any(fun(P) -> is_pid(P) andalso process_info(P, priority) =:= {priority, high} end, Pids)].'"
    )
    assert sorted(watched.strip("[]").replace(" ", "").replace("\n", "").split(",")) == sorted(parts)

    started = host.check_output("date +%s")
    # The answer may never come: the node is gone.
    host.run("timeout 20 rabbitmqctl eval 'sys:terminate(ra_coordination_segment_writer, enospc).'")
    status = f"systemctl show --property=ActiveState,ExecMainStatus --value {unit}"
    ended = {"activating", "74"}  # Waits for its next start, after EX_IOERR.
    wait(lambda: {*host.check_output(status).split()} == ended, 5, "the node goes on without its store")
    host.check_output(f"mount -t tmpfs -o size=100m full {store} && fallocate --length=95M {store}/filler")
    journal = f"journalctl --no-pager --unit={unit} --since=@{started}"
    try:
        told = f"{store} has 5 MiB left, and RabbitMQ needs 20 MiB to start"
        wait(lambda: told in host.check_output(journal), 30, "it was not kept from starting")
        assert not host.service(unit).is_running
    finally:
        host.check_output(f"umount --lazy {store}")
    # What waits keeps its own view of the mounts (ProtectSystem=), as no real disk needs: the next one sees the room.
    host.check_output(f"systemctl kill --signal=KILL --kill-whom=control {unit}")
    wait(lambda: host.service(unit).is_running, 60, f"{unit} did not come back")
    assert host.check_output(journal).count("RabbitMQ ended because a part of its store died") == 1
    produce("send('shop.stock.count', 'x').get(timeout=60); print(0)")


def test_killed_processes_come_back_by_themselves(
    host: Host, produce: Callable[..., Any], inventory: dict[str, Any], engine: str
) -> None:
    """Everything but the broker at once: every worker with its tasks' processes, beat, Flower, the result store."""
    app = inventory["celery_app_name"]
    workers = [f"celery-{app}-{name}.service" for name in inventory["celery_worker_classes"]]
    others = [f"celery-{app}-beat.service", f"celery-{app}-flower.service", f"{engine}-server.service"]
    before = main_pids(host, inventory)
    host.check_output(f"systemctl kill --signal=KILL --kill-whom=all {' '.join([*workers, *others])}")
    deadline = time.monotonic() + 90
    while True:
        states = host.check_output(f"systemctl show --property=ActiveState {' '.join([*workers, *others])}").split()
        status = host.check_output(f"systemctl show --property=StatusText --value {' '.join(workers)}").split("\n\n")
        if {*states} == {"ActiveState=active"} and all(text.startswith("consuming") for text in status):
            break
        assert time.monotonic() < deadline, (states, status)
        time.sleep(1)
    after = main_pids(host, inventory)
    assert [name for name in before if before[name] == after[name]] == []
    for task in ('"shop.payments.charge", "killed", 1', '"shop.reports.daily_sales", 1', '"shop.stock.count", "x"'):
        assert produce(f"print(json.dumps(send({task}).get(timeout=60)))")["ran_by"]


def test_a_reboot_brings_everything_back(
    host: Host,
    site: Callable[..., Any],
    reboot: Callable[[], None],
    inventory: dict[str, Any],
    servers: list[str],
) -> None:
    reboot()
    app = inventory["celery_app_name"]
    units = [
        *servers,
        *(f"celery-{app}-{name}" for name in [*inventory["celery_worker_classes"], "beat", "flower"]),
    ]
    wait(lambda: all(host.service(unit).is_running for unit in units), 60, f"not all of {units} came back")
    run = site("--check")
    assert run.messages == []
    assert run.changed == []
