"""Once per period, by real exchange: duplicates, retries, failures, killed workers, two schedulers, no Redis."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from testinfra.host import Host

JOURNAL = "/var/lib/celeryops/shop/journal.jsonl"
BULK_LOG = "/var/log/celeryops/shop/bulk.log"
UNIT = "celery-shop-bulk.service"
#: Of the rule for `shop.reports.month*`, in seconds (molecule/default/inventory).
PERIOD = 20
RUN = (
    "systemd-run --quiet --collect --property=User=shop --property=WorkingDirectory=/"
    " --property=EnvironmentFile=/etc/celeryops/shop/celery.env"
)
BIN = "/opt/celeryops/shop/current/bin"

PRELUDE = """
import json, time
from celery import chain, chord
from shop.celery import app

def sign(name, *args, **kwargs):
    return app.signature(f"shop.reports.{name}", args=args, kwargs=kwargs)

def nightly(*args, **kwargs):
    return sign("nightly", *args, **kwargs).apply_async()

def monthly(*args, **kwargs):
    return sign("monthly", *args, **kwargs).apply_async()

def outcome(result):
    try:
        result.get(timeout=60)
    except Exception as exc:
        return [result.state, type(exc).__name__, str(exc)]
    return [result.state, "", ""]

"""

Produce = Callable[[str], Any]


@pytest.fixture(scope="module")
def produce(host: Host) -> Produce:
    """Run Python as a process that sends tasks; ``nightly(day, **arguments)`` and ``monthly`` send the guarded ones."""

    def run(text: str) -> Any:
        program = f"{PRELUDE}{text}"
        out = host.check_output(f"{RUN} --pipe --wait {BIN}/python -B - <<'END'\n{program}\nEND")
        return json.loads(out.splitlines()[-1])

    return run


@pytest.fixture(scope="module", autouse=True)
def kept_key(produce: Produce) -> tuple[str, float, list[list[str]]]:
    """A run that failed, and one that came while its key was kept: both before the other tests, which fill the period.

    Returns the day, when both had ended, and their outcomes.
    """
    wrong = f"{a_day()}-wrong"
    outcomes = produce(f"print(json.dumps([outcome(monthly('{wrong}')), outcome(monthly('{wrong}'))]))")
    return wrong, time.monotonic(), outcomes


@pytest.fixture
def day() -> str:
    return a_day()


def a_day() -> str:
    """Return a day that no other test, and no earlier run of the tests, has asked for."""
    number = uuid.uuid4().int
    return f"{1000 + number % 8999}-{1 + number // 7 % 12:02}-{1 + number // 101 % 28:02}"


@pytest.fixture
def runs(host: Host) -> Callable[..., int]:
    """Count the runs of a day's report that began, or that were ``done``."""

    def count(day: str, what: str = "begun") -> int:
        return int(host.run(f"""grep -c '"day": "{day}", "event": "report {what}"' {JOURNAL}""").stdout or 0)

    return count


@pytest.fixture
def redis_away(host: Host, engine: str, secrets: Mapping[str, str]) -> Iterator[None]:
    """Redis is stopped until the test ends, or starts it."""
    unit = f"{engine}-server.service"
    host.check_output(f"systemctl stop {unit}")
    yield
    host.check_output(f"systemctl start {unit}")
    ask = f"REDISCLI_AUTH={secrets['redis_admin_password']} {engine}-cli --user admin --no-auth-warning PING"
    until(lambda: host.run(ask).stdout.strip() == "PONG")


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for a condition and return what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.5)
    return found


def dropped(host: Host) -> dict[str, int]:
    report = json.loads(host.check_output(f"{RUN} --pipe --wait {BIN}/python -m celeryops_runtime once --json"))
    counters: dict[str, int] = report["dropped"]
    return counters


def test_a_double_click_runs_once_and_the_second_caller_is_told(
    host: Host, produce: Produce, runs: Callable[..., int], day: str
) -> None:
    before = dropped(host).get("shop.reports.nightly", 0)
    # By position, by name, and with an argument that the rule does not look at: all of them are the same call.
    first, *others, ids = produce(
        f"sent = [nightly('{day}', 1.0), nightly(day='{day}'), nightly('{day}', seconds=0.5)]\n"
        "print(json.dumps([*map(outcome, sent), [one.id for one in sent]]))"
    )
    assert first[0] == "SUCCESS"
    for state, error, text in others:
        assert (state, error) == ("REVOKED", "TaskRevokedError")
        assert ids[0] in text
    assert runs(day) == 1
    assert dropped(host)["shop.reports.nightly"] == before + 2
    log = host.file(BULK_LOG).content_string
    for one in ids[1:]:
        assert f"shop.reports.nightly[{one}] dropped: duplicate of {ids[0]}, once in 72000 s" in log


@pytest.mark.seldom
def test_other_arguments_are_another_call(produce: Produce, runs: Callable[..., int], day: str) -> None:
    other = day[:-2] + "29" if day[5:7] != "02" else day[:-2] + "01" if day[-2:] != "01" else day[:-2] + "02"
    assert produce(f"print(json.dumps([outcome(nightly(d))[0] for d in ('{day}', '{other}')]))") == ["SUCCESS"] * 2
    assert (runs(day), runs(other)) == (1, 1)


