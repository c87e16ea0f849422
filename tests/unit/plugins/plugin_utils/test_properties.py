"""What holds for every value, however odd: hypothesis looks for one for which it does not."""

from __future__ import annotations

import math
import os
import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from celery import Celery
from celery.app.routes import Router, prepare
from check_in_process import checked
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.yaml_traps import yaml_slips
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, message
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology import members as app_members
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology import roles, survey
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.class_keys import KEYS
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.class_layers import Layer, merge
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.worker_classes import read_class
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.passwords import weakness
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.patterns import (
    glob,
    pattern_fault,
    pattern_problems,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import (
    MAX_BYTES,
    MAX_SECONDS,
    parse_duration,
    parse_size,
    show_duration,
    show_size,
)

ROLES = Path(__file__).resolve().parents[4] / "roles"
#: `make test-all` looks further.
THOROUGH = bool(os.environ.get("CELERYOPS_THOROUGH"))
# The same examples in every run, so that a commit is not blamed for what another one brought; nothing is written.
settings.register_profile("own", derandomize=True, database=None, deadline=None, max_examples=300 if THOROUGH else 25)
settings.load_profile("own")
#: Of what plans a whole inventory, a tenth of a second each.
FEW = 12 if THOROUGH else 6

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=12)
KEYS_OF_YAML = st.text(max_size=6) | st.booleans() | st.integers(0, 9) | st.none()
#: Whatever YAML can hold.
JUNK = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS_OF_YAML, inner, max_size=3)
)
NAMES = st.text(string.ascii_lowercase + ".*_", min_size=1, max_size=8)
CLASS_NAMES = st.sampled_from(["high", "default", "bulk", "mails-2"])
CLASSES = st.dictionaries(
    CLASS_NAMES | st.text(max_size=5),
    st.dictionaries(
        st.sampled_from([*KEYS, "concurrncy"]), JUNK | st.sampled_from(["1h", "2G", 4, ["a", "b"]]), max_size=4
    )
    | JUNK,
    max_size=3,
)


@given(st.integers(0, MAX_SECONDS))
def test_a_duration_that_is_shown_reads_the_same(seconds: int) -> None:
    assert parse_duration(show_duration(seconds)) == seconds == parse_duration(seconds) == parse_duration(str(seconds))


@given(st.integers(0, MAX_BYTES), st.sampled_from(["", "K", "M", "G"]))
def test_a_size_that_is_shown_reads_nearly_the_same(size: int, unit: str) -> None:
    shown = show_size(size)
    number, suffix = (shown[:-1], shown[-1]) if not shown.isdigit() else (shown, "")
    scale = parse_size(f"1{suffix}")
    # One decimal below a hundred, none above.
    assert abs(float(number) * scale - size) <= 0.06 * scale or abs(float(number) * scale - size) <= 0.006 * size
    small = size % 1000
    assert parse_size(f"{small}{unit}") == small * parse_size(f"1{unit}")


@given(JUNK)
def test_what_is_no_quantity_is_refused_and_says_what_to_write(value: Any) -> None:
    for parse, most in ((parse_duration, MAX_SECONDS), (parse_size, MAX_BYTES)):
        try:
            read, told = parse(value), "; write "
        except ValueError as error:
            read, told = 0, str(error)
        assert 0 <= read <= most
        assert "; write " in told


@given(CLASSES, CLASSES, st.dictionaries(st.sampled_from(list(KEYS)), JUNK, max_size=3))
def test_merging_a_layer_twice_is_merging_it_once(base: Any, over: Any, defaults: Any) -> None:
    once, _problems = merge(defaults, [Layer("base", base), Layer("over", over)])
    twice, _problems = merge(defaults, [Layer("base", base), Layer("over", over), Layer("over", over)])
    no_number = any(
        isinstance(value, float) and math.isnan(value) for worker in once.values() for value in worker.values.values()
    )
    values = [{name: worker.values for name, worker in classes.items()} for classes in (once, twice)]
    assert no_number or values[0] == values[1]


