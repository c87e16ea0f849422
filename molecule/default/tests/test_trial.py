"""What is not in use yet is tried before it is: an environment, settings, a class, a release with its commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

pytestmark = [pytest.mark.long, pytest.mark.apart("releases")]

SHOP = Path(__file__).resolve().parents[3] / "examples" / "shop"
UNITS = [f"celery-shop-{name}.service" for name in ("high", "default", "bulk", "beat")]
FILES = "/etc/celeryops/shop/celery.env /etc/celeryops/shop/celery.json /etc/systemd/system/celery-shop-high.service"
STATE = "/var/lib/celeryops/shop"
OWN = "/etc/celeryops/shop/files"
LEFT = f"ls {OWN} /run 2> /dev/null | grep -e trial -e shop_local"


def with_a_module(text: str, **variables: Any) -> dict[str, Any]:
    """A file of the app's own that all of its processes import; it is not there yet."""
    return {
        "celery_app_files": [{"path": "shop_local.py", "content": text}],
        "celery_app_python_path": [OWN],
        "celery_app_settings": {"imports": ["shop_local"]},
        **variables,
    }


def running(host: Host) -> list[str]:
    """What runs, from which release, with which files: all of it has to be as it was."""
    shown = host.check_output(f"systemctl show --property=MainPID,ActiveState,NRestarts {' '.join(UNITS)}")
    assert shown.count("ActiveState=active") == len(UNITS), shown
    return [
        shown,
        host.check_output(f"sha256sum {FILES}; readlink /opt/celeryops/shop/current; {LEFT} || true"),
    ]


#: The parts of a run that come near the app: what it costs to try the servers as well is spent once.
PARTS = ("--tags=celery_app,celery_worker,celery_beat",)


@pytest.mark.parametrize(
    ("variables", "arguments", "cause"),
    [
        (
            {"celery_app_environment": {"SHOP_STATE": STATE, "PYTHONHOME": "/srv/misspelt"}}, (),
            "No module named 'encodings'",
        ),
        ({"celery_app_settings": {"worker_consumer": "shop.misspelt:Consumer"}}, PARTS, "cannot use worker_consumer"),
        ({"celery_app_import": "shop.celry:app"}, PARTS, "No module named 'shop.celry'"),
        (
            {"celery_app_settings": {"imports": ["shop.nothing"]}}, ("--tags=celery_app_configure",),
            "No module named 'shop.nothing'",
        ),
        (with_a_module("PASSWORD = int('s3cret-1')\n"), PARTS, "with base 10: '***'"),
        (
            with_a_module(
                "from celery import current_app\ncurrent_app.conf.task_routes = {'shop.feeds.*': 'nobodys'}\n",
                celery_app_routes="from-app", celery_app_queues=["payments", "mails", "feeds", "reports"],
            ), PARTS, "shop.feeds.* to nobodys. Consumed are default, feeds, mails, payments, reports",
        ),
        (
            {"celery_worker_host_classes": {"high": {"environment": {"PYTHONHOME": "/srv/misspelt"}}}}, PARTS,
            "celery-shop-high.service: the new content is not valid",
        ),
        ({"celery_beat_environment": {"PYTHONHOME": "/srv/misspelt"}}, PARTS, "No module named 'encodings'"),
        ({"celery_beat_scheduler": "shop.misspelt:Scheduler"}, PARTS, "No module named 'shop.misspelt'"),
    ],
    ids=[
        "environment", "a module, in the configuration alone", "a class of the settings", "import", "a file", "routes",
        "a class's own", "the scheduler's own", "the scheduler",
    ],
)  # fmt: skip
def test_what_the_app_cannot_use_changes_nothing(
    host: Host, site: Callable[..., Any], variables: dict[str, Any], arguments: tuple[str, ...], cause: str
) -> None:
    before = running(host)
    run = site(*arguments, variables=variables)
    assert len(run.messages) == 1, run.messages
    assert cause in run.messages[0]
    assert running(host) == before


