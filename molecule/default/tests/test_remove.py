"""celeryops.stack.remove, on an app beside the one of the other tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testinfra.host import Host

pytestmark = [pytest.mark.broker("rabbitmq"), pytest.mark.alike, pytest.mark.apart]

APP, UNIT = {"celeryops_remove_app": "passing"}, "celery-passing-only.service"
GOES = (f"/etc/systemd/system/{UNIT}", "/etc/systemd/system/celery-passing.target", "/opt/celeryops/passing")
GOES += ("/etc/celeryops/passing", "/run/celeryops/passing", "/etc/passing.conf")
CHANGED = "/etc/passing-changed.conf"
STATE = "/var/lib/celeryops/passing"
SEND = (
    "systemd-run --quiet --pipe --wait --collect --property=User=passing --property=WorkingDirectory=/"
    " --property=EnvironmentFile=/etc/celeryops/passing/celery.env /opt/celeryops/shop/current/bin/python -B -c"
    " 'from shop.celery import app; [app.send_task(\"nobody.knows\", ignore_result=True) for _ in range(2)]'"
)


@pytest.fixture(scope="module")
def remove(host: Host, site: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """The playbook, on a host with the app, whose worker is down while two tasks wait."""
    deployed = site(playbook="molecule/default/removed_app.yml")
    assert deployed.messages == [], deployed.output
    host.check_output(f"systemctl stop {UNIT}")
    host.check_output(SEND)
    host.check_output(f"touch {STATE}/kept && chown passing: {STATE}/kept && echo '# mine' >> {CHANGED}")

    def run(*arguments: str, **more: Any) -> Any:
        return site(*arguments, playbook="playbooks/remove.yml", variables={**APP, **more})

    yield run
    host.check_output(f"rabbitmqctl --silent delete_queue --vhost django_shop passing; rm -f {CHANGED}*")


def present(host: Host) -> list[str]:
    return [path for path in GOES if host.file(path).exists]


def test_tasks_that_wait_keep_the_app(host: Host, remove: Callable[..., Any]) -> None:
    before = present(host)
    assert set(GOES) - set(before) <= {"/run/celeryops/passing"}
    run = remove()
    assert run.failed
    assert "tasks of passing wait: 2 in passing" in run.output
    assert "celeryops_remove_messages: true" in run.output
    assert present(host) == before


def test_an_app_goes_and_its_data_stay(host: Host, remove: Callable[..., Any]) -> None:
    others = host.check_output("systemctl show --property=MainPID --value 'celery-shop-*'")
    before = present(host)
    foretold = remove("--check", "--diff", celeryops_remove_messages=True)
    assert foretold.messages == []
    assert foretold.changed == ["Remove the app or everything"]
    assert [path for path in GOES[:4] if path not in foretold.output] == []
    assert present(host) == before
    run = remove(celeryops_remove_messages=True)
    assert run.messages == [], run.output
    assert present(host) == []
    assert not host.user("passing").exists
    assert f"kept: {STATE}" in run.output
    # It is not what was placed any more.
    assert host.file(CHANGED).content_string == "there = 2\n# mine\n"
    assert CHANGED in run.output
    # Nobody else gets the number of its account, and with it its data.
    assert host.check_output(f"find {STATE} ! -user root") == ""
    assert host.file(f"{STATE}/kept").exists
    assert host.check_output("systemctl show --property=MainPID --value 'celery-shop-*'") == others
    assert remove().changed == []


def test_a_new_installation_takes_the_data_over(
    host: Host, site: Callable[..., Any], remove: Callable[..., Any]
) -> None:
    deployed = site(playbook="molecule/default/removed_app.yml")
    assert deployed.messages == [], deployed.output
    assert host.file(f"{STATE}/kept").user == "passing"
    run = remove(celeryops_remove_messages=True, celeryops_remove_data=True)
    assert run.messages == [], run.output
    assert present(host) == []
    assert not host.file(STATE).exists
