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


@pytest.mark.broker("rabbitmq")
def test_a_second_run_is_thirteen_remote_calls(second_run: tuple[Any, bool]) -> None:
    """What a run costs. Some actions stay on the control machine; units that are settled are not asked twice."""
    local = {"celeryops.stack.plan", "celeryops.stack.unregistered", "celeryops.stack.further"}
    calls = [name for name in second_run[0].called if name not in local]
    assert "celeryops.stack.units" not in calls
    assert len(calls) == 13, calls


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