def test_a_retry_is_no_duplicate_and_keeps_the_key(produce: Produce, runs: Callable[..., int], day: str) -> None:
    states = produce(
        f"paid = nightly('{day}', database_away=2); time.sleep(1); again = nightly('{day}')\n"
        "print(json.dumps([outcome(again)[0], outcome(paid)[0]]))"
    )
    assert states == ["REVOKED", "SUCCESS"]
    assert runs(day) == 3
    assert runs(day, "done") == 1


@pytest.mark.seldom
def test_a_failed_run_frees_its_key_if_the_rule_says_so(produce: Produce, runs: Callable[..., int], day: str) -> None:
    wrong = f"{day}-wrong"
    assert produce(f"print(json.dumps([outcome(nightly('{wrong}'))[1] for _ in range(2)]))") == ["ValueError"] * 2
    assert runs(wrong) == 2
    # Failed for good after its retries, too.
    states = f"[outcome(nightly('{day}', database_away=9))[1], outcome(nightly('{day}'))[0]]"
    assert produce(f"print(json.dumps({states}))") == ["DatabaseAwayError", "SUCCESS"]


# Redis gives it back after its visibility timeout, twelve hours here (docs/delivery.md).
@pytest.mark.broker("rabbitmq")
def test_a_task_whose_worker_was_killed_runs_again(
    host: Host, produce: Produce, runs: Callable[..., int], day: str
) -> None:
    task_id = produce(f"print(json.dumps(nightly('{day}', 4.0).id))")
    until(lambda: runs(day))
    host.check_output(f"systemctl kill --kill-whom=all --signal=SIGKILL {UNIT}")
    until(lambda: runs(day, "done"))
    outcomes = produce(f"print(json.dumps([outcome(app.AsyncResult('{task_id}'))[0], outcome(nightly('{day}'))[0]]))")
    assert outcomes == ["SUCCESS", "REVOKED"]
    assert (runs(day), runs(day, "done")) == (2, 1)


def test_a_message_that_comes_again_after_its_run_is_dropped_and_its_result_stays(
    produce: Produce, runs: Callable[..., int], day: str
) -> None:
    states = produce(
        f"one = sign('nightly', '{day}').apply_async(task_id='{day}-again'); states = [outcome(one)[0]]\n"
        f"sign('nightly', '{day}').apply_async(task_id='{day}-again'); time.sleep(3)\n"
        "print(json.dumps([*states, one.state]))"
    )
    assert states == ["SUCCESS", "SUCCESS"]
    assert runs(day) == 1


def test_two_schedulers_send_and_one_run_comes_of_it(
    host: Host, produce: Produce, runs: Callable[..., int], day: str
) -> None:
    schedule = {"beat_schedule": {"nightly": {"task": "shop.reports.nightly", "schedule": 2.0, "args": [day]}}}
    before = dropped(host).get("shop.reports.nightly", 0)
    beats = [f"once-beat-{number}" for number in (1, 2)]
    for beat in beats:
        host.check_output(
            f"{RUN} --unit={beat} --setenv=CELERYOPS_SETTINGS='{json.dumps(schedule)}'"
            f" {BIN}/celery -A shop.celery:app beat --schedule=/tmp/{beat} --pidfile="
        )
    try:
        until(lambda: dropped(host).get("shop.reports.nightly", 0) >= before + 3)
    finally:
        for beat in beats:
            host.check_output(f"systemctl stop {beat}; rm -f /tmp/{beat}*")
    # All of both have gone through the one process of the class when this one has.
    assert produce(f"print(json.dumps(outcome(nightly('{day}'))[0]))") == "REVOKED"
    assert runs(day) == 1


@pytest.mark.seldom
def test_a_chord_and_a_chain_with_a_duplicate_end(produce: Produce, runs: Callable[..., int], day: str) -> None:
    other = f"{int(day[:4]) % 9000 + 999:04}{day[4:]}"
    # By their ids alone: a result that knows its parts raises as soon as one of them did.
    whole, last = produce(
        f"nightly('{day}').get(timeout=60)\n"
        f"whole = chord([sign('partial_sum', [1, 2]), sign('nightly', '{day}')])(sign('grand_total'))\n"
        f"steps = chain(sign('nightly', '{day}'), sign('monthly', '{other}').set(immutable=True))()\n"
        "print(json.dumps([outcome(app.AsyncResult(one.id)) for one in (whole, steps)]))"
    )
    assert whole[:2] == ["FAILURE", "ChordError"]
    assert "TaskRevokedError" in whole[2]
    assert last[:2] == ["REVOKED", "TaskRevokedError"]
    assert runs(other) == 0


