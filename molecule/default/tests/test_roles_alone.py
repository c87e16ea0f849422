"""The roles of the servers and of Flower in a play of one's own, on a host where nothing else of this collection is."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from playbooks import Run, run_playbook
from testinfra.host import Host

pytestmark = [pytest.mark.broker("rabbitmq"), pytest.mark.long, pytest.mark.apart]

ROOT = Path(__file__).resolve().parents[3]
LAB = ROOT / "scripts" / "lab.py"
PLAYBOOK = "molecule/default/roles_alone.yml"
PASSWORD = "spoken-softly-9-3-1"
#: Flower's environment has what both exchanges need.
PYTHON = "/opt/celeryops/shop-flower/current/bin/python"
EXCHANGE = f"""
from kombu import Connection
with Connection("amqp://shop:{PASSWORD}@127.0.0.1:5672/shop") as connection:
    queue = connection.SimpleQueue("alone")
    queue.put("a message")
    message = queue.get(timeout=10)
    message.ack()
    print(message.payload)
"""

ASK = """
import base64, urllib.error, urllib.request
request = urllib.request.Request("http://127.0.0.1:5555/workers")
if login := "%s":
    request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
try:
    print(urllib.request.urlopen(request, timeout=10).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


@pytest.fixture(scope="module")
def name(container: str, suite: str) -> Iterator[str]:
    """A host of its own, which is removed when the tests are done."""
    name = f"{container}-alone"
    subprocess.run([LAB, "up", name, "--suite", suite], check=True, stdout=subprocess.DEVNULL)
    # As on a host that somebody has installed: what apt does not know it cannot try.
    subprocess.run(["docker", "exec", name, "apt-get", "-qq", "update"], check=True)
    yield name
    subprocess.run([LAB, "down", name], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def hosts(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inventory."""
    variables = {
        "ansible_connection": "community.docker.docker",
        "ansible_host": name,
        # The only thing that has to do with where the tests run.
        "flower_install_environment": {"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"},
    }
    path = tmp_path_factory.mktemp("alone") / "hosts.yml"
    path.write_text(yaml.safe_dump({"all": {"hosts": {"alone": variables}}}))
    return path


@pytest.fixture(scope="module")
def runs(hosts: Path) -> dict[str, Run]:
    """A dry run on the bare host, the first run, and another one."""
    return {"dry": play(hosts, "--check", "--diff"), "first": play(hosts), "again": play(hosts)}


@pytest.fixture(scope="module")
def alone(name: str, runs: dict[str, Run]) -> Host:
    """The host after the runs."""
    assert runs["first"].messages == []
    return testinfra.get_host(f"docker://{name}")


def play(hosts: Path, *arguments: str, **variables: Any) -> Run:
    return run_playbook(hosts, *arguments, playbook=PLAYBOOK, variables={"test_password": PASSWORD, **variables})


def status(host: Host, login: str = "") -> str:
    """Return the status with which Flower answers; the password is no argument of a command."""
    return str(host.check_output(f"{PYTHON} - <<'END'\n{ASK % login}\nEND"))


def test_a_dry_run_comes_first_and_a_second_run_changes_nothing(runs: dict[str, Run]) -> None:
    assert {what: run.messages for what, run in runs.items() if run.messages} == {}
    assert [what for what, run in runs.items() if PASSWORD in run.output] == []
    assert runs["first"].changed != []
    assert runs["again"].changed == []


def test_the_broker_hands_on_messages(alone: Host) -> None:
    assert alone.check_output(f"{PYTHON} - <<'END'\n{EXCHANGE}\nEND") == "a message"


def test_the_store_of_results_knows_its_user_and_nobody_else(alone: Host) -> None:
    cli = "$(command -v redis-cli valkey-cli | head -n 1)"
    login = f"REDISCLI_AUTH={PASSWORD} {cli} --user shop"
    assert alone.check_output(f"{login} set shop:celery-task-meta-one 1") == "OK"
    assert alone.check_output(f"{login} get shop:celery-task-meta-one") == "1"
    assert "NOPERM" in alone.check_output(f"{login} get blog:celery-task-meta-one")
    assert "NOAUTH" in alone.check_output(f"{cli} get shop:celery-task-meta-one")


def test_flower_asks_for_its_password(alone: Host, hosts: Path) -> None:
    password = (hosts.parent / ".celeryops" / "secrets" / "shop_flower_password").read_text().strip()
    assert status(alone) == "401"
    assert status(alone, f"admin:{password}") == "200"


def test_a_flower_that_leaves(alone: Host, hosts: Path) -> None:
    gone = play(hosts, "--tags=flower", flower_state="absent")
    assert gone.messages == []
    assert not alone.service("celery-shop-flower").is_running
    assert not alone.file("/etc/systemd/system/celery-shop-flower.service").exists
    assert not alone.file("/etc/celeryops/shop/flower.env").exists
    assert not alone.file("/opt/celeryops/shop-flower/current").exists
    again = play(hosts, "--tags=flower", flower_state="absent")
    assert (again.messages, again.changed) == ([], [])
