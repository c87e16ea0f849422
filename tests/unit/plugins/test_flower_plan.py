"""The plan of the role flower: never open, no secret outside of its file, and the unit that comes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import render
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.flower import _OWN_OPTIONS, OPTIONS, plan

ROLE = Path(__file__).resolve().parents[3] / "roles" / "flower"
EVERYWHERE = "0.0.0.0"
PASSWORD, BROKER_PASSWORD, COOKIE = "a-long-password", "watcher-password", "c" * 64
TLS = {"tls_certificate": "/etc/ssl/flower.crt", "tls_key": "/etc/ssl/private/flower.key"}


def variables(**changes: Any) -> dict[str, Any]:
    """Return the role's defaults, with a broker, and with ``changes``."""
    values: dict[str, Any] = {
        "app": "shop",
        "state": "present",
        "packages": ["flower>=2.2", "celery[redis]>=5.7"],
        "python": "python3",
        "installer": "uv",
        "index_url": "",
        "install_environment": {},
        "address": "127.0.0.1",
        "port": 5555,
        "url_prefix": "",
        "basic_auth": {"admin": PASSWORD},
        "cookie_secret": COOKIE,
        "tls_certificate": "",
        "tls_key": "",
        "tls_group": "ssl-cert",
        "allow_cleartext": False,
        "open_pages": [],
        "read_only": True,
        "broker_url": f"amqp://shop-flower:{BROKER_PASSWORD}@127.0.0.1:5672/shop",
        "broker_api": f"http://shop-flower:{BROKER_PASSWORD}@127.0.0.1:15672/api/",
        "result_backend": "",
        "shared_configuration": False,
        "max_tasks": 10000,
        "state_save_interval": "5m",
        "purge_offline_workers": "1d",
        "log_level": "INFO",
        "options": {},
        "memory_max": "1G",
        "watchdog": "2m",
        "hardening": {},
    }
    return {f"flower_{name}": value for name, value in {**values, **changes}.items()}


def planned(**changes: Any) -> dict[str, Any]:
    """Return the plan for ``changes``, which must have no mistakes."""
    result, problems = plan(variables(**changes), {})
    assert [str(problem) for problem in problems] == []
    return result


def unit(**changes: Any) -> list[str]:
    """Return the lines of the unit."""
    return render(ROLE / "templates" / "flower.service.j2", planned(**changes)["service"]).splitlines()


def environment(**changes: Any) -> dict[str, str]:
    """Return the environment that is in the unit."""
    result: dict[str, str] = planned(**changes)["service"]["environment"]
    return result


def test_flower_listens_on_loopback_read_only_and_persistent() -> None:
    assert environment() == {
        "FLOWER_CONF": "/opt/celeryops/shop-flower/flowerconfig.py",
        "FLOWER_ADDRESS": "127.0.0.1",
        "FLOWER_PORT": "5555",
        "FLOWER_PERSISTENT": "true",
        "FLOWER_DB": "/var/lib/celeryops/shop-flower/flower",
        "FLOWER_STATE_SAVE_INTERVAL": "300000",
        "FLOWER_MAX_TASKS": "10000",
        "FLOWER_PURGE_OFFLINE_WORKERS": "86400",
        "FLOWER_READ_ONLY": "true",
        "FLOWER_LOGGING": "info",
    }


def test_neither_plan_nor_unit_holds_a_secret() -> None:
    text = json.dumps(planned(options={"natural_time": True})) + "\n".join(unit(**TLS))
    assert [secret for secret in (PASSWORD, BROKER_PASSWORD, COOKIE) if secret in text] == []


def test_the_environment_file_holds_them_quoted() -> None:
    text = render(
        ROLE / "templates" / "flower.env.j2",
        {
            "broker_url": "amqp://u:p%24@h/v",
            "broker_api": "",
            "result_backend": "",
            "credentials": ["admin:a$b`c", "ops:x"],
            "cookie_secret": COOKIE,
        },
    )
    assert text.splitlines()[1:] == [
        'CELERY_BROKER_URL="amqp://u:p%24@h/v"',
        'FLOWER_BASIC_AUTH="admin:a\\$b\\`c,ops:x"',
        f'FLOWER_COOKIE_SECRET="{COOKIE}"',
    ]


@pytest.mark.parametrize(
    "line",
    [
        "DynamicUser=yes",
        "User=shop-flower",
        "Type=notify",
        "WorkingDirectory=/",
        "EnvironmentFile=/etc/celeryops/shop/flower.env",
        "ExecStart=/opt/celeryops/shop-flower/current/bin/celery flower",
        "MemoryMax=1073741824",
        "PartOf=celery-shop.target",
        "ProtectSystem=strict",
    ],
)
def test_what_the_unit_says(line: str) -> None:
    assert line in unit()


def test_the_key_of_tls_is_read_through_its_group() -> None:
    lines = unit(**TLS)
    assert 'Environment="FLOWER_KEYFILE=/etc/ssl/private/flower.key"' in lines
    assert 'Environment="FLOWER_CERTFILE=/etc/ssl/flower.crt"' in lines
    assert "SupplementaryGroups=ssl-cert" in lines
    assert [line for line in unit() if "SupplementaryGroups" in line] == []
    assert planned(**TLS)["units"][1]["restart_on"][-2:] == list(TLS.values())


