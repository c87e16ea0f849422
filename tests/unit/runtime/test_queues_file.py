"""Queues and routes that change while a process runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from celeryops_runtime import config_reader
from celeryops_runtime.config import ConfigError
from celeryops_runtime.config_reader import load, parse, queues_path, reload_queues
from celeryops_runtime.queues_file import QueuesFile, stamp_of
from celeryops_runtime.versions import delays_are_kombus

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Python = Callable[..., subprocess.CompletedProcess[str]]

FEEDS = {"name": "feeds", "type": "quorum"}
#: Begins every program: the app, its file, and where a task goes.
PROGRAM = """
import json, os
from pathlib import Path
from celery import Celery
FILE = Path(os.environ["CELERYOPS_CONFIG"]).with_name("queues.json")
def write(**changes):
    new = FILE.with_name(".new")
    new.write_text(json.dumps({**json.loads(FILE.read_text()), **changes}))
    new.replace(FILE)
def where(app, task, **options):
    queue = app.amqp.router.route(options, task)["queue"]
    return [queue.name, queue.exchange.name, queue.exchange.type, (queue.queue_arguments or {}).get("x-queue-type")]
QUEUES = json.loads(FILE.read_text())["queues"]
FEEDS = [*QUEUES, {"name": "feeds", "type": "quorum"}]
app = Celery("shop")
"""


@pytest.fixture(autouse=True)
def apart(document: dict[str, Any], config_file: Path) -> dict[str, Any]:
    """Place queues and routes in a file of their own, as the role does."""
    queues = {"format": 1, "queues": document.pop("queues"), "routes": document.pop("routes")}
    write(config_file, {**document, "quorum": True}, queues)
    return queues


def write(config_file: Path, settings: dict[str, Any], queues: dict[str, Any]) -> None:
    config_file.write_text(json.dumps(settings), encoding="utf-8")
    config_file.with_name("queues.json").write_text(json.dumps(queues), encoding="utf-8")


def shown(python: Python, program: str, what: str) -> Any:
    done = python("-c", f"{PROGRAM}{program}\nprint(json.dumps({what}))")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_two_files_are_one_configuration(config_file: Path, apart: dict[str, Any]) -> None:
    config = load(str(config_file))
    assert [queue.name for queue in config.queues] == ["default", "payments"]
    assert [route.queue for route in config.routes] == ["payments"]
    assert config.queues_file == str(config_file.with_name("queues.json")) == queues_path(str(config_file))
    # By it the role compares what a worker has with what the host has: a queue more makes no difference.
    before = config.digest
    write(config_file, json.loads(config_file.read_text()), {**apart, "queues": [*apart["queues"], FEEDS]})
    assert (load(str(config_file)).digest, len(load(str(config_file)).queues)) == (before, 3)


def test_a_document_that_has_them_itself_needs_no_other(config_file: Path, document: dict[str, Any]) -> None:
    whole = {**document, "queues": [{"name": "default"}], "routes": []}
    write(config_file, whole, {"format": 1, "queues": [FEEDS], "routes": []})
    config = load(str(config_file))
    assert ([queue.name for queue in config.queues], config.queues_file) == (["default"], "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "queues.json cannot be read"),
        ("{", "queues.json is not JSON"),
        ("[]", "queues.json is wrong: the document is list"),
        ('{"format": 2, "queues": [], "routes": []}', "queues.json is wrong: format is 2"),
        ('{"format": 1, "queues": [], "routes": [], "app": "shop"}', "queues.json is wrong: the document: 'app'"),
        ('{"format": 1, "queues": []}', "queues.json, is wrong: routes is missing"),
        ('{"format": 1, "queues": [], "routes": []}', "queues.json, is wrong: default_queue"),
    ],
)
def test_what_cannot_be_read_names_its_file(config_file: Path, content: str | None, message: str) -> None:
    path = config_file.with_name("queues.json")
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load(str(config_file))


def test_a_sender_follows_new_queues_and_routes(python: Python) -> None:
    program = """
before = where(app, "shop.feed")
write(queues=FEEDS, routes=[{"task": "shop.feed", "queue": "feeds"}, {"task": "shop.pay", "queue": "default"}])
after = [where(app, name) for name in ("shop.feed", "shop.pay", "shop.payout")]
write(queues=QUEUES, routes=[])
"""
    found = shown(python, program, "[before, *after, where(app, 'shop.feed')]")
    assert [queue for queue, *_more in found] == ["default", "feeds", "default", "default", "default"]
    assert found[1] == ["feeds", "tasks", "topic", "quorum"]


def test_a_queue_that_the_caller_names_is_the_apps_own(python: Python) -> None:
    program = """