@pytest.mark.usefixtures("restored")
def test_an_apps_own_routes_are_kept_where_it_asks_for_it(
    host: Host, site: Callable[..., Any], produce: Callable[..., Any]
) -> None:
    """A mail goes where the app says, to the class with the feeds; by the inventory it would go to the urgent one."""
    routes = "from celery import current_app\ncurrent_app.conf.task_routes = {'shop.mails.*': {'queue': 'feeds'}}\n"
    variables = with_a_module(
        routes, celery_app_routes="from-app", celery_app_queues=["payments", "mails", "feeds", "reports"]
    )
    run = site(*PARTS, variables=variables)
    assert run.messages == [], run.messages
    sent = "app.loader.import_default_modules(); one = send('shop.mails.send_receipt', 'own', 'a@b.example', 1)"
    ran = produce(f"{sent}; print(json.dumps(one.get(timeout=60)['ran_by']))")
    assert (ran["queue"], ran["unit"]) == ("feeds", UNITS[2])
    again = site(*PARTS, variables=variables)
    assert (again.messages, again.changed) == ([], [])
    # It stays when it leaves the list, and the other tests look for it.
    host.check_output(f"rm {OWN}/shop_local.py")


@pytest.mark.usefixtures("restored")
def test_a_class_that_does_not_come_up_ends_the_run_before_the_next(host: Host, site: Callable[..., Any]) -> None:
    """The app can be imported with what is new; only its first worker cannot start."""
    folder = "/etc/systemd/system/celery-shop-high.service.d"
    others = f"systemctl show --property=MainPID {' '.join(UNITS[1:3])}"
    before = host.check_output(others)
    host.check_output(f"mkdir -p {folder}; printf '[Service]\\nExecStartPre=/bin/false\\n' > {folder}/no.conf")
    host.check_output("systemctl daemon-reload")
    try:
        run = site(*PARTS, variables={"celery_app_environment": {"SHOP_STATE": STATE, "ANOTHER": "2"}})
    finally:
        host.check_output(f"rm -r {folder}; systemctl daemon-reload")
    assert len(run.messages) == 1, run.messages
    assert "celery-shop-high.service failed" in run.messages[0]
    assert (
        "not touched, and running as before: celery-shop-default.service, celery-shop-bulk.service" in run.messages[0]
    )
    assert host.check_output(others) == before


@pytest.mark.usefixtures("restored")
def test_commands_run_around_a_release_and_one_that_fails_keeps_the_old_one(
    host: Host, site: Callable[..., Any]
) -> None:
    before = running(host)
    source = {"type": "path", "path": str(SHOP), "build": "commands"}
    failing = ["sh", "-c", "echo $SHOP_STATE has no such table; exit 3"]
    run = site(*PARTS, variables={"celery_app_source": source, "celery_app_release_commands": [failing]})
    assert len(run.messages) == 1, run.messages
    assert "ended with 3, as shop. The release shop-" in run.messages[0]
    assert f"{STATE} has no such table" in run.messages[0]
    assert running(host) == before
    # Each in its moment: the link still leads to the old release, then to the new one.
    note = [
        "sh",
        "-c",
        f"readlink /opt/celeryops/shop/current >> {STATE}/$0; id -un >> {STATE}/$0; python -c 'import celery'",
    ]
    commands = [[*note, "before"], {"command": [*note, "after"], "when": "after"}]
    variables = {"celery_app_source": source, "celery_app_release_commands": commands}
    run = site(*PARTS, variables=variables)
    assert not run.failed, run.messages
    old, new = before[1].splitlines()[-1], host.check_output("readlink /opt/celeryops/shop/current")
    assert old != new
    read = f"cat {STATE}/before {STATE}/after"
    assert host.check_output(read).splitlines() == [old, "shop", new, "shop"]
    again = site(*PARTS, variables=variables)
    assert (again.messages, again.changed) == ([], [])
    assert len(host.check_output(read).splitlines()) == 4
    # What a deploy has left undone is made good by the next one of the same release, which switches nothing.
    variables["celery_app_source"] = {**source, "build": "undone"}
    fails = {"command": ["sh", "-c", "exit 3"], "when": "after"}
    run = site(playbook="playbooks/deploy.yml", variables={**variables, "celery_app_release_commands": [fails]})
    assert "was not finished: the next run of site.yml or deploy does it again" in run.messages[0]
    for lines in (6, 6):
        run = site(
            playbook="playbooks/deploy.yml", variables={**variables, "celery_app_release_commands": commands[1:]}
        )
        assert not run.failed, run.messages
        assert len(host.check_output(read).splitlines()) == lines
    host.check_output(f"rm {STATE}/before {STATE}/after")


