"""The plan of the role celery_app: what follows from its variables, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.celeryops.stack.plugins.module_utils.endpoints import server_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.app_servers import broker_kind
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.setting_kinds import KINDS, UNLISTED
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans import (
    celery_app,
    celery_app_environment,
    celery_app_settings,
    celery_app_source,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.kernel_limits import LONGEST, size

ROLE = Path(__file__).resolve().parents[3] / "roles" / "celery_app"
SECRET = "hunter2hunter2"
BROKER = f"amqp://shop:{SECRET}@mq1:5672/shop"
BACKEND = f"redis://shop:{SECRET}@cache1:6379/0"


def variables(**own: Any) -> dict[str, Any]:
    """The role's variables as Ansible hands them over: defaults, templates replaced, and what the test sets."""
    given = {
        "name": "shop",
        "import": "shop.celery:app",
        "source": {"type": "pip", "packages": ["shop==1.4.2"]},
        "user": "shop",
        "group": "shop",
        "broker_url": BROKER,
        "result_backend": BACKEND,
        "key_prefix": "shop:",
        "queues": [],
        "install_environment": {},
        "longest_task": "30m",
        "prefetch_multiplier": 1,
        "visibility_timeout": "",
        **own,
    }
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    return defaults | {f"celery_app_{name}": value for name, value in given.items()}


def planned(**own: Any) -> dict[str, Any]:
    plan, problems = celery_app.plan(variables(**own), {})
    assert problems == []
    return plan


def settings(**own: Any) -> dict[str, Any]:
    found: dict[str, Any] = planned(**own)["configuration"]["settings"]
    return found


def refused(facts: dict[str, Any] | None = None, **own: Any) -> list[Problem]:
    plan, problems = celery_app.plan(variables(**own), facts or {})
    assert problems, "nothing was refused"
    assert plan == {}
    assert SECRET not in "\n".join(map(str, problems))
    return problems


def only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, [str(problem) for problem in problems]
    return problems[0]


# The names of Celery's settings


def test_the_setting_names_are_those_of_the_installed_celery() -> None:
    from celery.app.defaults import NAMESPACES, flatten

    flat = {
        name: option.type if isinstance(option.type, str) else option.type.__name__
        for name, option in flatten(NAMESPACES)
    }
    listed = {name: kind for name, kind in KINDS.items() if name not in UNLISTED}
    assert listed == flat
    assert sorted(set(UNLISTED) & set(flat)) == []


def test_the_unlisted_settings_are_read_by_celery() -> None:
    import celery.backends

    source = "".join(path.read_text() for path in Path(celery.backends.__path__[0]).glob("*.py"))
    assert [name for name in UNLISTED if f"'{name}'" not in source] == []


def test_every_setting_that_the_plan_sets_is_one_of_celerys() -> None:
    everything = settings() | settings(broker_url=BACKEND)
    assert sorted(set(everything) - set(KINDS)) == []
    assert not [
        problem
        for name, value in everything.items()
        for problem in celery_app_settings._kind_problems(name, name, value)  # what users' values are held against
    ]


def test_every_setting_that_another_variable_decides_exists() -> None:
    assert sorted(set(celery_app_settings.OWNED_SETTINGS) - set(KINDS)) == []