@pytest.mark.seldom
@pytest.mark.parametrize(
    ("limit", "end", "error"),
    [
        (3, "one.get(timeout=60)", "TimeLimitExceeded"),
        (300, "app.control.revoke(one.id, terminate=True)", "TaskRevokedError"),
    ],
)
def test_a_run_that_is_ended_from_outside_frees_its_key(
    produce: Produce, runs: Callable[..., int], day: str, limit: int, end: str, error: str
) -> None:
    states = produce(
        f"one = sign('nightly', '{day}', 40.0).apply_async(time_limit={limit}); time.sleep(2)\n"
        f"try:\n    {end}\nexcept Exception: pass\n"
        f"print(json.dumps([outcome(one)[1], outcome(nightly('{day}'))[0]]))"
    )
    assert states == [error, "SUCCESS"]
    assert runs(day) == 2


@pytest.mark.seldom
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_many_at_the_same_time_are_one_in_every_pool(
    host: Host, produce: Produce, runs: Callable[..., int], day: str, pool: str
) -> None:
    """Two workers, on a queue of their own, that get 20 calls at once."""
    workers = [f"once-{pool}-{number}" for number in (1, 2)]
    for worker in workers:
        host.check_output(
            f"{RUN} --unit={worker} {BIN}/celery -A shop.celery:app worker --pool={pool} --concurrency=4"
            f" --queues=once-{pool} --hostname={worker}@%%h --without-gossip --without-mingle"
        )
    try:
        states = produce(
            f"sent = [sign('nightly', '{day}', 0.5).apply_async(queue='once-{pool}') for _ in range(20)]\n"
            "print(json.dumps([outcome(one)[0] for one in sent]))"
        )
    finally:
        for worker in workers:
            host.check_output(f"systemctl stop {worker}")
    assert sorted(states) == ["REVOKED"] * 19 + ["SUCCESS"]
    assert runs(day) == 1


# Where Redis is the broker as well, nothing is sent without it.
@pytest.mark.broker("rabbitmq")
@pytest.mark.usefixtures("redis_away")
def test_without_redis_the_rule_decides(
    host: Host, produce: Produce, runs: Callable[..., int], day: str, engine: str
) -> None:
    other = f"{int(day[:4]) % 9000 + 999:04}{day[4:]}"
    # Nobody waits for these: the results are in that Redis as well.
    refused = produce(
        f"sent = sign('nightly', '{day}').apply_async(ignore_result=True)\n"
        f"[sign('monthly', '{other}').apply_async(ignore_result=True) for _ in range(2)]\n"
        "print(json.dumps(sent.id))"
    )
    until(lambda: runs(other, "done") == 2, 20)
    assert runs(day) == 0
    log = host.file(BULK_LOG).content_string
    assert f"shop.reports.nightly[{refused}] waits 30 s: Redis cannot be asked" in log
    host.check_output(f"systemctl start {engine}-server.service")
    until(lambda: runs(day, "done"), 60)
    assert runs(day) == 1


@pytest.mark.seldom
def test_the_command_shows_a_key_and_frees_it(host: Host, produce: Produce, runs: Callable[..., int], day: str) -> None:
    produce(f"print(json.dumps([outcome(nightly('{day}')) for _ in range(2)]))")
    line = [line for line in host.file(BULK_LOG).content_string.splitlines() if "dropped: duplicate" in line][-1]
    key = line.rpartition("key ")[2].rstrip(")")
    assert key.startswith("shop:celeryops-once:shop.reports.nightly:")
    once = f"{RUN} --pipe --wait {BIN}/python -m celeryops_runtime once --json --key={key}"
    held = json.loads(host.check_output(once))["key"]
    assert held["state"] == "done"
    assert 71900 < held["seconds"] <= 72000
    assert json.loads(host.check_output(f"{once} --free"))["changed"] is True
    assert json.loads(host.check_output(once))["key"] is None
    assert produce(f"print(json.dumps(outcome(nightly('{day}'))[0]))") == "SUCCESS"
    assert runs(day) == 2


def test_a_failed_run_keeps_its_key_if_the_rule_says_so_until_the_period_is_over(
    produce: Produce, runs: Callable[..., int], kept_key: tuple[str, float, list[list[str]]]
) -> None:
    wrong, ended, (first, second) = kept_key
    time.sleep(max(0.0, ended + PERIOD + 1 - time.monotonic()))
    third = produce(f"print(json.dumps(outcome(monthly('{wrong}'))))")
    assert [first[:2], second[:2], third[:2]] == [
        ["FAILURE", "ValueError"],
        ["REVOKED", "TaskRevokedError"],
        ["FAILURE", "ValueError"],
    ]
    assert runs(wrong) == 2


def test_every_key_expires_and_the_users_rights_were_enough(
    host: Host, secrets: Mapping[str, str], engine: str
) -> None:
    ask = f"REDISCLI_AUTH={secrets['redis_admin_password']} {engine}-cli --user admin --no-auth-warning"
    keys = host.check_output(f"{ask} --scan --pattern 'shop:celeryops-once*'").splitlines()
    assert "shop:celeryops-once-dropped" in keys
    assert [key for key in keys if int(host.check_output(f"{ask} TTL {key}")) < 1] == []
    denied = host.check_output(f"{ask} ACL LOG")
    assert "celeryops-once" not in denied
