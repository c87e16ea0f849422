"""Weblate: five queues, a worker for each, and a schedule that is kept in PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
from application import EXAMPLE, Application
from hosts import wait

QUEUES = ("celery", "notify", "memory", "translate", "backup")
#: auto_translate says nothing but that what it is to translate is gone.
NOTHING = {
    "user_id": None,
    "mode": "suggest",
    "q": "",
    "auto_source": "mt",
    "source_component_id": None,
    "engines": [],
    "threshold": 80,
    "component_id": 0,
}


def test_the_tables_are_there(application: Application) -> None:
    application.by_hand("weblate migrate --check")


def test_its_database_is_set_up_once(application: Application) -> None:
    run = application.play(EXAMPLE / "before.yml")
    assert (run.failed, run.changed) == (False, []), run.output


def test_it_runs_with_the_celery_that_it_pins(application: Application) -> None:
    assert application.python("import celery, redis; print(json.dumps([celery.__version__, redis.__version__]))") == [
        "5.6.3",
        "6.4.0",
    ]


def test_each_of_its_queues_has_the_worker_that_its_documentation_has(application: Application) -> None:
    told = application.python("print(json.dumps(app.control.inspect(timeout=15).active_queues()))")
    assert {node.split("@")[0]: [queue["name"] for queue in queues] for node, queues in told.items()} == {
        name: [name] for name in QUEUES
    }


def test_it_counts_its_queues_itself(application: Application) -> None:
    """It declares them once more to do so, as whoever asks a queue for its length by AMQP."""
    lines = application.by_hand("weblate celery_queues").splitlines()
    assert [line.split(":")[0] for line in lines] == sorted(QUEUES)


@pytest.mark.parametrize(
    ("task", "wanted", "arguments"),
    [
        ("weblate.utils.tasks.ping", "celery", {}),
        ("weblate.trans.tasks.cleanup_project_backups", "celery", {}),
        ("weblate.accounts.tasks.notify_daily", "notify", {}),
        ("weblate.memory.tasks.cleanup_orphaned_memory", "memory", {}),
        ("weblate.trans.tasks.auto_translate", "translate", NOTHING),
        ("weblate.utils.tasks.settings_backup", "backup", {}),
        ("weblate.utils.tasks.database_backup", "backup", {}),
    ],
    ids=lambda value: value.rpartition(".")[2] if isinstance(value, str) else "",
)
def test_its_own_tasks_run_where_they_belong(
    application: Application, task: str, wanted: str, arguments: dict[str, Any]
) -> None:
    assert application.took(task, **arguments) == {wanted}


def test_a_result_comes_back(application: Application) -> None:
    state, found = application.result("weblate.utils.tasks.ping")
    assert state == "SUCCESS"
    assert found["version"]
    assert found["data_dir"] == f"{application.state}/data"
    assert found["uid"] == int(application.on(f"id -u {application.name}"))


def test_its_backups_are_in_its_state_directory(application: Application) -> None:
    assert application.took("weblate.utils.tasks.database_backup") == {"backup"}
    dump = f"{application.state}/data/backups/database.sql"
    assert "CREATE TABLE public.trans_component " in application.on(f"grep 'CREATE TABLE public.trans_comp' {dump}")


def test_its_own_schedule_is_kept_in_the_database(application: Application) -> None:
    """The heartbeat of every two minutes, which nobody else sends."""
    beats = "weblate.utils.tasks.heartbeat"
    wait(lambda: application.runs()["celery"][beats] > 0, 150, "no heartbeat was sent")
    sql = "SELECT total_run_count FROM django_celery_beat_periodictask WHERE name = 'heartbeat'"
    ask = f'cd / && runuser -u postgres -- psql -Atd weblate -c "{sql}"'
    # The scheduler writes what it has sent every three minutes.
    wait(lambda: int(application.on(ask)) > 0, 200, "the database does not know of a run")