def test_every_variable_that_a_message_names_exists() -> None:
    known = set(yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"])
    texts = [
        *celery_app_settings.OWNED_SETTINGS.values(),
        *celery_app_settings.OWNED_KEYS.values(),
        *celery_app_environment.OWNED_ENVIRONMENT.values(),
    ]
    named = {word for text in texts for word in text.split() if word.startswith("celery_app_")}
    assert named
    assert sorted(named - known) == []


# What follows


def test_the_plan_holds_no_secret() -> None:
    environment = {"TOKEN": SECRET}
    source = {"type": "pip", "packages": ["shop"], "index_url": f"https://u:{SECRET}@pypi.example.org/simple"}
    assert SECRET not in json.dumps(planned(environment=environment, source=source))


def test_only_json_is_accepted_and_late_acknowledgement_is_the_rule() -> None:
    found = settings()
    assert found["accept_content"] == ["json"]
    assert {found[f"{kind}_serializer"] for kind in ("task", "result", "event")} == {"json"}
    assert found["task_acks_late"] is found["task_reject_on_worker_lost"] is True
    assert found["broker_connection_max_retries"] is None


def test_rabbitmq_gets_confirmed_publishing_timeouts_and_delayed_delivery() -> None:
    found = settings()
    assert found["broker_transport_options"] == {"confirm_publish": True, "read_timeout": 30, "write_timeout": 30}
    assert found["task_default_exchange_type"] == found["task_create_missing_queue_exchange_type"] == "topic"
    assert found["task_default_queue_type"] == found["broker_native_delayed_delivery_queue_type"] == "quorum"


def test_redis_as_broker_waits_longer_than_the_longest_eta_and_two_tasks() -> None:
    found = settings(broker_url=BACKEND, longest_eta="12h", longest_task="1h")
    options = found["broker_transport_options"]
    assert options["visibility_timeout"] == 12 * 3600 + 2 * 3600 + 600
    assert options["global_keyprefix"] == "shop:"
    assert options["socket_timeout"] > 0
    assert options["health_check_interval"] > 0
    assert "task_default_queue_type" not in found
    assert "confirm_publish" not in options


def test_the_result_store_has_the_apps_prefix() -> None:
    assert settings()["result_backend_transport_options"]["global_keyprefix"] == "shop:"
    assert "result_backend_transport_options" not in settings(result_backend="")


def test_own_settings_win_and_transport_options_are_merged() -> None:
    found = settings(settings={"task_acks_late": False, "broker_transport_options": {"read_timeout": 5}})
    assert found["task_acks_late"] is False
    assert found["broker_transport_options"] == {"confirm_publish": True, "read_timeout": 5, "write_timeout": 30}


def test_queues_come_from_everywhere_once_and_the_default_queue_first() -> None:
    document = planned(
        queues=["feeds", {"name": "legacy", "type": "classic"}, "default"],
        routes=[{"task": "shop.pay.*", "queue": "payments"}, {"task": "shop.feed", "queue": "feeds"}],
    )["queues"]
    assert document["queues"] == [
        {"name": "default", "type": "quorum"},
        {"name": "feeds", "type": "quorum"},
        {"name": "legacy", "type": "classic"},
        {"name": "payments", "type": "quorum"},
        {"name": "dead-letters", "type": "quorum"},
    ]
    assert document["routes"][0] == {"task": "shop.pay.*", "queue": "payments"}


def test_queues_on_redis_have_no_type_and_no_dead_letters() -> None:
    assert planned(broker_url=BACKEND, queues=["feeds"])["queues"]["queues"] == [
        {"name": "default"},
        {"name": "feeds"},
    ]


def test_a_queue_or_a_route_more_is_nothing_of_what_units_are_restarted_for() -> None:
    more = planned(queues=["feeds"], routes=[{"task": "shop.feed", "queue": "feeds"}])
    assert more["configuration"] == planned()["configuration"]
    assert more["queues"] != planned()["queues"]
    # The first quorum queue is another matter: delayed tasks wait in the broker then.
    classic = planned(queue_type="classic", queues=["feeds"])["configuration"]
    assert (more["configuration"]["quorum"], classic["quorum"]) == (True, False)
    first = planned(queue_type="classic", queues=[{"name": "feeds", "type": "quorum"}])["configuration"]
    assert first["quorum"] is True
    assert planned(broker_url=BACKEND)["configuration"]["quorum"] is False


def test_the_runtime_reads_what_the_plan_writes(tmp_path: Path) -> None:
    from celeryops_runtime.config_reader import load

    for broker in (BROKER, BACKEND):
        plan = planned(broker_url=broker, queues=["feeds"])
        for key, path in (("configuration", "settings"), ("queues", "queues")):
            (tmp_path / Path(plan["layout"][path]).name).write_text(json.dumps(plan[key]))
        assert [queue.name for queue in load(str(tmp_path / "celery.json")).queues][:2] == ["default", "feeds"]


def test_the_environment_names_loader_configuration_and_path() -> None:
    assert planned(python_path=["/srv/shop"])["environment"] == {
        "CELERY_LOADER": "celeryops_runtime.loader:Loader",
        "CELERYOPS_CONFIG": "/etc/celeryops/shop/celery.json",
        "PYTHONPATH": "/opt/celeryops/shop/runtime:/srv/shop",
    }


@pytest.mark.parametrize(
    ("source", "packages"),
    [
        ({"type": "pip"}, ["python3-venv"]),
        ({"type": "git", "repo": "https://git.example.org/shop"}, ["python3-venv", "git", "ca-certificates"]),
        (
            {"type": "git", "repo": "git@example.org:shop"},
            ["python3-venv", "git", "ca-certificates", "openssh-client"],
        ),
        ({"type": "virtualenv"}, []),
        (
            {"type": "pip", "packages": ["shop @ git+https://git.example.org/shop@v1"]},
            ["python3-venv", "git", "ca-certificates"],
        ),
        (
            {"type": "wheel", "requirements": "blog @ git+ssh://git@git.example.org/blog"},
            ["python3-venv", "git", "ca-certificates", "openssh-client"],
        ),
        ({"type": "path", "overrides": ["kombu @ git+https://h/kombu"]}, ["python3-venv", "git", "ca-certificates"]),
    ],
)
def test_packages_follow_from_the_source(source: dict[str, Any], packages: list[str]) -> None:
    assert celery_app_source.system_packages(source, []) == packages
    assert celery_app_source.system_packages(source, ["libpq5"]) == [*packages, "libpq5"]


def test_a_package_in_a_repository_needs_git() -> None:
    celery = ["celery[redis] @ git+https://git.example.org/celery"]
    assert planned(extra_packages=celery)["packages"] == ["python3-venv", "git", "ca-certificates"]
    assert planned()["packages"] == ["python3-venv"]


# What is refused


@pytest.mark.parametrize(
    "url",
    [
        f"db+postgresql://u:{SECRET}@h/d",
        f"sqla+postgresql://u:{SECRET}@h/d",
        f"postgresql://u:{SECRET}@h/d",
        "filesystem://localhost",
        "memory://",
        f"mongodb://u:{SECRET}@h",
        f"postgresql://{SECRET}@h/d",
        f"amqp:/u:{SECRET}@h",
        f"u:{SECRET}@h",
        "",
        f"amqp://u:{SECRET}/x@h:5672/v",
        "amqp:///shop",
        f"amqp://u:{SECRET}@h/v;redis://u:{SECRET}@h/0",
    ],
)
def test_a_url_that_is_no_broker_is_refused_without_showing_its_password(url: str) -> None:
    assert only(refused(broker_url=url)).variable == "celery_app_broker_url"


@pytest.mark.parametrize(
    "url",
    [
        "amqps://u:p@h:5671/v",
        "pyamqp://u:p@h//",
        "rediss://:p@h/0",
        "amqp://u:p@h1/v;amqp://u:p@h2/v",
        "amqp://u:p@[::1]:5672/v",
    ],
)
def test_brokers_are_accepted(url: str) -> None:
    assert planned(broker_url=url)["broker"] == server_of(url.split(":")[0])


@pytest.mark.parametrize(
    "url", ["file:///x", "db+sqlite:///x", "cache+memory://", "amqp://h", "nonsense", "redis:///0"]
)
def test_result_backends_that_cannot_work_are_refused(url: str) -> None:
    assert only(refused(result_backend=url)).variable == "celery_app_result_backend"


@pytest.mark.parametrize("path", ["", "/", "/0", "/15", "//3/"])
def test_databases_of_redis(path: str) -> None:
    planned(broker_url=f"redis://u:p@h{path}", result_backend=f"rediss://u:p@h:6380{path}")


@pytest.mark.parametrize("path", ["/shop", "/-1", "/0/1", "/1a"])
def test_what_is_no_database_of_redis(path: str) -> None:
    for variable in ("broker_url", "result_backend"):
        problem = only(refused(**{variable: f"redis://u:{SECRET}@h:6379{path}"}))
        assert (problem.variable, problem.value) == (f"celery_app_{variable}", f"redis://***@h:6379{path}")
        assert problem.reason == "names a Redis database that is not a number"
        assert problem.instead == "redis://user:password@h:6379/0"
    planned(broker_url="amqp://u:p@h/shop")


def test_a_password_with_a_slash_behind_digits_is_no_database() -> None:
    problem = only(refused(result_backend=f"redis://u:6379/{SECRET}@h/0"))
    assert "must be percent-encoded" in problem.reason
    assert problem.instead == "the password through urlencode | replace('/', '%2F')"
    # kombu takes the beginning for the host, whatever was meant.
    assert "must be percent-encoded" in only(refused(broker_url="amqp://h/vhost@shop")).reason
    planned(broker_url="amqp://h/vhost%40shop")


@pytest.mark.parametrize("variable", ["result_backend", "once_url"])
def test_results_in_redis_have_one_address(variable: str) -> None:
    for url in (
        f"redis://u:{SECRET}@h/0;rediss://u:{SECRET}@i/0",
        f"sentinel://u:{SECRET}@h/0;redis://u:{SECRET}@i/0",
        f"redis://u:{SECRET}@h/0; redis://u:{SECRET}@i/0",
    ):
        named = {"result_backend_transport_options": {"master_name": "shop"}}
        problem = only(refused(**{variable: url}, settings=named))
        assert problem.variable == f"celery_app_{variable}"
        assert problem.value == ";".join(part.strip().replace(f"u:{SECRET}", "***") for part in url.split(";"))
        assert problem.reason == "has several addresses, and results in Redis take one: every access would fail"
    planned(**{variable: "redis://h/0;"})
    if variable == "result_backend":
        planned(result_backend="db+postgresql://h/a;db+postgresql://i/a")


def test_sentinels_are_asked_for_a_name() -> None:
    url = f"sentinel://:{SECRET}@h:26379/0;sentinel://:{SECRET}@i:26379/0"
    named = {"master_name": "shop"}
    for variable, setting in (
        ("broker_url", "broker_transport_options"),
        ("result_backend", "result_backend_transport_options"),
    ):
        problem = only(refused(**{variable: url}))
        assert (problem.variable, problem.value) == (f"celery_app_{variable}", "sentinel://***@h:26379/0")
        assert problem.instead == f"master_name in celery_app_settings.{setting} as well"
        assert only(refused(**{variable: url}, settings={setting: {"master_name": ""}})) == problem
        planned(**{variable: url}, settings={setting: named})


@pytest.mark.parametrize("url", ["redis+socket:///run/redis.sock", "redis+socket://:p@/run/redis.sock?virtual_host=3"])
def test_results_behind_a_unix_socket(url: str) -> None:
    planned(result_backend=url)
    found, by_network = settings(result_backend=url), settings()
    assert {name for name in by_network if name not in found} == {"redis_socket_keepalive"}
    assert only(refused(result_backend=url, once={"shop.nightly": "20h"})).variable == "celery_app_once"


@pytest.mark.parametrize("rest", ["", "/", "/?virtual_host=3", "h", "h/"])
def test_a_unix_socket_has_a_path(rest: str) -> None:
    problem = only(refused(result_backend=f"redis+socket://{rest}"))
    assert (problem.variable, problem.reason) == ("celery_app_result_backend", "names no socket")
    assert problem.instead == "redis+socket:///run/redis/redis-server.sock?virtual_host=0"


@pytest.mark.parametrize("name", ["broker_url", "result_backend", "once_url"])
def test_an_address_that_no_process_could_be_handed_is_refused(name: str) -> None:
    variable = "CELERYOPS_ONCE_URL" if name == "once_url" else f"CELERY_{name.upper()}"
    url = "redis://cache1/0?note="
    url += "x" * (LONGEST - size(variable, url))
    assert planned(**{name: url})
    problem = only(refused(**{name: f"{url}x"}))
    assert (problem.variable, problem.value) == (f"celery_app_{name}", "(not shown)")
    assert problem.reason == f"is longer than the {LONGEST} bytes that the kernel hands to a process"
    assert only(refused(**{name: f"{url}xx"})).reason == problem.reason


def test_a_unix_socket_that_can_be_read_in_two_ways_is_refused() -> None:
    problem = only(refused(result_backend="redis+socket://:s3@cret/run/a@b.sock"))
    assert problem.reason.startswith("cannot be read: ")
    planned(result_backend="redis+socket://:s3%40cret@/run/a%40b.sock")


@pytest.mark.parametrize("url", ["", "rediss://h/0", "db+postgresql+psycopg://u:p@h/d", "rpc://", "mongodb://h/x"])
def test_result_backends_that_can_work_are_accepted(url: str) -> None:
    planned(result_backend=url)


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("task_ackslate", True, "task_acks_late (did you mean that?)"),
        ("CELERY_TASK_ACKS_LATE", True, "task_acks_late (did you mean that?)"),
        ("redbeat_lock_timeout", 5, "celery_app_extra_setting_names"),
        ("broker_url", f"amqp://u:{SECRET}@h", "celery_app_broker_url"),
        ("task_routes", {"a": "b"}, "celery_app_routes"),
        ("task_queues", [], "celery_app_queues"),
        ("worker_concurrency", 3, "celery_worker_classes"),
        ("task_acks_late", "yes", "true or false"),
        ("result_cache_max", "5", "a number"),
        ("timezone", 1, "text"),
        ("beat_schedule", [], "key: value"),
        ("include", "shop.tasks", "a list"),
        ("redis_password", SECRET, "celery_app_result_backend"),
        ("security_key_password", SECRET, "celery_app_environment"),
        ("mongodb_backend_settings", {"user": "x", "password": SECRET}, "celery_app_environment"),
        ("broker_transport_options", {"sentinel_kwargs": {"password": SECRET}}, "celery_app_environment"),
        ("broker_transport_options", {"visibility_timeout": 1}, "celery_app_visibility_timeout"),
        ("broker_failover_strategy", f"redis://u:{SECRET}@h", "celery_app_environment"),
        ("result_chord_retry_interval", float("inf"), "null for none"),
    ],
)
def test_settings_that_are_refused(name: str, value: Any, instead: str) -> None:
    problem = only(refused(settings={name: value}))
    assert problem.variable.startswith(f"celery_app_settings.{name}")
    assert instead in problem.instead


