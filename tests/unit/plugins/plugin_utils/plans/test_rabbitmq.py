"""The plan of the role rabbitmq as a whole: no secret in it, the systems it is for, and the files that come of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from problems import told
from rabbitmq_plans import FACTS, ROLE, SECRETS, planned, refused, variables

from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import render
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq import plan


def test_secrets_are_not_in_the_plan() -> None:
    given: dict[str, Any] = {
        "vhosts": [{"name": "shop"}],
        "users": [{"name": "shop", "password": "the-user-password"}, {"name": "b", "password_hash": "AAAAhash"}],
        "secret_config": {"auth_ldap.dn_lookup_bind.password": "the-ldap-password"},
    }
    text = repr(planned(**given))
    for secret in (*SECRETS.values(), "the-user-password", "AAAAhash", "the-ldap-password"):
        assert secret not in text


def test_a_refusal_shows_no_secret() -> None:
    problems = refused(
        admin_password="pw-77",
        erlang_cookie="cookie 77",
        config={"default_pass": "conf-77"},
        secret_config={"a": "x'77"},
    )
    assert len(problems) == 4
    assert "77" not in "".join(map(str, problems))


@pytest.mark.parametrize(
    ("distribution", "major", "wrong"),
    [
        ("Fedora", "42", 1),
        ("Debian", "11", 1),
        ("Debian", "12", 0),
        ("Debian", "13", 0),
        ("Debian", "testing", 0),
    ],
)
def test_the_systems_that_are_supported(distribution: str, major: str, wrong: int) -> None:
    facts = {**FACTS, "distribution": distribution, "distribution_major_version": major}
    assert len(refused(facts)) == wrong


def test_nothing_is_asked_of_a_host_without_facts() -> None:
    assert refused({}) == []


def test_variables_are_not_modified() -> None:
    given = variables(vhosts=[{"name": "shop"}], config={"heartbeat": 30})
    before = copy.deepcopy(given)
    plan(given, FACTS)
    assert given == before


def test_templates_print_the_plan() -> None:
    result = planned(version="4.0.*", erlang_version="1:27*", plugins=["rabbitmq_management", "rabbitmq_prometheus"])
    templates = ROLE / "templates"
    environment = render(templates / "rabbitmq-env.conf.j2", {"environment": result["environment"]})
    assert 'NODENAME="rabbit@mq1"\nexport ERL_EPMD_ADDRESS="127.0.0.1"\n' in environment
    assert render(templates / "enabled_plugins.j2", {"plugins": result["plugins"]}) == (
        "[rabbitmq_management,rabbitmq_prometheus].\n"
    )
    assert '["mq1"]' in render(templates / "erl_inetrc.j2", {"host": result["loopback_host"], "hosts": result["hosts"]})
    socket = render(templates / "epmd.socket.conf.j2", {"listen": result["epmd_listen"]})
    assert socket.endswith("ListenStream=\nListenStream=127.0.0.1:4369\n")
    pins = render(templates / "preferences.j2", {"pins": result["pins"]})
    assert "Package: rabbitmq-server\nPin: version 4.0.*\n" in pins
    service = render(templates / "service.conf.j2", {"plan": result})
    assert "LimitNOFILE=65536\nTimeoutStopSec=300\n" in service
    assert "\nStartLimitIntervalSec=0\n" in service
    check = "ExecStartPre=/bin/sh /etc/rabbitmq/celeryops-disk.sh /var/lib/rabbitmq/mnesia 64 60"
    # systemd makes \\" of this, and erl a quote.
    watch = r'Environment="ERL_AFLAGS=-eval {ok,_}=file:script(\\\"/etc/rabbitmq/celeryops-disk.erl\\\")"'
    assert f"\n{check}\n" in service
    assert f"\n{watch}\n" in service
    assert '\nExecStopPost=/bin/sh -c \'test "$$EXIT_STATUS" != 74 || echo "RabbitMQ ended because' in service


def test_durations_are_read_or_told() -> None:
    result, problems = plan(variables(stop_timeout="soon"), FACTS)
    assert result["stop_timeout"] == 0
    assert told(problems) == [("not-a-duration", "rabbitmq_stop_timeout")]
    assert told(refused(stop_timeout=0)) == [("zero-duration", "rabbitmq_stop_timeout")]
    assert plan(variables(drain_timeout="2m"), FACTS)[0]["drain_timeout"] == 120
    assert told(refused(drain_timeout="soon")) == [("not-a-duration", "rabbitmq_drain_timeout")]


def test_a_password_in_the_environment_of_the_installation_is_refused() -> None:
    environment = {"http_proxy": "http://proxy:3128", "https_proxy": "http://me:s3cret@proxy:3128"}
    (problem,) = refused(install_environment=environment)
    assert (problem.variable, problem.value) == ("rabbitmq_install_environment.https_proxy", "(not shown)")
    assert refused(install_environment={"http_proxy": "http://proxy:3128"}) == []


def test_definitions_are_backed_up_by_the_account_that_has_the_cookie() -> None:
    backup = planned(backup={"schedule": "daily"})["backup"]
    [unit, _timer] = [entry["text"].splitlines() for entry in backup["files"]]
    assert "User=rabbitmq" in unit
    [command] = [line for line in unit if line.startswith("ExecStart=")]
    assert command.startswith("ExecStart=/usr/bin/python3 /etc/rabbitmq/celeryops-backup.py --kind rabbitmq ")
    assert backup["passwords"] == []
    assert planned()["backup"]["files"] == []
    assert told(refused(backup={"schedule": "sometimes"})) == [("not-a-calendar-time", "rabbitmq_backup.schedule")]
