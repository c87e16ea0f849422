"""Root and pickle: refused in the inventory, on the host, and by the worker itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testinfra.host import Host

#: A process with the app's environment, as a unit of its own.
RUN = (
    "systemd-run --quiet --pipe --wait --collect --property=User={user} --property=WorkingDirectory=/"
    " --property=EnvironmentFile=/etc/celeryops/shop/celery.env"
)
WORKER = "/opt/celeryops/shop/current/bin/celery -A shop.celery:app worker --concurrency=1 --hostname=hand@%h"
PROOF = "/var/lib/celeryops/shop/pickle-was-executed"


def by_hand(host: Host, user: str, *, environment: str = "", arguments: str = "") -> tuple[int, str]:
    """Start a worker as a person would; returns its exit status (124: it ran until it was stopped) and its output."""
    done = host.run(
        f"{RUN.format(user=user)} /usr/bin/env {environment} timeout 120 {WORKER} --queues=by-hand {arguments}"
    )
    return done.rc, done.stdout + done.stderr


def test_a_worker_as_root_refuses_to_start(host: Host) -> None:
    status, output = by_hand(host, "root")
    assert status == 1
    assert "refusing to start: Celery would run as root here" in output


def test_a_worker_with_the_switch_that_allows_root_refuses_to_start(host: Host) -> None:
    status, output = by_hand(host, "shop", environment="C_FORCE_ROOT=1")
    assert status == 1
    assert "refusing to start: C_FORCE_ROOT is set" in output


def test_a_worker_that_accepts_pickle_refuses_to_start(host: Host) -> None:
    accepts = json.dumps({"accept_content": ["json", "pickle"]})
    status, output = by_hand(host, "shop", environment=f"CELERYOPS_SETTINGS='{accepts}'")
    assert status == 1
    assert "refusing to start: this process would accept pickle" in output


def journal(host: Host) -> str:
    return host.check_output("journalctl --no-pager --output=cat --unit=celery-shop-default.service")


@pytest.fixture
def no_proof(host: Host) -> Iterator[None]:
    host.check_output(f"rm -f {PROOF}")
    yield
    host.check_output(f"rm -f {PROOF}")


@pytest.mark.usefixtures("no_proof")
@pytest.mark.parametrize("accept", [False, True])
def test_a_pickled_message_is_refused_unread(
    host: Host, broker: str, dead_letters: Callable[[], int], accept: bool
) -> None:
    """A real one, whose reading leaves a file. With ``accept`` it is read here, to show that it is real.

    RabbitMQ keeps it among the dead letters; Redis has none.
    """
    program = f"""
import os
from kombu.serialization import dumps, loads
from shop.celery import app
class Payload:
    def __reduce__(self):
        return os.system, ("touch {PROOF}",)
if {accept}:
    content_type, encoding, body = dumps([[Payload()], {{}}, {{}}], serializer="pickle")
    loads(body, content_type, encoding, accept={{content_type}})
else:
    print(app.send_task("shop.stock.count", args=[Payload()], serializer="pickle").id)
"""
    kept = dead_letters() if broker == "rabbitmq" else 0
    refusals = journal(host).count("Refusing to deserialize untrusted content of type pickle")
    host.check_output(f"{RUN.format(user='shop')} /opt/celeryops/shop/current/bin/python -B - <<'END'\n{program}\nEND")
    assert host.file(PROOF).exists is accept, "before any worker has it"
    if accept:
        return
    deadline = time.monotonic() + 60
    while journal(host).count("Refusing to deserialize untrusted content of type pickle") == refusals:
        assert time.monotonic() < deadline, "no worker has refused it"
        time.sleep(1)
    assert not host.file(PROOF).exists
    if broker == "rabbitmq":
        while dead_letters() == kept:
            assert time.monotonic() < deadline, "the message is in no queue of refused ones"
            time.sleep(1)


@pytest.mark.parametrize(
    ("account", "reason"),
    [
        ("useradd --non-unique --uid 0 --gid 0 toor", "the account toor has uid 0"),
        ("useradd --system --groups sudo,adm toor", "the account toor is in the group adm, sudo"),
    ],
)
def test_an_account_with_roots_rights_is_refused_before_the_role_changes_anything(
    host: Host, site: Callable[..., Any], account: str, reason: str
) -> None:
    files = "/etc/passwd /etc/shadow /etc/group /etc/gshadow"
    host.check_output(f"mkdir -p /run/accounts; cp --archive {files} /run/accounts/")
    try:
        host.check_output(account)
        run = site("--tags=celery_app,celery_worker", variables={"celery_app_user": "toor"})
    finally:
        host.check_output("cp --archive /run/accounts/* /etc/; rm -r /run/accounts")
    assert reason in run.messages[0]
    assert run.changed == []


@pytest.mark.parametrize(
    "message",
    [
        "celery_app_user: 'root' amounts to root",
        "runs whatever code the sender of a message puts",
        "celery_app_environment.C_FORCE_ROOT",
    ],
)
def test_the_inventory_is_refused(wrong_inventory: str, message: str) -> None:
    assert message in wrong_inventory


@pytest.fixture(scope="module")
def wrong_inventory(site: Callable[..., Any]) -> str:
    """What the check says of an inventory with all of these mistakes."""
    variables = {
        "celery_app_user": "root",
        "celery_app_settings": {"accept_content": ["pickle"]},
        "celery_app_environment": {"C_FORCE_ROOT": "1"},
    }
    run = site(variables=variables, playbook="playbooks/check.yml")
    return str(run.messages[0])
