"""New releases and restarts while work goes on: every task runs, and runs once, and what fails is undone."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hosts import standing_in, wait
from testinfra.host import Host

pytestmark = [pytest.mark.long, pytest.mark.apart("releases")]

ROOT = Path(__file__).resolve().parents[3]
APP = "shop"
BASE = f"/opt/celeryops/{APP}"
STATE = f"/var/lib/celeryops/{APP}"
#: How many messages wait in the queues of the classes and of the dead letters.
WAITING = f"rabbitmqctl --silent list_queues --vhost {APP} name messages | grep -vE 'celery|pidbox' | sort"
FILES = f"{STATE}/marks {STATE}/sent {STATE}/stop {STATE}/fewest"
QUEUES = ("default", "payments", "mails", "feeds", "reports")
#: One more task in each queue, by the routes of the inventory: it writes down that it ran, in a file of the test's own.
MARK = """

@app.task(name="shop.{module}.mark")
def mark(number: int, seconds: float = 0.02) -> None:
    import os
    import time

    time.sleep(seconds)
    handle = os.open("{state}/marks", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    os.write(handle, f"{{number}}\\n".encode())
    os.close(handle)
"""
MODULES = {"default": "stock", "payments": "payments", "mails": "mails", "feeds": "feeds", "reports": "reports"}
#: Sends a task to one queue after the other until it is told to stop, and watches how many consumers each queue has.
SENDER = """
import json, os, pathlib, threading, time
from shop.celery import app
modules = {modules}
stop = pathlib.Path("{state}/stop")
fewest = {{}}
def consumers(connection, queue):
    # A quorum queue that does not answer its node within 250 ms counts as one without consumers.
    for _ in range(4):
        if count := connection.default_channel.queue_declare(queue, passive=True).consumer_count:
            return count
        time.sleep(0.2)
    return 0
def watch():
    with app.connection_for_read() as connection:
        while not stop.exists():
            for queue in modules:
                fewest[queue] = min(consumers(connection, queue), fewest.get(queue, 99))
            time.sleep(0.02)
if {watched}:
    watcher = threading.Thread(target=watch)
    watcher.start()
number = 0
with open("{state}/sent", "w") as sent:
    while not stop.exists():
        for module in modules.values():
            app.send_task(f"shop.{{module}}.mark", args=(number,))
            sent.write(f"{{number}}\\n")
            number += 1
        sent.flush()
        time.sleep(0.1)
if {watched}:
    watcher.join()
pathlib.Path("{state}/fewest").write_text(json.dumps(fewest))
"""

Source = dict[str, str]


def current(host: Host) -> str:
    return host.check_output(f"readlink {BASE}/current")


def kept(host: Host) -> list[str]:
    return sorted(host.check_output(f"ls {BASE}/releases").split())


def pids(host: Host, inventory: dict[str, Any]) -> dict[str, str]:
    return {
        name: host.check_output(f"systemctl show --property=MainPID --value celery-{APP}-{name}.service")
        for name in [*inventory["celery_worker_classes"], "beat", "flower"]
    }


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Source]:
    """Return the source of a shop with one line more in its app: shop("1", "raise RuntimeError")."""

    def make(name: str, line: str = "", without: str = "") -> Source:
        folder = tmp_path_factory.mktemp("shops") / "shop"
        shutil.copytree(ROOT / "examples" / "shop", folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        for module in MODULES.values():
            if module != without:
                path = folder / "src" / "shop" / f"{module}.py"
                path.write_text(path.read_text() + MARK.format(module=module, state=STATE))
        path = folder / "src" / "shop" / "celery.py"
        path.write_text(f"{path.read_text()}\n# {name}\n{line}\n")
        return {"type": "path", "path": str(folder)}

    return make


@pytest.fixture(scope="module")
def deploy(site: Callable[..., Any]) -> Callable[..., Any]:
    def run(source: Source, *arguments: str, **variables: Any) -> Any:
        return site(*arguments, playbook="playbooks/deploy.yml", variables={"celery_app_source": source, **variables})

    return run


@pytest.fixture(scope="module", autouse=True)
def first(
    host: Host, deploy: Callable[..., Any], shop: Callable[..., Source], leave_astray: Callable[[], None]
) -> Iterator[Source]:
    """A release with the tasks that write down that they ran; the one of the inventory comes back afterwards."""
    source = shop("first")
    run = deploy(source)
    assert run.messages == []
    yield source
    host.check_output(f"rm -f {FILES} /run/sender.py")
    leave_astray()


@pytest.fixture(scope="module")
def second(shop: Callable[..., Source]) -> Source:
    """The release that comes after the first."""
    return shop("second")


@pytest.fixture
def load(host: Host, broker: str) -> Callable[[], AbstractContextManager[None]]:
    """Send tasks to every queue while something happens; afterwards each has run exactly once."""

    @contextmanager
    def work() -> Iterator[None]:
        program = SENDER.format(modules=json.dumps(MODULES), state=STATE, watched=broker == "rabbitmq")
        host.check_output(
            f"rm -f {FILES}; cat > /run/sender.py <<'END'\n{program}\nEND\n"
            f"systemd-run --quiet --collect --unit=celeryops-test-sender --property=User={APP}"
            f" --property=WorkingDirectory=/ --property=EnvironmentFile=/etc/celeryops/{APP}/celery.env"
            f" {BASE}/current/bin/python -B /run/sender.py"
        )
        try:
            time.sleep(3)
            yield
            time.sleep(2)
        finally:
            host.check_output(f"touch {STATE}/stop")
        ended = "systemctl is-active --quiet celeryops-test-sender"
        host.check_output(f"timeout 30 sh -c 'while {ended}; do sleep 0.2; done'")
        sent = host.check_output(f"cat {STATE}/sent").split()
        assert len(sent) > 100, "hardly anything was sent"
        marks, idle = [], 0
        # What waits is not lost: a busy machine may have a backlog by now. Redis keeps what a worker held for longer.
        while len(set(marks)) < len(sent) and idle < 30:
            before, marks = marks, host.check_output(f"cat {STATE}/marks").split()
            idle = 0 if len(marks) > len(before) else idle + 1
            time.sleep(1)
        assert sorted(set(sent) - set(marks), key=int) == [], "lost"
        assert sorted({mark for mark in marks if marks.count(mark) > 1}, key=int) == [], "run twice"
        if broker == "rabbitmq":
            fewest = json.loads(host.check_output(f"cat {STATE}/fewest"))
            assert sorted(fewest) == sorted(QUEUES)
            assert min(fewest.values()) > 0, f"a queue was without a consumer: {fewest}"

    return work


def test_a_rolling_restart_loses_nothing_and_runs_nothing_twice(
    host: Host, site: Callable[..., Any], inventory: dict[str, Any], load: Callable[..., Any]
) -> None:
    before = pids(host, inventory)
    with load():
        run = site(playbook="playbooks/restart.yml")
    assert run.messages == []
    after = pids(host, inventory)
    assert {name for name in before if before[name] != after[name]} == set(inventory["celery_worker_classes"])
    wait(lambda: standing_in(host, APP) == "", 30, "something still stands in")


@pytest.mark.seldom
def test_one_class_is_restarted_alone_and_an_old_task_ends_in_its_own_time(
    host: Host, site: Callable[..., Any], inventory: dict[str, Any], produce: Callable[..., Any]
) -> None:
    host.check_output(f"rm -f {STATE}/marks")
    before = pids(host, inventory)
    variables = {"celeryops_restart_classes": ["bulk"], "celeryops_restart_mode": "drain"}
    run = site("--check", "--diff", playbook="playbooks/restart.yml", variables=variables)
    assert (run.messages, pids(host, inventory)) == ([], before)
    old = before["bulk"]
    produce("print(json.dumps(bool(send('shop.reports.mark', 1, 60))))")
    time.sleep(2)
    run = site(playbook="playbooks/restart.yml", variables=variables)
    assert run.messages == []
    assert host.file(f"/proc/{old}").exists, "the old worker did not go on"
    # What comes now does not wait for the old task.
    produce("print(json.dumps(bool(send('shop.reports.mark', 2))))")
    for _each in range(20):
        if host.file(f"{STATE}/marks").exists:
            break
        time.sleep(1)
    assert host.check_output(f"cat {STATE}/marks").split() == ["2"]
    wait(lambda: standing_in(host, APP) == "", 90, "something still stands in")
    assert host.check_output(f"cat {STATE}/marks").split() == ["2", "1"]
    assert host.service(f"celery-{APP}-bulk.service").is_running
    assert {name for name, pid in pids(host, inventory).items() if pid != before[name]} == {"bulk"}


def test_a_new_release_is_taken_into_use_under_load(
    host: Host,
    site: Callable[..., Any],
    deploy: Callable[..., Any],
    second: Source,
    inventory: dict[str, Any],
    load: Callable[..., Any],
) -> None:
    source, before, was = second, pids(host, inventory), current(host)
    run = deploy(source, "--check", "--diff")
    assert (run.messages, current(host), pids(host, inventory)) == ([], was, before)
    with load():
        run = deploy(source)
    assert run.messages == []
    assert current(host) != was
    after = pids(host, inventory)
    # Flower has an environment of its own.
    assert {name for name in before if before[name] == after[name]} == {"flower"}
    releases = {
        json.loads(host.check_output(f"cat /run/celeryops/{APP}/{name}/worker.json"))["release"]
        for name in inventory["celery_worker_classes"]
    }
    assert releases == {current(host).removeprefix("releases/")}
    wait(lambda: standing_in(host, APP) == "", 30, "something still stands in")
    again = deploy(source)
    assert (again.messages, again.changed, pids(host, inventory)) == ([], [], after)
    assert [name for name in again.called if name.startswith("celeryops.stack.")] == [
        "celeryops.stack.plan",
        "celeryops.stack.rollout",
        "celeryops.stack.plan",
        "celeryops.stack.plan",
        "celeryops.stack.release",
    ]
    settled = site(variables={"celery_app_source": source})
    assert (settled.messages, settled.changed, pids(host, inventory)) == ([], [], after)


@pytest.mark.seldom
@pytest.mark.parametrize("pin", ["celery==5.6.*", "celery==5.7.*"])
def test_another_celery_is_taken_into_use_under_load(
    host: Host, deploy: Callable[..., Any], shop: Callable[..., Source], load: Callable[..., Any], pin: str
) -> None:
    """Down, and up again: workers of both work beside each other for a moment, on the same queues."""
    # The producer has the release that is current when it begins.
    with load():
        run = deploy({**shop(pin), "constraints": pin})
    assert run.messages == []
    told = host.check_output(f"cd / && {BASE}/current/bin/python -c 'import celery; print(celery.__version__)'")
    assert f"celery=={told.rpartition('.')[0]}.*" == pin
    wait(lambda: standing_in(host, APP) == "", 30, "something still stands in")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("raise RuntimeError('the shop is broken')", "the shop is broken"),
        (
            "import os, celery.signals as s; s.worker_init.connect(lambda **_: os._exit(7), weak=False)",
            "was not touched",
        ),
    ],
    ids=["cannot be imported", "its worker does not start"],
)
def test_a_broken_release_stops_nobody(
    host: Host,
    deploy: Callable[..., Any],
    shop: Callable[..., Source],
    inventory: dict[str, Any],
    load: Callable[..., Any],
    line: str,
    told: str,
) -> None:
    before, was, there = pids(host, inventory), current(host), kept(host)
    with load():
        run = deploy(shop("broken", line))
    assert run.failed
    assert told in run.messages[0], run.messages
    assert (current(host), pids(host, inventory), kept(host)) == (was, before, there)
    wait(lambda: standing_in(host, APP) == "", 30, "something still stands in")


@pytest.mark.seldom
def test_a_release_whose_workers_do_not_answer_is_taken_back(
    host: Host,
    deploy: Callable[..., Any],
    shop: Callable[..., Source],
    inventory: dict[str, Any],
    broker: str,
) -> None:
    """It starts and consumes, so every worker runs it before anybody can know.

    Without a load: behind other messages, a worker that hangs and one that is busy look the same (docs/releases.md).
    Nobody waits for the probe that hangs: for an hour here, which no stop would outlast.
    """
    line = (
        "import time\nfrom celery.signals import task_prerun\n"
        "task_prerun.connect(lambda sender, **_: time.sleep(3600 * (sender.name == 'celeryops.probe')), weak=False)"
    )
    if broker == "rabbitmq":
        # What the test before has sent is done on a busy machine too.
        left = re.compile(r"^(?!dead).*\t[1-9]", re.MULTILINE)
        wait(lambda: not left.search(host.check_output(WAITING)), 120, "work is left")
    before, was, there = pids(host, inventory), current(host), kept(host)
    began, waiting = host.check_output("date +@%s"), host.check_output(WAITING) if broker == "rabbitmq" else ""
    run = deploy(shop("mute", line), celeryops_deploy_probe_timeout=4)
    assert run.failed
    assert "a worker took the probe and did not answer within 4 s" in run.messages[0]
    assert f"{was.removeprefix('releases/')} as before" in run.messages[0]
    assert (current(host), kept(host)) == (was, there)
    after = pids(host, inventory)
    # The scheduler never ran it.
    assert {name for name in before if before[name] == after[name]} == {"beat", "flower"}
    wait(lambda: standing_in(host, APP) == "", 30, "something still stands in")
    if broker == "rabbitmq":
        assert host.check_output(WAITING) == waiting, "a probe went somewhere"
    journal = host.check_output(f"journalctl --no-pager --since={began} --unit='celery-{APP}-*'")
    assert "a probe has not ended: celeryops.probe" in journal


def test_a_release_without_a_task_that_workers_have_needs_a_word(
    host: Host, deploy: Callable[..., Any], shop: Callable[..., Source], inventory: dict[str, Any]
) -> None:
    before, was = pids(host, inventory), current(host)
    source = shop("smaller", without="mails")
    run = deploy(source)
    assert len(run.messages) == 1
    assert "has no task shop.mails.mark" in run.messages[0]
    assert "celeryops_deploy_accept_missing_tasks: [shop.mails.mark]" in run.messages[0]
    assert (current(host), pids(host, inventory)) == (was, before)
    run = deploy(source, "--check", celeryops_deploy_accept_missing_tasks=["shop.mails.*"])
    assert run.messages == []


def test_what_is_no_new_release_is_left_to_the_site(
    host: Host, deploy: Callable[..., Any], shop: Callable[..., Source], inventory: dict[str, Any]
) -> None:
    before, there = pids(host, inventory), kept(host)
    run = deploy(shop("third"), celery_app_longest_eta="13h", celery_app_result_expires="2d")
    assert len(run.messages) == 1
    assert "run site.yml first" in run.messages[0]
    assert (pids(host, inventory), kept(host)) == (before, there)


def test_a_release_comes_back(
    host: Host,
    site: Callable[..., Any],
    deploy: Callable[..., Any],
    shop: Callable[..., Source],
    load: Callable[..., Any],
) -> None:
    assert deploy(shop("fourth")).messages == []
    was = current(host)
    with load():
        run = site(playbook="playbooks/rollback.yml")
    assert run.messages == []
    assert current(host) != was
    wait(lambda: standing_in(host, APP) == "", 30, "something still stands in")
    assert "follows celery_app_source again" in run.output


@pytest.mark.seldom
def test_the_release_that_came_back_is_that_of_the_inventory_and_another_can_be_named(
    host: Host,
    site: Callable[..., Any],
    deploy: Callable[..., Any],
    shop: Callable[..., Source],
    first: Source,
    inventory: dict[str, Any],
) -> None:
    for source in (first, shop("fifth")):
        assert deploy(source).messages == []
    was = current(host)
    assert site(playbook="playbooks/rollback.yml").messages == []
    after = pids(host, inventory)
    settled = site(variables={"celery_app_source": first})
    assert (settled.messages, settled.changed, pids(host, inventory)) == ([], [], after)
    unknown = site(playbook="playbooks/rollback.yml", variables={"celeryops_rollback_to": "nowhere"})
    assert len(unknown.messages) == 1
    assert was.removeprefix("releases/") in unknown.messages[0]
    named = site(playbook="playbooks/rollback.yml", variables={"celeryops_rollback_to": was.removeprefix("releases/")})
    assert (named.messages, current(host)) == ([], was)