@pytest.mark.usefixtures("restored")
def test_a_file_of_the_apps_own_restarts_what_reads_it(host: Host, site: Callable[..., Any]) -> None:
    pids = f"systemctl show --property=MainPID --value {' '.join(UNITS)}"
    before = host.check_output(pids).split()
    host.check_output("echo theirs > /etc/shop-token")
    files = [{"path": "/etc/shop-token", "content": "s3cret-token-1\n", "mode": "0440", "restarts": ["high"]}]
    try:
        run = site("--diff", variables={"celery_app_files": files})
        assert not run.failed, run.messages
        assert "s3cret-token-1" not in run.output
        after = host.check_output(pids).split()
        assert [one == other for one, other in zip(before, after, strict=True)] == [False, True, True, True]
        token, kept = host.file("/etc/shop-token"), host.file("/etc/shop-token.before-celeryops~")
        assert (token.user, token.group, token.mode) == ("root", "shop", 0o440)
        assert token.content_string == "s3cret-token-1\n"
        assert kept.content_string == "theirs\n"
        # It leaves the list: it stays, and that is told.
        run = site("--tags=celery_app_configure")
        assert "celery_app_files does not have /etc/shop-token any more" in run.output
        assert host.file("/etc/shop-token").exists
    finally:
        host.check_output("rm -f /etc/shop-token*")


def test_a_program_is_run_by_hand_as_the_workers_run(host: Host) -> None:
    program = "import os; print(os.environ['SHOP_STATE'], os.environ['CELERY_LOADER'], os.getcwd())"
    said = host.check_output(f'celeryops-run shop python -c "{program}"')
    assert said == f"{STATE} celeryops_runtime.loader:Loader {STATE}"
    assert host.check_output("celeryops-run shop id -un") == "shop"
    assert host.run("celeryops-run shop sh -c 'exit 7'").rc == 7
    assert "there is no app nope on this host" in host.run("celeryops-run nope id").stderr
    assert "needs root" in host.run("setpriv --reuid=nobody --clear-groups celeryops-run shop id").stderr


def test_manage_py_is_run_from_the_source_by_the_releases_python(host: Host) -> None:
    """As for a source that is no package; here it is laid into the release for that moment."""
    source = "/opt/celeryops/shop/current/app"
    program = "import os, sys; import celery; print(os.getcwd(), sys.argv, os.environ['CELERY_LOADER'], os.getuid())"
    host.check_output(f'mkdir {source} && echo "{program}" >{source}/manage.py && chmod a-x {source}/manage.py')
    try:
        # From where a person happens to be.
        said = host.check_output("cd /root && celeryops-run shop manage.py migrate --noinput")
    finally:
        host.check_output(f"rm -r {source}")
    uid = host.user("shop").uid
    folder = said.split()[0]
    assert folder.startswith("/opt/celeryops/shop/releases/")
    assert said == f"{folder} ['manage.py', 'migrate', '--noinput'] celeryops_runtime.loader:Loader {uid}"