def test_an_extensions_settings_can_be_named_but_not_to_get_around_the_plan() -> None:
    assert (
        settings(settings={"redbeat_lock_timeout": 5}, extra_setting_names=["redbeat_lock_timeout"])[
            "redbeat_lock_timeout"
        ]
        == 5
    )
    problems = refused(settings={"task_routes": {}}, extra_setting_names=["task_routes"])
    assert {problem.variable for problem in problems} == {
        "celery_app_extra_setting_names",
        "celery_app_settings.task_routes",
    }


def test_ssl_may_be_true_or_options() -> None:
    assert settings(settings={"broker_use_ssl": {"ca_certs": "/x"}})["broker_use_ssl"] == {"ca_certs": "/x"}
    assert settings(settings={"broker_use_ssl": True})["broker_use_ssl"] is True


def test_a_queue_that_ends_in_another_queues_name_is_refused_on_rabbitmq_only() -> None:
    problem = only(refused(queues=["eu.high", "high"]))
    assert problem.value == "eu.high"
    planned(queues=["eu.high", "high"], broker_url=BACKEND)
    planned(queues=["eu-high", "high", "high.eu"])


@pytest.mark.parametrize("name", ["a b", "", "a.", "#", "*", "celery_delayed_1", "amq.x", "dead-letters", "x" * 101, 5])
def test_queue_names_that_are_refused(name: Any) -> None:
    refused(queues=[name])