@given(CLASSES)
def test_the_order_of_classes_means_nothing(base: dict[str, Any]) -> None:
    forth, told = merge({}, [Layer("base", base)])
    back, told_back = merge({}, [Layer("base", dict(reversed(base.items())))])
    assert {name: repr(worker) for name, worker in forth.items()} == {n: repr(w) for n, w in back.items()}
    assert sorted(map(str, told)) == sorted(map(str, told_back))


@given(CLASSES)
def test_a_class_is_read_or_told_never_a_crash(base: Any) -> None:
    workers, problems = merge({}, [Layer("celery_worker_classes", base)])
    for worker in workers.values():
        read, found = read_class(worker)
        assert all(hasattr(read, name) for name in set(KEYS) - {"hardening"})
        problems += found
    assert all(isinstance(problem, Problem) and problem.instead for problem in problems)
    assert message(problems).count("\n") <= len(problems)


@given(st.lists(st.tuples(NAMES, st.sampled_from(["a", "b", "c"])), min_size=1, max_size=4), NAMES)
def test_a_route_matches_what_celerys_own_router_matches(routes: list[tuple[str, str]], task: str) -> None:
    assume("*" not in task and not any(pattern_fault(pattern)[0] for pattern, _queue in routes))
    app = Celery(set_as_current=False, broker="memory://")
    app.conf.task_queues = {name: {"exchange": "x"} for name in ("a", "b", "c")}
    router = Router(prepare([{pattern: {"queue": queue}} for pattern, queue in routes]), app.amqp.queues, app=app)
    theirs = router.route({}, task)["queue"].name
    ours = next((queue for pattern, queue in routes if glob(pattern).fullmatch(task)), None)
    assert theirs == (ours or app.conf.task_default_queue)


@given(st.lists(NAMES, min_size=2, max_size=5), st.lists(NAMES, max_size=20))
def test_a_hidden_route_never_gets_a_task(patterns: list[str], tasks: list[str]) -> None:
    problems = pattern_problems("celery_app_routes", patterns, "route")
    hidden = {str(problem.value) for problem in problems if "never reached" in problem.reason}
    for task in tasks:
        first = next((pattern for pattern in patterns if glob(pattern).fullmatch(task)), None)
        assert first is None or first not in hidden or patterns.index(first) < len(patterns) - 1


HOSTS = st.lists(st.sampled_from(["a", "b", "c"]), unique=True)
GROUPS = st.fixed_dictionaries(dict.fromkeys(roles.ROLES_OF_GROUP, HOSTS))
VARIABLES = st.dictionaries(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(
            [
                "celery_app_name",
                "celery_app_broker",
                "celery_app_settings",
                "celery_app_longest_task",
                "ansible_host",
                "celery_worker_classes",
                "celery_worker_defaults",
                "celery_worker_host_classes",
                "rabbitmq_port",
                "rabbitmq_listen_addresses",
                "redis_bind",
                "celery_app_queue_type",
                "celery_app_longest_eta",
            ]
        ),
    ),
    JUNK | st.sampled_from(["shop", "crm", "redis", {"high": {"queues": ["b", "a"], "time_limit": "1h"}}]),
    max_size=8,
)


