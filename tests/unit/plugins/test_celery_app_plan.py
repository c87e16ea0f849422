"""The plan of the role celery_app: what follows from its variables, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery_settings import KINDS, UNLISTED
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans import celery_app
from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import Problem

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
        for problem in celery_app._kind_problems(name, name, value)  # what users' values are held against
    ]


def test_every_setting_that_another_variable_decides_exists() -> None:
    assert sorted(set(celery_app.OWNED_SETTINGS) - set(KINDS)) == []


def test_every_variable_that_a_message_names_exists() -> None:
    known = set(yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"])
    texts = [
        *celery_app.OWNED_SETTINGS.values(),
        *celery_app.OWNED_KEYS.values(),
        *celery_app.OWNED_ENVIRONMENT.values(),
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
    )["configuration"]
    assert document["queues"] == [
        {"name": "default", "type": "quorum"},
        {"name": "feeds", "type": "quorum"},
        {"name": "legacy", "type": "classic"},
        {"name": "payments", "type": "quorum"},
        {"name": "dead-letters", "type": "quorum"},
    ]
    assert document["routes"][0] == {"task": "shop.pay.*", "queue": "payments"}


def test_queues_on_redis_have_no_type_and_no_dead_letters() -> None:
    assert planned(broker_url=BACKEND, queues=["feeds"])["configuration"]["queues"] == [
        {"name": "default"},
        {"name": "feeds"},
    ]


def test_the_runtime_reads_what_the_plan_writes() -> None:
    from celeryops_runtime.config import parse

    for broker in (BROKER, BACKEND):
        document = json.loads(json.dumps(planned(broker_url=broker, queues=["feeds"])["configuration"]))
        assert [queue.name for queue in parse(document).queues][:2] == ["default", "feeds"]


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
    ],
)
def test_packages_follow_from_the_source(source: dict[str, Any], packages: list[str]) -> None:
    assert celery_app.system_packages(source, []) == packages
    assert celery_app.system_packages(source, ["libpq5"]) == [*packages, "libpq5"]


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
    assert planned(broker_url=url)["broker"] == celery_app.BROKERS[url.split(":")[0]]


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
        assert problem.reason == "names a database of Redis that is no number"
        assert problem.instead == "redis://user:password@h:6379/0"
    planned(broker_url="amqp://u:p@h/shop")


def test_a_password_with_a_slash_behind_digits_is_no_database() -> None:
    problem = only(refused(result_backend=f"redis://u:6379/{SECRET}@h/0"))
    assert "must be percent-encoded" in problem.reason
    planned(broker_url="amqp://h/vhost@shop")


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
    assert only(refused(name=name)).variable == "celery_app_name"


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
    for kind in celery_app.SOURCE_KEYS:
        planned(source=yaml.safe_load(celery_app._source_example(kind)))


def test_every_key_of_a_source_belongs_to_a_type() -> None:
    specs = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    known = set(specs["celery_app_source"]["options"]) - {"type"}
    assert set().union(*(needed | more for needed, more in celery_app.SOURCE_KEYS.values())) == known
    assert set(celery_app.SOURCE_KEYS) == set(specs["celery_app_source"]["options"]["type"]["choices"])


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