def test_on_redis_the_list_of_the_dead_letters_is_no_queue() -> None:
    other = {"dead_letter_queue": "morgue", "queues": ["dead-letters"]}
    assert only(refused(**other, broker="redis", broker_url=BACKEND)).value == "dead-letters"
    planned(**other)


def test_a_key_of_a_queue_that_does_not_exist_is_refused() -> None:
    assert only(refused(queues=[{"name": "a", "typ": "classic"}])).variable == "celery_app_queues.typ"
    assert only(refused(queues=[{"name": "a", "type": "stream"}])).value == "stream"
    assert only(refused(queues=[{"type": "quorum"}])).variable == "celery_app_queues"


@pytest.mark.parametrize(
    ("first", "second"), [("shop.*", "shop.pay.*"), ("shop.pay", "shop.pay"), ("*", "a"), ("a.*.c", "a.b.c")]
)
def test_a_route_that_is_never_reached_is_refused(first: str, second: str) -> None:
    problem = only(refused(routes=[{"task": first, "queue": "x"}, {"task": second, "queue": "y"}]))
    assert problem.value == second
    if first != second:
        planned(routes=[{"task": second, "queue": "y"}, {"task": first, "queue": "x"}])


@pytest.mark.parametrize("task", ["", "a b", "shop.?", "shop.[ab]"])
def test_routes_that_are_no_pattern_are_refused(task: str) -> None:
    assert only(refused(routes=[{"task": task, "queue": "x"}])).variable == "celery_app_routes"


@pytest.mark.parametrize("user", ["root", "www-data", "sudo", "systemd-network", "Shop", "1shop", "rabbitmq", "a" * 33])
def test_accounts_that_are_refused(user: str) -> None:
    assert only(refused(user=user)).variable == "celery_app_user"


@pytest.mark.parametrize("name", ["Shop", "my-app", "", "a" * 26, "1a"])
def test_app_names_that_are_refused(name: str) -> None:
    problem = only(refused(name=name))
    assert problem.variable == "celery_app_name"
    assert problem.reason.startswith("is ")
    assert not problem.reason.startswith("is  ")


@pytest.mark.parametrize("value", ["shop.celery:", "shop/celery.py", "shop celery", ""])
def test_imports_that_are_refused(value: str) -> None:
    assert only(refused(**{"import": value})).variable == "celery_app_import"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("C_FORCE_ROOT", "1"),
        ("CELERY_BROKER_URL", SECRET),
        ("CELERYOPS_X", "1"),
        ("PYTHONPATH", "/x"),
        ("NOTIFY_SOCKET", "/x"),
        ("A-B", "1"),
        ("A", True),
        ("A", None),
        ("A", ["x"]),
        ("A", f"{SECRET}\x00"),
        ("A", f"{SECRET}\r"),
    ],
)
def test_environment_variables_that_are_refused(name: str, value: Any) -> None:
    assert only(refused(environment={name: value})).variable == f"celery_app_environment.{name}"