def test_pages_are_open_only_by_name() -> None:
    assert "CELERYOPS_FLOWER_OPEN" not in environment()
    assert environment(open_pages=["metrics", "healthcheck"])["CELERYOPS_FLOWER_OPEN"] == "metrics healthcheck"


def test_the_shared_configuration_is_a_matter_of_choice() -> None:
    given = environment(shared_configuration=True)
    assert given["CELERY_LOADER"] == "celeryops_runtime.loader:Loader"
    assert "/etc/celeryops/shop/celery.json" in planned(shared_configuration=True)["units"][1]["restart_on"]
    assert not {"CELERY_LOADER", "CELERYOPS_SETTINGS"} & set(environment())


def test_nothing_of_the_app_is_imported() -> None:
    """Modules that ``celery_app_settings`` names are the app's, which is not in Flower's environment."""
    assert json.loads(environment(shared_configuration=True)["CELERYOPS_SETTINGS"]) == {"imports": [], "include": []}
    line = r'Environment="CELERYOPS_SETTINGS={\"imports\": [], \"include\": []}"'
    assert line in unit(shared_configuration=True)


def test_options_reach_flower_in_its_spelling() -> None:
    given = environment(
        options={"natural_time": True, "tasks_columns": "name,uuid", "task_runtime_metric_buckets": [1, 5]}
    )
    assert given["FLOWER_NATURAL_TIME"] == "true"
    assert given["FLOWER_TASKS_COLUMNS"] == "name,uuid"
    assert given["FLOWER_TASK_RUNTIME_METRIC_BUCKETS"] == "1,5"


def test_no_option_is_both_the_users_and_the_roles() -> None:
    assert OPTIONS & set(_OWN_OPTIONS) == set()


@pytest.mark.parametrize(
    "option", ["auth", "basic_auth", "conf", "unix_socket", "unauthenticated_api", "cookie_secret"]
)
def test_no_option_opens_flower_by_the_back_door(option: str) -> None:
    (problem,) = plan(variables(options={option: "x"}), {})[1]
    assert problem.variable == f"flower_options.{option}"


def test_absent_needs_no_broker_and_has_no_unit() -> None:
    result = planned(state="absent", broker_url="", basic_auth={})
    assert result["units"] == []


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1"])
def test_loopback_takes_short_passwords_and_no_tls(address: str) -> None:
    planned(address=address, basic_auth={"admin": "short"})


@pytest.mark.parametrize(
    ("changes", "variable", "reason"),
    [
        ({"basic_auth": {}}, "flower_basic_auth", "open to everyone"),
        ({"basic_auth": {"admin": ""}}, "flower_basic_auth.admin", "cannot be a password"),
        ({"basic_auth": {"admin": None}}, "flower_basic_auth.admin", "cannot be a password"),
        ({"basic_auth": {"admin": "one,two"}}, "flower_basic_auth.admin", "cannot be a password"),
        ({"basic_auth": {"admin": "pässword"}}, "flower_basic_auth.admin", "cannot be a password"),
        ({"basic_auth": {"a:b": PASSWORD}}, "flower_basic_auth.a:b", "cannot be a user's name"),
        ({"address": EVERYWHERE}, "flower_address", "readable"),
        ({"address": "flower.example.org"}, "flower_address", "is not an IP address"),
        ({"address": "10.0.0.5", "basic_auth": {"a": "short"}, **TLS}, "flower_basic_auth.a", "fewer than 12"),
        ({"tls_key": "/k"}, "flower_tls_certificate", "is missing"),
        ({"tls_certificate": "/c"}, "flower_tls_key", "is missing"),
        ({"tls_certificate": "c.pem", "tls_key": "/k"}, "flower_tls_certificate", "is not an absolute path"),
        ({"tls_group": "root", **TLS}, "flower_tls_group", "cannot be the group"),
        ({"port": 443}, "flower_port", "out of range"),
        ({"url_prefix": "a b"}, "flower_url_prefix", "is not a path"),
        ({"cookie_secret": "short"}, "flower_cookie_secret", "too short"),
        ({"broker_url": ""}, "flower_broker_url", "is missing"),
        ({"broker_url": "sqla+sqlite:///x"}, "flower_broker_url", "is not the URL"),
        ({"broker_api": "http://127.0.0.1:15672"}, "flower_broker_api", "is not the URL"),
        ({"memory_max": "10M"}, "flower_memory_max", "too little"),
        ({"memory_max": "much"}, "flower_memory_max", "is not a size"),
        ({"watchdog": "soon"}, "flower_watchdog", "is not a duration"),
        ({"state_save_interval": 1}, "flower_state_save_interval", "shorter"),
        ({"options": {"natural_tme": True}}, "flower_options.natural_tme", "not an option"),
        ({"options": {"port": 80}}, "flower_options.port", "set by the role"),
        ({"hardening": {"DynamicUser": False}}, "flower_hardening.DynamicUser", "set by the role"),
        ({"app": "a-b"}, "flower_app", "is not an app name"),
    ],
)
def test_a_mistake_is_named_and_no_secret_with_it(changes: dict[str, Any], variable: str, reason: str) -> None:
    (problem,) = plan(variables(**changes), {})[1]
    assert problem.variable == variable
    assert reason in problem.reason
    assert [
        secret for secret in (PASSWORD, BROKER_PASSWORD, COOKIE, "one,two", "pässword") if secret in str(problem)
    ] == []