@given(GROUPS, VARIABLES)
def test_hosts_are_surveyed_whatever_their_variables_say(groups: Any, variables: Any) -> None:
    def said(host: str, name: str, default: Any) -> Any:
        return variables.get((host, name), default)

    found = survey.survey(app_members.members(groups, said), groups, said)
    for host in ("a", "b", "c"):
        seen = survey.view(found, host)
        assert seen["broker"] in ("rabbitmq", "redis")
        assert seen["consumer_timeout"] >= 7200
        assert seen["queues"] == sorted(seen["queues"])
    # The order of hosts in a group decides nothing that a process reads.
    turned = {group: hosts[::-1] for group, hosts in groups.items()}
    again = survey.survey(app_members.members(turned, said), turned, said)
    for name, app in found["apps"].items():
        own = {key: app[key] for key in ("queues", "longest_task")}
        assert {key: again["apps"][name][key] for key in own} == own
    assert again["consumer_timeout"] == found["consumer_timeout"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for passwords, made once."""
    found = tmp_path_factory.mktemp("passwords")
    outcome = checked(found, {})
    assert not outcome.get("failed"), outcome["msg"]
    return found


def told(folder: Path, own: dict[str, Any]) -> list[str]:
    """Return the lines of the one message; that the collection itself is at fault is never one of them."""
    outcome = checked(folder, own)
    lines = str(outcome.get("msg", "")).splitlines()
    assert all("; write " in line or "cannot be worked out" in line for line in lines[1:]), lines
    assert "a fault of celeryops.stack" not in str(outcome.get("msg")), lines
    return lines[1:]


def options(role: str) -> dict[str, Any]:
    """Return the options of a role's argument spec."""
    text = (ROLES / role / "meta" / "argument_specs.yml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)["argument_specs"]["main"]["options"]
    return found


SPECS = {role: options(role) for role in ("celery_app", "celery_worker", "celery_beat", "flower", "redis", "rabbitmq")}
NULLS = sorted(name for known in SPECS.values() for name in known)
#: Values of the kind that an option asks for, with junk inside.
SHAPED = {
    "list": st.lists(JUNK, max_size=3),
    "dict": st.dictionaries(st.text(max_size=6) | st.booleans() | st.integers(), JUNK, max_size=3),
    "int": st.integers() | st.sampled_from(["²", "--1", "1" * 30, "0800"]),
    "bool": st.booleans(),
}


def any_values(role: str) -> Any:
    """Return a strategy of some variables of a role: null, junk, or junk of the right kind."""
    values = {
        name: st.none() | JUNK | SHAPED.get(str(option.get("type")), st.text(max_size=6))
        for name, option in SPECS[role].items()
    }
    return st.lists(st.sampled_from(sorted(values)), max_size=4, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: values[name] for name in names})
    )


@pytest.mark.slow
@pytest.mark.parametrize("role", SPECS)
@given(data=st.data())
@settings(max_examples=FEW, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_every_role_is_planned_or_told_never_a_crash(folder: Path, role: str, data: st.DataObject) -> None:
    told(folder, data.draw(any_values(role)))


@given(CLASSES | st.dictionaries(st.booleans() | st.integers() | st.text(max_size=3), JUNK, max_size=3))
@settings(max_examples=FEW, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_classes_are_planned_or_told_never_a_crash(folder: Path, classes: Any) -> None:
    told(folder, {"celery_worker_host_classes": classes})


@pytest.mark.parametrize("start", range(8))
def test_every_variable_without_a_value_is_told_by_name(folder: Path, start: int) -> None:
    names = NULLS[start::8]
    lines = told(folder, dict.fromkeys(names))
    assert sorted(line.removeprefix("  - ").partition(":")[0] for line in lines) == names
    assert all("is empty; write " in line or "is missing; write " in line for line in lines)


@given(st.text(max_size=40), st.text(max_size=10))
def test_a_reason_never_holds_the_password(password: str, user: str) -> None:
    told = weakness(password, user)
    assume(len(password) > 3 and password not in weakness("") and password not in weakness("guest"))
    assert password not in told or password in "has fewer than 12 characters is the user's own name"


@given(st.dictionaries(st.sampled_from(["celery_a", "redis_b", "mine"]), JUNK, max_size=3))
def test_a_file_without_repetitions_has_none(content: Any) -> None:
    text = yaml.safe_dump(content)
    assert yaml_slips("file", text, all_keys=True) == []
    twice = yaml_slips("file", f"redis_c: 1\n{text if content else ''}\nredis_c: 2\n", all_keys=False)
    assert [problem.variable for problem in twice] == ["redis_c"]


@given(st.text(max_size=60))
def test_any_text_is_scanned_for_slips(text: str) -> None:
    yaml_slips("file", text, all_keys=True)
