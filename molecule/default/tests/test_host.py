"""The host after site.yml: its units, its listeners, its files, and where no secret may be."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hosts import tcp_listeners, udp_services
from testinfra.host import Host

#: Every port that may listen, with the addresses that it may listen on.
LOOPBACK = {"127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"}
RABBITMQ_PORTS = {
    4369: LOOPBACK,  # epmd, through which RabbitMQ's tools find the node
    5672: LOOPBACK,  # AMQP
    15672: LOOPBACK,  # RabbitMQ's management API and page
    25672: LOOPBACK,  # Erlang distribution, for rabbitmqctl
}
PORTS = {
    6379: LOOPBACK,  # Redis
    5555: LOOPBACK,  # Flower
}


def classes(inventory: dict[str, Any]) -> list[str]:
    return sorted(inventory["celery_worker_classes"])


def celery_units(inventory: dict[str, Any]) -> list[str]:
    return [f"celery-{inventory['celery_app_name']}-{name}.service" for name in [*classes(inventory), "beat", "flower"]]


@pytest.fixture
def units(inventory: dict[str, Any], servers: list[str]) -> list[str]:
    app = inventory["celery_app_name"]
    return [*servers, f"celery-{app}.target", *celery_units(inventory)]


def shown(host: Host, units: list[str]) -> dict[str, dict[str, str]]:
    """Return what systemd tells of each unit, asked once for all."""
    blocks = host.check_output(f"systemctl show {' '.join(units)}").split("\n\n")
    found = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]
    assert len(found) == len(units), blocks
    return dict(zip(units, found, strict=True))


def test_every_unit_is_enabled_and_active(host: Host, units: list[str]) -> None:
    found = {unit: (entry["UnitFileState"], entry["ActiveState"]) for unit, entry in shown(host, units).items()}
    assert found == dict.fromkeys(units, ("enabled", "active"))


def test_no_unit_has_failed_or_been_restarted_by_systemd(host: Host, inventory: dict[str, Any]) -> None:
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""
    restarts = {unit: entry["NRestarts"] for unit, entry in shown(host, celery_units(inventory)).items()}
    assert restarts == dict.fromkeys(restarts, "0")


def test_nothing_listens_beyond_what_is_declared(host: Host, broker: str) -> None:
    ports = PORTS | (RABBITMQ_PORTS if broker == "rabbitmq" else {})
    listeners = tcp_listeners(host)
    undeclared = {(address, port) for address, port in listeners if address not in ports.get(port, set())}
    assert undeclared == set()
    assert {port for _other, port in listeners} == set(ports)
    # No datagram service at all.
    assert udp_services(host) == set()


@pytest.mark.broker("rabbitmq")
def test_guest_does_not_exist_and_is_refused(host: Host) -> None:
    assert host.check_output(status_of("-u guest:guest http://127.0.0.1:15672/api/whoami")) == "401"
    assert "guest" not in host.check_output("rabbitmqctl --silent list_users")


@pytest.mark.broker("rabbitmq")
def test_neither_server_was_ever_up_as_its_package_has_it(host: Host, engine: str) -> None:
    """Debian's packages start their servers; both would be up for a moment with their own configuration."""
    journal = host.check_output("journalctl --no-pager --output=cat --unit=rabbitmq-server.service")
    assert "Created user 'admin'" in journal, "the journal does not reach back to the first start"
    assert "Created user 'guest'" not in journal
    # The log of the package's configuration; the role's goes to the journal.
    assert not host.file(f"/var/log/{engine}/{engine}-server.log").exists