def test_environment_variables_may_have_several_lines_and_be_numbers() -> None:
    planned(environment={"KEY": "-----BEGIN\nx\n", "PORT": 80})


@pytest.mark.parametrize("name", ["longest_eta", "longest_task", "result_expires"])
def test_durations_that_cannot_be_read_are_refused(name: str) -> None:
    assert only(refused(**{name: "5x"})).variable == f"celery_app_{name}"


@pytest.mark.parametrize(
    ("package", "instead"),
    [
        (f"--index-url=https://u:{SECRET}@h/simple", "options in requirements of celery_app_source"),
        (" -e .", "options in requirements of celery_app_source"),
        (f"x\n--index-url=https://u:{SECRET}@h/simple", "options in requirements of celery_app_source"),
        (f"x @ https://u:{SECRET}@h/x.whl", "the address as index_url of celery_app_source"),
    ],
)
def test_extra_packages_that_are_refused(package: str, instead: str) -> None:
    problem = only(refused(extra_packages=["celery[redis]>=5.7", package]))
    assert (problem.variable, problem.instead) == ("celery_app_extra_packages", instead)
    assert SECRET not in str(problem)


def test_extra_packages_may_have_an_address() -> None:
    planned(extra_packages=["x @ https://h:8443/x.whl", "y @ git+ssh://git@h/y"])


@pytest.mark.parametrize(
    ("source", "variable"),
    [
        ({"type": "pip"}, "celery_app_source"),
        ({"type": "pip", "packages": ["shop"], "path": "x"}, "celery_app_source.path"),
        ({"type": "pip", "packages": ["--pre"]}, "celery_app_source.packages"),
        ({"type": "pip", "packages": [f"shop @ https://u:{SECRET}@h/x.whl"]}, "celery_app_source.packages"),
        ({"type": "pip", "packages": ["shop"], "require_hashes": True}, "celery_app_source.require_hashes"),
        ({"type": "pip", "packages": ["shop"], "deploy_key": SECRET}, "celery_app_source.deploy_key"),
        ({"type": "wheel"}, "celery_app_source.path"),
        ({"type": "wheel", "path": "dist/shop.tar.gz"}, "celery_app_source.path"),
        ({"type": "git", "version": "v1"}, "celery_app_source.repo"),
        ({"type": "git", "repo": "https://h/x"}, "celery_app_source.version"),
        ({"type": "git", "repo": "--upload-pack=x", "version": "v1"}, "celery_app_source.repo"),
        ({"type": "git", "repo": "https://h/x", "version": "--x"}, "celery_app_source.version"),
        ({"type": "path", "path": "x", "subdirectory": "../y"}, "celery_app_source.subdirectory"),
        ({"type": "path", "path": "x", "requirements_file": "/etc/x"}, "celery_app_source.requirements_file"),
        ({"type": "virtualenv", "path": "venv"}, "celery_app_source.path"),
        ({"type": "virtualenv", "path": "/v", "packages": ["x"]}, "celery_app_source.packages"),
    ],
)
def test_sources_that_are_refused(source: dict[str, Any], variable: str) -> None:
    assert only(refused(source=source)).variable == variable


def test_the_examples_of_sources_are_accepted() -> None:
    for kind in celery_app_source.SOURCE_KEYS:
        planned(source=yaml.safe_load(celery_app_source._source_example(kind)))


def test_every_key_of_a_source_belongs_to_a_type() -> None:
    specs = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    known = set(specs["celery_app_source"]["options"]) - {"type"}
    assert set().union(*(needed | more for needed, more in celery_app_source.SOURCE_KEYS.values())) == known
    assert set(celery_app_source.SOURCE_KEYS) == set(specs["celery_app_source"]["options"]["type"]["choices"])


@pytest.mark.parametrize("prefix", ["shop", "shop_", "", "s h:"])
def test_prefixes_that_broker_and_results_would_read_differently_are_refused(prefix: str) -> None:
    assert only(refused(key_prefix=prefix)).variable == "celery_app_key_prefix"


def test_other_limits() -> None:
    assert only(refused(keep_releases=0)).variable == "celery_app_keep_releases"
    assert only(refused(exchange="amq.topic")).variable == "celery_app_exchange"
    assert only(refused(python_path=["srv"])).variable == "celery_app_python_path"
    assert only(refused(install_environment={"A B": "x"})).variable == "celery_app_install_environment"


@pytest.mark.parametrize(
    ("name", "major", "fine"),
    [("Debian", "11", False), ("Fedora", "42", False), ("Debian", "12", True), ("Debian", "forky/sid", True)],
)
def test_platforms(name: str, major: str, fine: bool) -> None:
    facts = {"distribution": name, "distribution_major_version": major}
    _plan, problems = celery_app.plan(variables(), facts)
    assert bool(problems) is not fine


