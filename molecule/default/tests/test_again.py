"""What another run has to say of a host that is as the inventory wants it: nothing.

These come first of all: whatever a test does to the host might make good what a second run would still have to do. So
this is the second run of the hosts of these scenarios, in place of Molecule's `idempotence`, which knows less.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from testinfra.host import Host


@pytest.fixture(scope="module")
def second_run(host: Host, site: Callable[..., Any], broker: str) -> tuple[Any, bool]:
    """A run that found everything as it should be, and whether it called rabbitmqctl: a wrapper notes who does."""
    if broker != "rabbitmq":
        return site(), False
    wrapper, notes = "/usr/local/sbin/rabbitmqctl", "/run/rabbitmqctl-called"
    script = f'#!/bin/sh\necho called >> {notes}\nexec /usr/sbin/rabbitmqctl "$@"\n'
    host.check_output(f"cat > {wrapper} <<'END'\n{script}END\nchmod 0755 {wrapper}")
    try:
        host.check_output("rabbitmqctl version")
        assert host.file(notes).exists, "the wrapper notes nothing"
        host.check_output(f"rm {notes}")
        return site(), host.file(notes).exists
    finally:
        host.check_output(f"rm -f {wrapper} {notes}")


def test_a_second_run_changes_nothing(second_run: tuple[Any, bool]) -> None:
    run, _other = second_run
    assert run.messages == []
    assert run.changed == []
    assert run.stats["stack"]["changed"] == 0


def calls(run: Any) -> list[str]:
    """The modules that were called on the host, in order; some actions stay on the control machine."""
    local = {"plan", "unregistered", "further"}
    return [name for called in run.called if (name := called.removeprefix("celeryops.stack.")) not in local]


@pytest.mark.broker("rabbitmq")
def test_runs_that_find_everything_as_it_was_are_few_remote_calls(
    second_run: tuple[Any, bool], site: Callable[..., Any]
) -> None:
    """What a run costs.

    The first one built releases and declared queues: the second sees the end of it, and a third that the broker has the
    same once more.
    """
    seen = ["facts", "rabbitmq_definitions", "redis_info"]
    assert calls(second_run[0]) == [*seen, "release", "declare", "release"]
    assert calls(site()) == [*seen, "declare"]
    assert calls(site()) == seen


@pytest.mark.broker("rabbitmq")
def test_without_receipts_every_call_is_made(site: Callable[..., Any]) -> None:
    run = site("--extra-vars", "celeryops_receipts=false")
    assert (run.messages, run.changed) == ([], [])
    assert sorted(calls(run)) == sorted([
        *("facts", "rabbitmq_definitions", "redis_info", "release", "declare", "release", "workers"),
        *["files"] * 6,
    ])  # fmt: skip


@pytest.mark.broker("rabbitmq")
def test_a_second_run_needs_no_rabbitmqctl(second_run: tuple[Any, bool]) -> None:
    """One call of it starts an Erlang machine and takes a second."""
    _other, called = second_run
    assert not called


@pytest.fixture(scope="module")
def dry_run(site: Callable[..., Any]) -> Any:
    """A dry run of a host that is as it should be, which tells all that it can."""
    return site("--check", "--diff", "-vvv")


def test_check_mode_reports_nothing(dry_run: Any) -> None:
    assert dry_run.messages == []
    assert dry_run.changed == []


def test_no_secret_in_what_ansible_prints(dry_run: Any, secrets: Mapping[str, str]) -> None:
    assert [name for name, value in secrets.items() if value in dry_run.output] == []


def test_what_was_changed_since_is_put_right(
    host: Host, site: Callable[..., Any], inventory: Mapping[str, Any]
) -> None:
    """A receipt ends with what it is about: here with a file of the same size and time, and with a unit."""
    app = inventory["celery_app_name"]
    unit, beat = f"/etc/systemd/system/celery-{app}-high.service", f"celery-{app}-beat.service"
    wanted = host.file(unit).content_string
    host.check_output(
        f"cp -p {unit} /run/kept; sed -i s/^Description=./Description=X/ {unit}; touch -r /run/kept {unit}"
    )
    host.check_output(f"rm /run/kept; systemctl stop {beat}")
    assert host.file(unit).content_string != wanted
    assert site().messages == []
    assert host.file(unit).content_string == wanted
    assert host.service(beat).is_running


@pytest.mark.broker("rabbitmq")
def test_a_queue_that_is_gone_is_declared_again(
    host: Host, site: Callable[..., Any], inventory: Mapping[str, Any]
) -> None:
    app, queue = inventory["celery_app_name"], "celery_delayed_27"
    host.check_output(f"rabbitmqctl delete_queue --vhost {app} {queue}")
    run = site()
    assert (run.messages, len(run.changed)) == ([], 1)
    assert queue in host.check_output(f"rabbitmqctl --silent list_queues --vhost {app} name").splitlines()