def status_of(arguments: str) -> str:
    """A command that prints the status of an HTTP answer; a minimal Debian has Python, but no curl."""
    parts = arguments.split()
    login = parts[1] if parts[0] == "-u" else ""
    program = f"""
import base64, urllib.error, urllib.request
request = urllib.request.Request({parts[-1]!r})
if {login!r}:
    request.add_header("Authorization", "Basic " + base64.b64encode({login!r}.encode()).decode())
try:
    print(urllib.request.urlopen(request, timeout=10).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
    return f"python3 - <<'END'\n{program}\nEND"


@pytest.mark.parametrize("path", ["/", "/workers", "/api/workers", "/api/tasks", "/metrics"])
def test_flower_refuses_a_caller_without_a_password(host: Host, path: str) -> None:
    assert host.check_output(status_of(f"http://127.0.0.1:5555{path}")) in {"401", "403"}


def test_the_result_store_refuses_a_caller_without_a_password(host: Host, engine: str) -> None:
    assert "NOAUTH" in host.run(f"{engine}-cli -h 127.0.0.1 ping").stdout


def test_workers_run_as_the_apps_user_without_shell_or_password(host: Host, inventory: dict[str, Any]) -> None:
    app = inventory["celery_app_name"]
    user = host.user(app)
    assert user.uid != 0
    assert user.shell in {"/usr/sbin/nologin", "/sbin/nologin", "/bin/false"}
    assert user.password.startswith(("!", "*"))
    owners = {}
    workers = shown(host, [f"celery-{app}-{name}.service" for name in classes(inventory)])
    for name, entry in zip(classes(inventory), workers.values(), strict=True):
        main = entry["MainPID"]
        owners[name] = set(host.check_output(f"ps -o user:32= --pid {main} --ppid {main}").split())
    assert owners == {name: {app} for name in classes(inventory)}


def test_the_apps_user_can_write_nothing_but_its_state_log_and_run_directories(
    host: Host, inventory: dict[str, Any]
) -> None:
    app = inventory["celery_app_name"]
    writable = host.check_output(
        f"find /etc /opt /usr /var/lib /var/log /srv -xdev -not -type l "
        rf"\( -user {app} -o \( -group {app} -perm /020 \) -o \( -perm /002 -not -perm /1000 \) \) -print"
    ).splitlines()
    allowed = (f"/var/lib/celeryops/{app}", f"/var/log/celeryops/{app}", f"/run/celeryops/{app}")
    assert [path for path in writable if not path.startswith(allowed)] == []
    assert [path for path in writable if path.startswith(allowed[:2])] != []


@pytest.mark.parametrize(
    ("path", "owner", "mode"),
    [
        ("/etc/celeryops/shop/celery.env", "root", 0o600),
        ("/etc/celeryops/shop/celery.json", "root", 0o644),
        ("/etc/celeryops/shop/queues.json", "root", 0o644),
        pytest.param(
            "/var/lib/rabbitmq/.erlang.cookie", "rabbitmq", 0o400, marks=pytest.mark.broker("rabbitmq"), id="cookie"
        ),
    ],
)
def test_files_belong_to_whom_they_should(host: Host, path: str, owner: str, mode: int) -> None:
    file = host.file(path)
    assert (file.user, oct(file.mode)) == (owner, oct(mode))


def test_no_file_that_all_may_read_holds_a_secret(host: Host, secrets: Mapping[str, str]) -> None:
    places = "/etc /home /opt /root /run /srv /tmp /usr/local /var/lib /var/log /var/tmp"
    assert found(host, secrets, f"find {places} -xdev -type f -perm /004 -size -4096k") == {}


def test_no_unit_holds_a_secret(host: Host, secrets: Mapping[str, str], units: list[str]) -> None:
    names = " ".join(units)
    told = host.check_output(f"systemctl cat {names}; systemctl show {names}")
    assert [unit for unit in units if f"/{unit}\n" not in told or f"Id={unit}\n" not in told] == []
    assert [name for name, value in secrets.items() if value in told] == []
    assert found(host, secrets, "find /etc/systemd /run/systemd/system /run/systemd/transient -type f") == {}


def test_no_command_line_holds_a_secret(host: Host, secrets: Mapping[str, str]) -> None:
    lines = host.check_output("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")
    assert "celery" in lines
    assert [name for name, value in secrets.items() if value in lines] == []


def test_the_journal_and_the_logs_hold_no_secret(host: Host, secrets: Mapping[str, str]) -> None:
    journal = host.check_output("journalctl --no-pager --boot")
    assert journal
    assert [name for name, value in secrets.items() if value in journal] == []
    assert found(host, secrets, "find /var/log -type f") == {}


def found(host: Host, secrets: Mapping[str, str], find: str) -> dict[str, str]:
    """The files among those that `find` prints which hold a secret, by the secret's name."""
    patterns = "\n".join(f"{name}={value}" for name, value in secrets.items())
    program = f"""
import subprocess, sys
secrets = dict(line.split("=", 1) for line in {patterns!r}.splitlines())
for path in subprocess.run({find!r}, shell=True, capture_output=True, text=True).stdout.splitlines():
    try:
        content = open(path, "rb").read()
    except OSError:
        continue
    for name, value in secrets.items():
        if value.encode() in content:
            print(name, path)
"""
    lines = host.check_output(f"python3 - <<'END'\n{program}\nEND").splitlines()
    return dict(line.split(" ", 1) for line in lines)


def test_a_secret_would_have_been_found(host: Host, secrets: Mapping[str, str]) -> None:
    """The search above is worth something: it finds the file in which the secrets are."""
    assert found(host, secrets, "ls /etc/celeryops/shop/celery.env") != {}


def test_no_secret_file_of_the_control_machine_is_open_to_others(secret_files: list[Path]) -> None:
    assert [path.name for path in secret_files if path.stat().st_mode & 0o077] == []


def test_workers_are_confined(host: Host, inventory: dict[str, Any]) -> None:
    directives = ("NoNewPrivileges", "ProtectSystem", "ProtectHome", "PrivateTmp")
    told = shown(host, celery_units(inventory))
    open_ones = {
        (unit, directive): entry[directive]
        for unit, entry in told.items()
        for directive in directives
        if entry[directive] not in {"yes", "strict", "full", "disconnected"}
    }
    assert open_ones == {}


def test_the_shared_configuration_is_what_the_inventory_says(host: Host, inventory: dict[str, Any]) -> None:
    shared, settings = (
        json.loads(host.file(f"/etc/celeryops/shop/{name}.json").content_string) for name in ("queues", "celery")
    )
    assert shared["routes"] == inventory["celery_app_routes"]
    queues = {queue["name"] for queue in shared["queues"]}
    assert queues >= {route["queue"] for route in inventory["celery_app_routes"]}
    assert not re.search(r"://[^/]*:[^/]*@", json.dumps([shared, settings])), "a URL with a password"