def test_all_mistakes_come_at_once() -> None:
    problems = refused(name="X-", user="root", broker_url="sqlite://x", settings={"nope": 1}, longest_eta="x")
    assert len({problem.variable for problem in problems}) == 5


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("accept_content", ["json", "pickle"], "pickle"),
        ("accept_content", ["application/x-python-serialize"], "application/x-python-serialize"),
        ("result_accept_content", ["json", "Pickle"], "Pickle"),
        ("task_serializer", "pickle", "pickle"),
        ("result_serializer", "pickle", "pickle"),
        ("event_serializer", "pickle", "pickle"),
    ],
)
def test_pickle_is_refused_wherever_it_can_be_named(name: str, value: Any, shown: str) -> None:
    problem = only(refused(settings={name: value}))
    assert problem.variable == f"celery_app_settings.{name}"
    assert problem.value == shown
    assert problem.reason == "runs whatever code the sender of a message puts into it"


def test_other_serializers_are_the_users_choice() -> None:
    found = settings(settings={"accept_content": ["json", "msgpack", "yaml"], "task_serializer": "msgpack"})
    assert (found["accept_content"], found["task_serializer"]) == (["json", "msgpack", "yaml"], "msgpack")


# What exactly is set and said


def told(**own: Any) -> list[str]:
    """Return the mistakes as a person reads them, without the name of the role's variables."""
    return [str(problem).removeprefix("celery_app_") for problem in refused(**own)]


def test_what_every_app_is_promised() -> None:
    promised = {
        "accept_content": ["json"],
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "worker_prefetch_multiplier": 1,
        "worker_soft_shutdown_timeout": 0.0,
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": 10,
        "task_default_queue": "default",
        "task_default_exchange": "tasks",
        "task_default_routing_key": "default",
        "result_expires": 86400,
        "task_store_errors_even_if_ignored": True,
        "control_queue_exclusive": True,
        "event_queue_exclusive": True,
    }
    on_rabbitmq = {
        "broker_transport_options": {"confirm_publish": True, "read_timeout": 30, "write_timeout": 30},
        "worker_detect_quorum_queues": True,
    }
    on_redis = {
        "broker_transport_options": {
            "global_keyprefix": "shop:",
            "health_check_interval": 10,
            "socket_connect_timeout": 10,
            "socket_keepalive": True,
            "socket_timeout": 30,
            "visibility_timeout": 3600 + 2 * 1800 + 600,
        }
    }
    in_redis = {
        "result_backend_always_retry": True,
        "redis_socket_timeout": 10,
        "redis_socket_connect_timeout": 10,
        "redis_socket_keepalive": True,
        "redis_retry_on_timeout": False,
        "redis_backend_health_check_interval": 10,
        "result_backend_transport_options": {"global_keyprefix": "shop:"},
    }
    found = settings()
    assert {name: found[name] for name in {**promised, **on_rabbitmq, **in_redis}} == {
        **promised,
        **on_rabbitmq,
        **in_redis,
    }
    found = settings(broker_url=BACKEND, result_backend="rpc://")
    assert {name: found[name] for name in {**promised, **on_redis}} == {**promised, **on_redis}
    assert not (on_rabbitmq.keys() - on_redis.keys() | in_redis.keys()) & found.keys()


IN_SENTINELS: dict[str, Any] = {
    "result_backend": "sentinel://a:26379/0;sentinel://b:26379/0",
    "settings": {"result_backend_transport_options": {"master_name": "cache"}},
}


def test_a_sentinel_that_does_not_answer_is_not_waited_for() -> None:
    times = {"socket_timeout": 10, "socket_connect_timeout": 10}
    own = {"master_name": "cache", "sentinel_kwargs": {"ssl": True, "socket_timeout": 3}}
    for given, expected in (({}, times), (own, {**times, "ssl": True, "socket_timeout": 3})):
        options = {"master_name": "cache", **given}
        found = settings(result_backend="sentinel://a:26379/0", settings={"result_backend_transport_options": options})
        assert found["result_backend_transport_options"]["sentinel_kwargs"] == expected
    assert "sentinel_kwargs" not in settings()["result_backend_transport_options"]


def test_results_in_several_sentinels_are_results_in_redis() -> None:
    assert settings(**IN_SENTINELS)["redis_socket_timeout"] == 10


def test_the_first_address_tells_the_broker() -> None:
    kinds = [broker_kind(url) for url in ("redis://a/0;amqp://b/", "amqp://a/;redis://b/0", "nonsense", "")]
    assert kinds == ["redis", "rabbitmq", "rabbitmq", "rabbitmq"]


def test_a_visibility_timeout_that_is_given_counts() -> None:
    options = settings(broker_url=BACKEND, visibility_timeout="4h")["broker_transport_options"]
    assert options["visibility_timeout"] == 4 * 3600


def test_rules_are_part_of_the_configuration_where_there_are_any() -> None:
    assert not {"once", "results"} & planned()["configuration"].keys()
    found = planned(once={"shop.nightly": "20h"}, results={"shop.*": "ignore"})["configuration"]
    assert found["once"]["prefix"] == "shop:"
    assert [(rule["task"], rule["period"]) for rule in found["once"]["rules"]] == [("shop.nightly", 72000)]
    assert found["results"] == [{"task": "shop.*", "result": "ignore"}]


def test_only_transport_options_are_merged() -> None:
    base = {"x_transport_options": {"a": 1, "b": 1}, "task_annotations": {"a": 1}}
    own = {"x_transport_options": {"b": 2}, "task_annotations": {"b": 2}}
    assert celery_app_settings.merged_settings(base, own) == {
        "x_transport_options": {"a": 1, "b": 2},
        "task_annotations": {"b": 2},
    }
    assert celery_app_settings.merged_settings(base, {"x_transport_options": "none"})["x_transport_options"] == "none"
    # Ansible's own types of texts are no business of the renderer.
    tagged = type("Tagged", (str,), {})
    merged = celery_app_settings.merged_settings({}, {tagged("timezone"): tagged("UTC")})
    assert [type(entry) for pair in merged.items() for entry in pair] == [str, str]
    plain = {"timezone": None, "include": ("a", True, 1, 1.5, None)}
    assert celery_app_settings.merged_settings({}, plain) == {"timezone": None, "include": ["a", True, 1, 1.5, None]}