@pytest.mark.parametrize(
    ("package", "instead"),
    [
        ("--index-url=https://u:s3cret@h/simple", "requirements there only"),
        ("x @ https://u:s3cret@h/x.whl", "the address as flower_index_url"),
    ],
)
def test_packages_of_flower_that_are_refused(package: str, instead: str) -> None:
    _plan, (problem,) = plan(variables(packages=["flower>=2.2", package]), {})
    assert (problem.variable, problem.instead) == ("flower_packages", instead)
    assert "s3cret" not in str(problem)


def test_beyond_loopback_with_tls_or_with_a_plain_word() -> None:
    planned(address="10.0.0.5", **TLS)
    planned(address="10.0.0.5", allow_cleartext=True)


def told(**changes: Any) -> list[str]:
    """Return the mistakes in ``changes`` as a person reads them, without the prefix of the role's variables."""
    return [str(problem).removeprefix("flower_") for problem in plan(variables(**changes), {})[1]]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("amqp://w:s3/cret@mq:5672/shop", "cannot be read: "),
        ("amqp://w:s3cret@mq1/shop;amqp://w:s3;cret@mq2/shop", "cannot be read: "),
        ("amqp://w:s3cret@/shop", "names no host"),
        ("redis://w:s3cret@c:6379/shop", "is not a number; write redis://user:password@c:6379/0"),
        ("sentinel://w:s3cret@[fd00::1]/x", "is not a number; write sentinel://user:password@[fd00::1]:6379/0"),
        ("http://w:s3cret@mq/", "is not the URL of a RabbitMQ or Redis broker"),
        ("amqp://w:s3cret@mq/shop;http://w:s3cret@mq", "is not the URL of a RabbitMQ or Redis broker"),
    ],
)
def test_a_broker_that_flower_could_not_reach(url: str, says: str) -> None:
    (message,) = told(broker_url=url, broker_api="")
    assert message.startswith("broker_url: ")
    assert says in message
    assert "cret" not in message


def test_the_units_of_a_host() -> None:
    always = {"enabled": True, "state": "started"}
    target, flower = planned()["units"]
    assert target == {"name": "celery-shop.target", **always}
    assert {key: flower[key] for key in ("name", "enabled", "state")} == {
        "name": "celery-shop-flower.service",
        **always,
    }


@pytest.mark.parametrize(("name", "least"), [("state_save_interval", 10), ("purge_offline_workers", 60)])
def test_a_duration_may_be_as_short_as_is_said(name: str, least: int) -> None:
    planned(**{name: least})
    assert told(**{name: least - 1})[0].startswith(f"{name}: {least - 1} is shorter than {least}s; ")


def test_a_watchdog_can_be_off() -> None:
    assert planned(watchdog=0)["service"]["watchdog"] == 0


@pytest.mark.parametrize(("port", "fits"), [(1023, False), (1024, True), (65535, True), (65536, False)])
def test_a_port_that_needs_no_rights(port: int, fits: bool) -> None:
    message = f"port: {port} is out of range; write 1024 to 65535; a web server in front can have 443"
    assert told(port=port) == ([] if fits else [message])


@pytest.mark.parametrize(("length", "fits"), [(31, False), (32, True)])
def test_a_secret_that_signs_cookies_is_long(length: int, fits: bool) -> None:
    assert bool(told(cookie_secret="c" * length)) is not fits


@pytest.mark.parametrize(("size", "fits"), [("128M", True), (128 * 1024**2 - 1, False)])
def test_the_memory_that_flower_starts_in(size: object, fits: bool) -> None:
    message = f"memory_max: {size} is too little for Flower to start in; write 128M or more"
    assert told(memory_max=size) == ([] if fits else [message])


@pytest.mark.parametrize("name", _OWN_OPTIONS)
def test_an_option_of_the_roles_own_says_what_decides_it(name: str) -> None:
    (message,) = told(options={name: "x"})
    assert message.endswith(f"is set by the role itself; write {_OWN_OPTIONS[name] or 'nothing: the role decides it'}")


@pytest.mark.parametrize("value", [None, {"a": 1}, "a\nb", ["a\nb"]])
def test_an_option_that_fits_no_line(value: Any) -> None:
    (message,) = told(options={next(iter(OPTIONS)): value})
    assert "is not a text, number, boolean or list" in message


def test_an_app_that_is_none_is_told() -> None:
    assert told(app="Shop") == [
        "app: 'Shop' is not an app name; write a lower-case letter, then at most 24 of a-z, 0-9 and _"
    ]
