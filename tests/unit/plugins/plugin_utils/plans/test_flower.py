"""The plan of the role flower: never open, no secret outside of its file, and the unit that comes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import render
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.flower import _OWN_OPTIONS, OPTIONS, plan

ROLE = Path(__file__).resolve().parents[5] / "roles" / "flower"
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
    assert told(problems) == []
    return result


def wrong(**changes: Any) -> Problem:
    """Return the one mistake in ``changes``; it shows no secret."""
    (problem,) = plan(variables(**changes), {})[1]
    secrets = (PASSWORD, BROKER_PASSWORD, COOKIE, "one,two", "pässword", "s3cret", "s3/cret", "s3;cret")
    assert [secret for secret in secrets if secret in str(problem)] == []
    return problem


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
            "broker_apis": [],
            "result_backend": "",
            "sentinel_password": "",
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
    ("urls", "lines"),
    [
        (["http://mq1/api/"], ['FLOWER_BROKER_API="http://mq1/api/"']),
        (
            ["http://mq1/api/", "http://mq2/api/"],
            ['FLOWER_BROKER_API="http://mq1/api/"', 'CELERYOPS_BROKER_APIS="http://mq1/api/;http://mq2/api/"'],
        ),
    ],
)
def test_flower_knows_the_first_node_and_its_configuration_all(urls: list[str], lines: list[str]) -> None:
    given = {"broker_url": "b", "broker_apis": urls, "credentials": [], "cookie_secret": ""}
    given |= dict.fromkeys(("result_backend", "sentinel_password"), "")
    assert render(ROLE / "templates" / "flower.env.j2", given).splitlines()[2:-2] == lines


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
    assert wrong(options={option: "x"}).variable == f"flower_options.{option}"


def test_absent_needs_no_broker_and_has_no_unit() -> None:
    result = planned(state="absent", broker_url="", basic_auth={})
    assert result["units"] == []


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1"])
def test_loopback_takes_short_passwords_and_no_tls(address: str) -> None:
    planned(address=address, basic_auth={"admin": "short"})


@pytest.mark.parametrize(
    ("changes", "key", "identity"),
    [
        ({"basic_auth": {}}, "basic_auth", "leaves-flower-open-to-everyone"),
        *(
            ({"basic_auth": {"admin": password}}, "basic_auth.admin", "cannot-be-a-password")
            for password in ("", None, "one,two", "pässword")
        ),
        ({"basic_auth": {"a:b": PASSWORD}}, "basic_auth.a:b", "cannot-be-a-users-name"),
        ({"address": EVERYWHERE}, "address", "lets-passwords-cross-the-network"),
        ({"address": "flower.example.org"}, "address", "not-an-ip-address"),
        ({"address": "10.0.0.5", "basic_auth": {"a": "short"}, **TLS}, "basic_auth.a", "guessable-password"),
        ({"tls_key": "/k"}, "tls_certificate", "missing-tls-file"),
        ({"tls_certificate": "/c"}, "tls_key", "missing-tls-file"),
        ({"tls_certificate": "c.pem", "tls_key": "/k"}, "tls_certificate", "not-an-absolute-path"),
        ({"tls_group": "root", **TLS}, "tls_group", "cannot-be-the-group"),
        *(({"port": port}, "port", "out-of-range") for port in (443, 1023, 65536)),
        ({"url_prefix": "a b"}, "url_prefix", "not-a-path"),
        *(({"cookie_secret": secret}, "cookie_secret", "cookie-secret-too-short") for secret in ("short", "c" * 31)),
        ({"broker_url": ""}, "broker_url", "missing"),
        ({"broker_url": "sqla+sqlite:///x"}, "broker_url", "not-a-broker-url"),
        ({"broker_api": "http://127.0.0.1:15672"}, "broker_api", "not-a-management-api-url"),
        ({"broker_api": "http://mq1/api/;http://mq2"}, "broker_api", "not-a-management-api-url"),
        *(({"memory_max": size}, "memory_max", "too-little-for-flower") for size in ("10M", 128 * 1024**2 - 1)),
        ({"memory_max": "much"}, "memory_max", "not-a-size"),
        ({"watchdog": "soon"}, "watchdog", "not-a-duration"),
        ({"state_save_interval": 1}, "state_save_interval", "too-short"),
        ({"options": {"natural_tme": True}}, "options.natural_tme", "no-option-of-flower"),
        ({"options": {"port": 80}}, "options.port", "set-by-the-role-itself"),
        *(
            ({"options": {"natural_time": value}}, "options.natural_time", "not-an-option-value")
            for value in (None, {"a": 1}, "a\nb", ["a\nb"])
        ),
        ({"hardening": {"DynamicUser": False}}, "hardening.DynamicUser", "set-by-the-role-itself"),
        *(({"app": name}, "app", "not-an-app-name") for name in ("a-b", "Shop")),
    ],
)
def test_a_mistake_is_named_and_no_secret_with_it(changes: dict[str, Any], key: str, identity: str) -> None:
    assert told([wrong(**changes)]) == [(identity, f"flower_{key}")]


@pytest.mark.parametrize(
    ("changes", "instead"),
    [
        ({"port": 443}, "1024 to 65535"),
        ({"memory_max": "10M"}, "128M"),
        ({"packages": ["flower>=2.2", "--index-url=https://u:s3cret@h/simple"]}, "requirements there only"),
        ({"packages": ["flower>=2.2", "x @ https://u:s3cret@h/x.whl"]}, "the address as flower_index_url"),
    ],
)
def test_a_mistake_says_what_to_write(changes: dict[str, Any], instead: str) -> None:
    assert wrong(**changes).instead.startswith(instead)


@pytest.mark.parametrize(
    "changes", [{"port": 1024}, {"port": 65535}, {"cookie_secret": "c" * 32}, {"memory_max": "128M"}]
)
def test_what_just_fits(changes: dict[str, Any]) -> None:
    planned(**changes)


def test_beyond_loopback_with_tls_or_with_a_plain_word() -> None:
    planned(address="10.0.0.5", **TLS)
    planned(address="10.0.0.5", allow_cleartext=True)


@pytest.mark.parametrize(
    ("url", "identity", "instead"),
    [
        ("amqp://w:s3/cret@mq:5672/shop", "unreadable-address", ""),
        ("amqp://w:s3cret@mq1/shop;amqp://w:s3;cret@mq2/shop", "unreadable-address", ""),
        ("amqp://w:s3cret@/shop", "names-no-host", ""),
        ("redis://w:s3cret@c:6379/shop", "names-a-database-of-redis", "redis://user:password@c:6379/0"),
        ("sentinel://w:s3cret@[fd00::1]/x", "names-a-database-of-redis", "sentinel://user:password@[fd00::1]:6379/0"),
        ("http://w:s3cret@mq/", "not-a-broker-url", ""),
        ("amqp://w:s3cret@mq/shop;http://w:s3cret@mq", "not-a-broker-url", ""),
    ],
)
def test_a_broker_that_flower_could_not_reach(url: str, identity: str, instead: str) -> None:
    problem = wrong(broker_url=url, broker_api="")
    assert told([problem]) == [(identity, "flower_broker_url")]
    assert problem.instead.startswith(instead)


def test_sentinels_need_the_shared_configuration() -> None:
    url = "sentinel://w:s3cret@s1:26379/0;sentinel://w:s3cret@s2:26379/0"
    assert told([wrong(broker_url=url, broker_api="")]) == [("sentinel-without-configuration", "flower_broker_url")]
    planned(broker_url=url, broker_api="", shared_configuration=True)


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
    problem = wrong(**{name: least - 1})
    assert told([problem]) == [("too-short", f"flower_{name}")]
    assert f" {least}s" in problem.reason


def test_a_watchdog_can_be_off() -> None:
    assert planned(watchdog=0)["service"]["watchdog"] == 0


@pytest.mark.parametrize("name", _OWN_OPTIONS)
def test_an_option_of_the_roles_own_says_what_decides_it(name: str) -> None:
    problem = wrong(options={name: "x"})
    assert told([problem]) == [("set-by-the-role-itself", f"flower_options.{name}")]
    assert problem.instead.startswith(_OWN_OPTIONS[name] or "nothing")
