"""What the tests of a host with a life before share: the host, its servers as they are asked, runs of the playbook."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
import testinfra
from playbooks import ROOT, Run, run_playbook
from testinfra.host import Host

SUITE = os.environ.get("CELERYOPS_SUITE", "trixie")
INVENTORY = ROOT / "molecule" / "before" / "inventory"
#: Asks the queues themselves: right after a start the statistics are empty.
PROGRAM = (
    '[io:format("~s ~s ~p~n", [V, N, element(2, rabbit_amqqueue:stat(Q))]) || V <- rabbit_vhost:list_names(), '
    "Q <- rabbit_amqqueue:list(V), {resource, _, queue, N} <- [amqqueue:get_name(Q)]], ok."
)


@pytest.fixture(scope="session")
def host() -> Host:
    return testinfra.get_host(f"docker://{os.environ.get('CELERYOPS_HOST', f'celeryops-test-{SUITE}-before')}")


@pytest.fixture(scope="session")
def engine() -> str:
    return "valkey" if SUITE == "forky" else "redis"


@pytest.fixture(scope="session")
def secrets() -> Callable[[str], str]:
    """Read what was generated on the control machine."""
    return lambda name: (ROOT / "build" / "molecule" / f"{SUITE}-before" / "secrets" / name).read_text().strip()


@pytest.fixture(scope="session")
def site() -> Callable[..., Run]:
    """Run site.yml: site("--check"), site(redis_persistence="aof")."""
    return lambda *arguments, **variables: run_playbook(INVENTORY, *arguments, variables=variables)


@pytest.fixture(scope="session")
def playbook() -> Callable[..., Run]:
    """Run another playbook: playbook("restore", redis_persistence="aof")."""
    return lambda name, **variables: run_playbook(INVENTORY, variables=variables, playbook=f"playbooks/{name}.yml")


@pytest.fixture(scope="session")
def publish(host: Host, secrets: Callable[[str], str]) -> Callable[..., None]:
    """Put messages that outlive a restart into a queue, which is made where it is not there."""

    def run(vhost: str, queue: str, count: int, *, kind: str = "quorum", login: str = "") -> None:
        login = login or "admin:" + secrets("rabbitmq_admin_password")
        program = f"""
import base64, json, urllib.request
login = base64.b64encode({login!r}.encode()).decode()
def call(method, path, body):
    headers = {{"Authorization": "Basic " + login, "Content-Type": "application/json"}}
    url = "http://127.0.0.1:15672/api/" + path
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
    return urllib.request.urlopen(request).read()
call("PUT", "queues/{vhost}/{queue}", {{"durable": True, "arguments": {{"x-queue-type": "{kind}"}}}})
for _ in range({count}):
    message = {{"properties": {{"delivery_mode": 2}}, "routing_key": "{queue}", "payload": "x"}}
    call("POST", "exchanges/{vhost}/amq.default/publish", {{**message, "payload_encoding": "string"}})
"""
        host.check_output(f"python3 - <<'END'\n{program}\nEND")

    return run


@pytest.fixture(scope="session")
def queues(host: Host) -> Callable[[], dict[tuple[str, str], int]]:
    """Return what the queues hold: (virtual host, name) -> messages."""

    def ask() -> dict[tuple[str, str], int]:
        lines = host.check_output(f"rabbitmqctl --silent eval '{PROGRAM}'").splitlines()
        words = [line.split() for line in lines if line != "ok" and line.strip()]
        return {(vhost, name): int(count) for vhost, name, count in words}

    return ask


@pytest.fixture(scope="session")
def keys(host: Host, engine: str, secrets: Callable[[str], str]) -> Callable[[], int]:
    """Return how many keys the role's server has."""

    def ask() -> int:
        login = f"REDISCLI_AUTH={secrets('redis_admin_password')} {engine}-cli --user admin --no-auth-warning"
        return int(host.check_output(f"{login} dbsize").split()[-1])

    return ask


@pytest.fixture(scope="session")
def state(host: Host) -> Callable[[], Any]:
    """Return what a run that refuses must leave as it is: files of the servers, and since when these run."""

    def look() -> Any:
        files = "find /etc -xdev -newermt '2000-01-01' -type f -printf '%p %T@ %s\\n' | sort | sha256sum"
        since = "systemctl show --property=ActiveEnterTimestamp rabbitmq-server '*-server.service'"
        return json.dumps([host.check_output(files), host.check_output(since)])

    return look
