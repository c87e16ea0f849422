"""Superset: SQL Lab's asynchronous queries, its alerts, and a schedule that asks each minute whether one is due."""

from __future__ import annotations

from typing import Any

import pytest
from application import EXAMPLE, Application
from hosts import wait

#: What its web process does for a person at the browser, in a process with its settings: ask("GET", "query/").
WEB = """
import time
from superset.tasks.celery_app import flask_app
web, headers = flask_app.test_client(), {}
def ask(method, path, **given):
    answer = web.open(f"/api/v1/{path}", method=method, headers=headers, **given)
    assert answer.status_code < 300, (path, answer.get_data(as_text=True))
    return answer.get_json()
person = {"username": "apps", "password": "only-in-the-lab", "provider": "db"}
headers["Authorization"] = "Bearer " + ask("POST", "security/login", json=person)["access_token"]
headers["X-CSRFToken"] = ask("GET", "security/csrf_token/")["result"]
databases = {one["database_name"]: one["id"] for one in ask("GET", "database/")["result"]}
"""
#: The database that its own tables are in, with "Asynchronous query execution".
CONNECT = """
if "apps" not in databases:
    uri = flask_app.config["SQLALCHEMY_DATABASE_URI"]
    ask("POST", "database/", json={"database_name": "apps", "sqlalchemy_uri": uri, "allow_run_async": True})
print("null")
"""
#: Counts which classes' workers have taken a task while something was done.
CLASSES = """
told = {"classes": {}, "results": {}}
def counts(task):
    stats = app.control.inspect(timeout=15, limit=3).stats()
    assert len(stats) == 3, "not all workers answered"
    return {node.split("@")[0]: one["total"].get(task, 0) for node, one in stats.items()}
def watched(task, do):
    before = counts(task)
    result = do()
    after = counts(task)
    told["classes"][task] = [name for name in after if after[name] > before[name]]
    return result
"""
#: Tasks that change nothing in an empty Superset.
TASKS = """
def run(name, **arguments):
    sent = app.send_task(name, kwargs=arguments)
    sent.get(timeout=120, propagate=False)
    return [sent.state, sent.result]
for name, arguments in {
    "reports.prune_log": {},
    "prune_query": {"retention_period_days": 180},
    "cache-warmup": {"strategy_name": "dummy"},
}.items():
    told["results"][name] = watched(name, lambda: run(name, **arguments))
"""
#: Runs a query as SQL Lab does: what it answers at once, what becomes of it, and the rows that are fetched afterwards.
QUERY = """
def query():
    given = {"database_id": databases["apps"], "sql": "SELECT name FROM ab_role WHERE name = 'Gamma'", "runAsync": True,
             "client_id": f"{time.time_ns():x}"[-11:]}
    at_once = ask("POST", "sqllab/execute/", json=given)["query"]
    for _second in range(60):
        found = ask("GET", f"query/{at_once['queryId']}")["result"]
        if found["status"] in ("success", "failed"):
            break
        time.sleep(1)
    rows = ask("GET", f"sqllab/results/?q=(key:'{found['results_key']}')")["data"] if found["results_key"] else []
    return [at_once["state"], found["status"], rows]
told["query"] = watched("sql_lab.get_sql_results", query)
print(json.dumps(told, default=str))
"""
#: An alert that asks its database each minute, and has nothing to tell.
ALERT = """
alerts = {one["name"] for one in ask("GET", "report/")["result"]}
me = ask("GET", "me/")["result"]["id"]
if "quiet" not in alerts:
    ask("POST", "report/", json={
        "type": "Alert", "name": "quiet", "crontab": "* * * * *", "timezone": "UTC", "active": True, "owners": [me],
        "database": databases["apps"], "sql": "SELECT count(*) FROM logs WHERE 1 = 0", "validator_type": "operator",
        "validator_config_json": {"op": ">", "threshold": 0}, "dashboard": DASHBOARD, "working_timeout": 60,
        "creation_method": "alerts_reports", "recipients": [],
    })
print("null")
"""
SEEN = "SELECT count(*) FROM report_execution_log WHERE state = 'Not triggered'"