REDIS_ONLY = "redis://user:password@host:6379/0 (rediss:// for TLS)"
TESTS_ONLY = "is a transport for tests, which no other host can reach"
DATABASE = "is a database, which loses tasks and is slow as a queue"


@pytest.mark.parametrize(
    ("url", "value", "reason"),
    [
        (f"mongodb://u:{SECRET}@h/x", "mongodb://***@h/x", "is not a broker that this collection supports"),
        (f"sqla+postgresql://u:{SECRET}@h/x@y", "sqla+postgresql://***@y", DATABASE),
        ("database://h/x", "database://h/x", DATABASE),
        ("sqlite:///x", "sqlite:///x", DATABASE),
        ("memory://", "memory://", TESTS_ONLY),
        ("filesystem://h", "filesystem://h", TESTS_ONLY),
        ("amqp://h1/a;redis://h2/0", "amqp://h1/a;redis://h2/0", "mixes brokers"),
        ("redis://h1/0;redis:///0", "redis:///0", "names no host"),
        ("shop", "(no scheme, not shown)", "is not a broker that this collection supports"),
    ],
)
def test_what_is_wrong_with_the_url_of_a_broker(url: str, value: str, reason: str) -> None:
    problem = only(refused(broker_url=url))
    assert (problem.value, problem.reason) == (value, reason)


def test_a_broker_and_its_url_are_one() -> None:
    planned(broker="rabbitmq")
    planned(broker="redis", broker_url=BACKEND)
    assert told(broker="redis") == [
        (
            "broker: 'redis' is not where celery_app_broker_url leads to, which is rabbitmq; write rabbitmq, or leave "
            "it out"
        )
    ]
    assert only(refused(broker="redis", broker_url="nonsense")).variable == "celery_app_broker_url"


@pytest.mark.parametrize("url", ["django-db", "django-cache", "shop.backends:Results"])
def test_result_backends_of_packages_are_accepted(url: str) -> None:
    planned(result_backend=url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///x", "can be read on one host, or in one process, only"),
        ("filesystem:///x", "can be read on one host, or in one process, only"),
        ("cache+memory://", "can be read on one host, or in one process, only"),
        ("memory://", "can be read on one host, or in one process, only"),
        ("db+sqlite:///x", "can be read on one host, or in one process, only"),
        ("db+sqlite+x:///x", "can be read on one host, or in one process, only"),
        ("amqp://h", "is not a result backend of Celery 5.7"),
        ("nonsense", "is not an address, and no result backend of a package that is known here"),
    ],
)
def test_what_is_wrong_with_a_result_backend(url: str, reason: str) -> None:
    assert only(refused(result_backend=url)).reason == reason


def test_once_needs_a_redis_of_its_own_or_that_of_the_results() -> None:
    once = {"shop.nightly": "20h"}
    planned(once=once)
    planned(once=once, result_backend="rpc://", once_url="redis://h/0")
    planned(once=once, **IN_SENTINELS)
    assert only(refused(once=once, result_backend="rpc://")).variable == "celery_app_once"
    assert told(once_url=f"amqp://u:{SECRET}@h/") == [f"once_url: 'amqp://***@h/' is not a Redis; write {REDIS_ONLY}"]
    assert only(refused(once_url="redis:///0")).reason == "names no host"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            {"type": "pip", "packages": ["shop"], "subdirectory": "x"},
            (
                "source.subdirectory: 'x' does not belong to type pip; write it with type git or path only, or leave "
                "it out"
            ),
        ),
        (
            {"type": "pip", "packages": ["shop"], "colour": 1},
            "source.colour: 1 does not belong to type pip; write nothing there",
        ),
        (
            {"type": "pip", "packages": ["shop"], "require_hashes": True},
            "source.require_hashes: True but no requirement has a hash; write --hash=sha256:... behind each",
        ),
    ],
)
def test_what_is_wrong_with_a_source(source: dict[str, Any], message: str) -> None:
    assert told(source=source) == [message]


@pytest.mark.parametrize(
    "source",
    [
        {"type": "pip", "packages": ["shop --hash=sha256:00"], "require_hashes": True},
        {"type": "pip", "requirements": "shop --hash=sha256:00", "require_hashes": True},
        {"type": "path", "path": "x", "requirements_file": "requirements.txt", "require_hashes": True},
        {"type": "virtualenv", "path": "/v", "require_hashes": False, "packages": [], "extras": None},
    ],
)
def test_sources_that_are_accepted(source: dict[str, Any]) -> None:
    planned(source=source)


def test_a_switch_that_belongs_to_another_type_is_told() -> None:
    found = refused(source={"type": "virtualenv", "path": "/v", "require_hashes": True})
    assert "does not belong to type virtualenv" in [problem.reason for problem in found]


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        ("root", "amounts to root"),
        ("docker", "amounts to root"),
        ("www-data", "belongs to the system"),
        ("systemd-x", "belongs to the system"),
    ],
)
def test_why_an_account_is_refused(user: str, reason: str) -> None:
    assert only(refused(user=user)).reason == reason


@pytest.mark.parametrize(("name", "major"), [("Debian", "13"), ("Ubuntu", "9"), ("Ubuntu", "24")])
def test_newer_platforms(name: str, major: str) -> None:
    facts = {"distribution": name, "distribution_major_version": major}
    assert celery_app.plan(variables(), facts)[1] == []