where(app, "shop.any")
made_up = where(app, "shop.any", queue="feeds")[:2]
write(queues=[*FEEDS, {"name": "reports", "type": "quorum"}])
"""
    names = "[made_up, *(where(app, 'shop.any', queue=name) for name in ('reports', 'feeds', 'payments'))]"
    assert shown(python, program, names) == [
        # Celery makes up what nobody has declared, with an exchange of its own; the file puts that right.
        ["feeds", "feeds"],
        ["reports", "tasks", "topic", "quorum"],
        ["feeds", "tasks", "topic", "quorum"],
        ["payments", "tasks", "topic", "quorum"],
    ]


def test_a_queue_is_looked_for_in_the_file_before_it_is_made_up(python: Python) -> None:
    program = "absent = 'feeds' in app.amqp.queues\nwrite(queues=FEEDS)\n"
    # Remote control asks as well, and would add one as Celery knows it.
    found = "[absent, 'feeds' in app.amqp.queues, app.amqp.queues['feeds'].exchange.name]"
    assert shown(python, program, found) == [False, True, "tasks"]


def test_a_task_that_is_tried_again_stays_in_a_new_queue(python: Python) -> None:
    program = "where(app, 'shop.any')\nwrite(queues=FEEDS)\nretry = dict(exchange='tasks', routing_key='feeds')\n"
    found = "[app.amqp.router.route(retry, 'shop.any')[key] for key in ('exchange', 'routing_key')]"
    assert shown(python, program, f"[where(app, 'shop.any', **retry)[0], {found}]") == [
        # Before kombu 5.5 no exchange delays, and what the retry names holds, whatever the queue.
        "feeds" if delays_are_kombus() else "default",
        ["tasks", "feeds"],
    ]


def test_a_worker_consumes_what_it_did(python: Python) -> None:
    program = "app.amqp.queues.select(['payments'])\nwrite(queues=FEEDS)\nwhere(app, 'shop.any')\n"
    assert shown(python, program, "[[*app.amqp.queues.consume_from], 'feeds' in app.amqp.queues]") == [
        ["payments"],
        True,
    ]


def test_the_settings_follow_as_well(python: Python) -> None:
    program = "app.conf.task_queues\nwrite(queues=FEEDS, routes=[])\nwhere(app, 'shop.any')\n"
    found = "[[queue.name for queue in app.conf.task_queues], len(app.conf.task_routes), len(app.amqp.routes)]"
    (names, routes, prepared) = shown(python, program, found)
    assert names == ["default", "payments", "feeds"]
    assert routes == prepared <= 2


def test_a_process_of_the_pool_follows(python: Python) -> None:
    program = """
where(app, "shop.feed")
read, wrote = os.pipe()
child = os.fork()
if not child:
    write(queues=FEEDS, routes=[{"task": "shop.feed", "queue": "feeds"}])
    os.write(wrote, where(app, "shop.feed")[0].encode())
    os._exit(0)
os.waitpid(child, 0)
"""
    assert shown(python, program, "[os.read(read, 99).decode(), where(app, 'shop.feed')[0]]") == ["feeds", "feeds"]


def test_the_apps_own_routes_learn_of_a_new_queue(python: Python, config_file: Path, apart: dict[str, Any]) -> None:
    write(config_file, json.loads(config_file.read_text()), {**apart, "routes": "from-app"})
    program = """
app = Celery("shop", task_routes={"shop.feed": {"routing_key": "feeds", "exchange": "own"}})
before = app.amqp.router.route({}, "shop.feed").get("queue")
write(queues=FEEDS)
"""
    assert shown(python, program, "[before and before.name, where(app, 'shop.feed')[:2]]") == [
        None,
        ["feeds", "tasks"],
    ]


def test_what_cannot_be_used_changes_nothing(python: Python) -> None:
    program = """
import logging, io
said = io.StringIO()
logging.basicConfig(stream=said)
found = []
where(app, "shop.feed")
for wrong in ({"format": 2}, {"queues": []}, {"routes": [{"task": "shop.feed", "queue": "nobodys"}]},
              {"queues": [{**queue, "type": "classic"} for queue in QUEUES]}, {"routes": "from-app"}):
    kept = FILE.read_text()
    write(queues=FEEDS, routes=[{"task": "shop.feed", "queue": "feeds"}])
    write(**wrong)
    found += [where(app, "shop.feed")[0], where(app, "shop.feed")[0], said.getvalue().count("holds on")]
    FILE.write_text(kept)
FILE.unlink()
found.append(where(app, "shop.pay")[0])
"""
    found = shown(python, program, "found")
    assert found[0::3][:5] == found[1::3] == ["default"] * 5
    # Once for each version of the file, however often somebody sends.
    assert found[2::3][:5] == [1, 2, 3, 4, 5]
    assert found[-1] == "payments"


def test_a_file_that_is_the_same_is_not_read(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = queues_path(str(config_file))
    monkeypatch.setattr(config_reader, "_read", lambda where: pytest.fail(f"{where} was read"))
    file = QueuesFile(object(), path, stamp_of(path), parse({**WHOLE}))
    assert file.look() is False
    assert QueuesFile().look() is False


WHOLE: dict[str, Any] = {
    "format": 1, "app": "shop", "broker": "rabbitmq", "default_queue": "default", "exchange": "tasks",
    "queues": [{"name": "default"}], "routes": [], "settings": {},
}  # fmt: skip


def test_what_holds_from_the_next_start_on_only_is_told(config_file: Path, apart: dict[str, Any]) -> None:
    config = load(str(config_file))
    classic = [{**queue, "type": "classic"} for queue in apart["queues"]]
    for other in ({"queues": classic}, {"routes": "from-app"}):
        write(config_file, {}, {**apart, **other})
        with pytest.raises(ConfigError, match="holds from the next start on"):
            reload_queues(config, config.queues_file)


def test_a_copy_of_the_app_reads_the_file_itself(python: Python) -> None:
    program = "import pickle\nwhere(app, 'a')\ncopy = pickle.loads(pickle.dumps(app))\nwrite(queues=FEEDS)\n"
    # What is pickled of the settings has no app in it, which would be pickled with it.
    program += "router = pickle.loads(pickle.dumps(app.conf.task_routes[0]))\n"
    what = "[where(copy, 'shop.any', queue='feeds')[1], repr(router), router.look(), router._app]"
    assert shown(python, program, what) == ["tasks", "<follow the file of the queues>", False, None]