@pytest.fixture(scope="module")
def person(application: Application) -> Application:
    """The application with a person who has a database, as the README of the example has it."""
    names = "--username apps --firstname Ap --lastname Ps --email apps@example.org --password only-in-the-lab"
    application.by_hand(f"superset fab create-admin {names}")
    application.python(WEB + CONNECT)
    return application


@pytest.fixture(scope="module", autouse=True)
def alert(person: Application) -> None:
    """An alert that is due each minute: the last test looks at what has become of it."""
    board = 'DASHBOARD = ask("POST", "dashboard/", json={"dashboard_title": "apps"})["id"]\n'
    person.python(WEB + board + ALERT)


def ask_database(application: Application, sql: str) -> str:
    return application.on(f'cd / && runuser -u postgres -- psql -Atd superset -c "{sql}"')


def test_the_tables_are_there(application: Application) -> None:
    assert application.by_hand("superset db current").endswith("(head)")


def test_its_database_is_set_up_once(application: Application) -> None:
    run = application.play(EXAMPLE / "before.yml")
    assert (run.failed, run.changed) == (False, []), run.output


def test_it_runs_with_the_redis_that_it_pins(application: Application) -> None:
    told = application.python("import celery, redis; print(json.dumps([celery.__version__, redis.__version__]))")
    assert [version.rpartition(".")[0] for version in told] == ["5.7", "5.3"]


@pytest.fixture(scope="module")
def ran(person: Application) -> dict[str, Any]:
    """What has come of its tasks: all in one process, since importing Superset takes long."""
    return person.python(f"{WEB}{CLASSES}{TASKS}{QUERY}")


@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        ("reports.prune_log", "reports"),
        ("prune_query", "default"),
        ("cache-warmup", "default"),
        ("sql_lab.get_sql_results", "sqllab"),
    ],
)
def test_its_own_tasks_run_where_they_belong(ran: dict[str, Any], task: str, wanted: str) -> None:
    assert ran["classes"][task] == [wanted]


def test_the_result_of_a_task_comes_back(ran: dict[str, Any]) -> None:
    assert ran["results"] == {
        "reports.prune_log": ["SUCCESS", None],
        "prune_query": ["SUCCESS", None],
        "cache-warmup": ["SUCCESS", {"scheduled": [], "errors": []}],
    }


def test_the_rows_of_an_asynchronous_query_come_back(ran: dict[str, Any]) -> None:
    """By way of its own API: the web process sends it, and fetches the rows that the worker has left in Redis."""
    assert ran["query"] == ["pending", "success", [{"name": "Gamma"}]]


def test_its_cache_sees_nothing_else(application: Application) -> None:
    """The account of the cache may neither see the results of tasks nor wipe them away."""
    found, refused = application.python(
        "from superset.tasks.celery_app import flask_app\n"
        "import redis\n"
        "with flask_app.app_context():\n"
        "    from superset.extensions import cache_manager\n"
        "    cache_manager.cache.set('apps', 'seen')\n"
        "    found = cache_manager.cache.get('apps')\n"
        "client, told = redis.Redis.from_url(flask_app.config['CACHE_CONFIG']['CACHE_REDIS_URL']), []\n"
        "for command in (('GET', 'superset:celery-task-meta-x'), ('FLUSHALL',), ('KEYS', '*')):\n"
        "    try:\n        client.execute_command(*command)\n"
        "    except redis.exceptions.NoPermissionError:\n        told.append(command[0])\n"
        "print(json.dumps([found, told]))"
    )
    assert (found, refused) == ("seen", ["GET", "FLUSHALL", "KEYS"])


def test_its_own_schedule_is_kept(application: Application) -> None:
    application.wait_for_beat("reports.scheduler", "reports.scheduler", 90)


def test_an_alert_is_looked_at_each_minute(person: Application) -> None:
    """The scheduler sends the scheduler's task, that one sends the alert's for the full minute, and that asks."""
    wait(lambda: int(ask_database(person, SEEN)) > 0, 150, "no alert was looked at")
    assert person.runs()["reports"]["reports.execute"] > 0