def test_one_wrong_queue_or_route_hides_no_other() -> None:
    found = refused(queues=[{"type": "quorum"}, {"name": "a", "type": "stream"}])
    assert [problem.reason for problem in found] == ["has no name", "is not a queue type"]
    found = refused(routes=[{"task": task, "queue": "x"} for task in ("", "a.*", "a.b.*", "a.b.c", "a.*")])
    assert [(problem.value, problem.instead) for problem in found[1:]] == [
        ("a.b.*", "it above that route"),
        ("a.b.c", "it above that route"),
        ("a.*", "it once"),
    ]


def test_what_is_no_duration_is_nothing_meanwhile() -> None:
    values = {"longest_eta": "x", "longest_task": "", "result_expires": "1d", "visibility_timeout": ""}
    read, problems = celery_app_settings.durations(values)
    assert read == {"longest_eta": 0, "longest_task": 0, "result_expires": 86400, "visibility_timeout": 0}
    assert [(problem.variable, problem.reason) for problem in problems] == [
        ("celery_app_longest_eta", "is not a duration"),
        ("celery_app_longest_task", "is not a duration"),
    ]


@pytest.mark.parametrize(("number", "wrong"), [(0, True), (1, False), (10_000, False), (10_001, True)])
def test_what_a_worker_may_take_in_advance(number: int, wrong: bool) -> None:
    _plan, problems = celery_app.plan(variables(prefetch_multiplier=number), {})
    told = [
        f"celery_app_prefetch_multiplier: {number} is out of range; write how many messages per process, 1 to 10000"
    ]
    assert [str(problem) for problem in problems] == told * wrong
    if not wrong:
        assert settings(prefetch_multiplier=number)["worker_prefetch_multiplier"] == number


def test_one_release_is_the_least_that_stays() -> None:
    planned(keep_releases=1)


def test_the_dead_letter_queue_is_a_queue_of_rabbitmq() -> None:
    assert only(refused(dead_letter_queue="a b")).variable == "celery_app_dead_letter_queue"
    planned(dead_letter_queue="a b", broker_url=BACKEND)


def test_a_cache_of_django_is_named_where_results_are_in_one() -> None:
    planned(result_backend="django-cache", settings={"cache_backend": "default"})
    assert only(refused(settings={"cache_backend": "default"})).value == "default"
    assert only(refused(result_backend="django-cache", settings={"redis_db": 1})).value == 1


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("worker_concurrency", 3, 3),
        ("redis_password", SECRET, "(not shown)"),
        ("broker_url", SECRET, "(not shown)"),
        ("database_url", SECRET, "(not shown)"),
        ("result_backend", SECRET, "(not shown)"),
        ("nothing_of_celery", True, True),
        ("nothing_of_celery", 5, 5),
        ("nothing_of_celery", 0.5, 0.5),
        ("nothing_of_celery", SECRET, "(not shown)"),
        ("nothing_of_celery", [SECRET], "(not shown)"),
    ],
)
def test_what_may_be_a_secret_is_not_shown(name: str, value: Any, shown: Any) -> None:
    assert only(refused(settings={name: value})).value == shown


def test_one_wrong_setting_hides_no_other() -> None:
    wrong = {"broker_url": "x", "nope": 1, "security_key_password": SECRET, "task_acks_late": "yes"}
    assert [problem.variable.rpartition(".")[2] for problem in refused(settings=wrong)] == list(wrong)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("task_acks_late", {"a": 1}, "is not true or false"),
        ("broker_use_ssl", "yes", "is not true or false"),
        ("result_cache_max", [1], "is not a number"),
        ("result_cache_max", True, "is not a number"),
        ("result_cache_max", 1.5, "is not a whole number"),
        ("cassandra_port", True, "is not text"),
        ("cassandra_port", {"a": 1}, "is not text"),
        ("cassandra_auth_kwargs", ["a"], "is not text"),
        ("timezone", {"a": 1}, "is not text"),
        ("beat_schedule", {1: "x"}, "cannot be written as JSON"),
        ("beat_schedule", {"x": {1, 2}}, "cannot be written as JSON"),
        ("task_annotations", [float("inf")], "cannot be written as JSON"),
    ],
)
def test_kinds_that_a_setting_is_not_of(name: str, value: Any, reason: str) -> None:
    assert only(refused(settings={name: value})).reason == reason


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cassandra_port", 9042),
        ("task_default_rate_limit", "10/m"),
        ("cassandra_auth_kwargs", {"username": "x"}),
        ("database_engine_options", {"a": [None, True, 1, 1.5, "x", {"b": None}]}),
        ("timezone", None),
        ("beat_schedule", {}),
        ("include", ["a"]),
    ],
)
def test_kinds_that_a_setting_may_be_of(name: str, value: Any) -> None:
    assert settings(settings={name: value})[name] == value


@pytest.mark.parametrize(
    ("value", "fits"),
    [("\x1f", False), (" ", True), ("!", True), ("~", True), ("\x7f", False), ("\x80", True), ("\t\n", True)],
)
def test_control_characters_stay_out_of_the_environment(value: str, fits: bool) -> None:
    _plan, problems = celery_app.plan(variables(environment={"A": f"a{value}b"}), {})
    assert [problem.reason for problem in problems] == (
        [] if fits else ["contains a control character, which systemd refuses"]
    )


def test_an_apps_own_routes_may_lead_to_what_somebody_consumes() -> None:
    plan = planned(routes="from-app", queues=["payments"])
    assert plan["queues"]["routes"] == "from-app"
    assert [queue["name"] for queue in plan["queues"]["queues"]] == ["default", "payments", "dead-letters"]
    assert plan["consumed"] == ["default", "payments"]
