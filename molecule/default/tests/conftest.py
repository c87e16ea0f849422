"""What the tests of a running stack share: the host, its inventory, its secrets, another run of the playbook."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from hosts import run_in_app
from playbooks import Run, run_playbook
from selection import BRIEF, EVERYTHING, FULL, THOROUGH, belongs
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[3]
#: Molecule says whose tests these are: of `default`, on RabbitMQ, or of `redis`, where that is the broker as well.
SCENARIO = os.environ.get("MOLECULE_SCENARIO_NAME", "default")
BROKER = "rabbitmq" if SCENARIO == "default" else "redis"
SUITE = os.environ.get("CELERYOPS_SUITE", "trixie")
#: `make test` has on this stack what one is enough for, `make test-all` has everything on every one (selection.py).
DEPTH = (
    THOROUGH if os.environ.get("CELERYOPS_THOROUGH") else FULL if (SCENARIO, SUITE) == ("default", "trixie") else BRIEF
)
#: Which part of the tests runs on this host, and where some modules only do, their names
#: (scripts/tools/suites/molecule.py).
SHARD = os.environ.get("CELERYOPS_SHARD") or EVERYTHING
MODULES = os.environ.get("CELERYOPS_TESTS", "").split()
INVENTORY = ROOT / "molecule" / SCENARIO / "inventory"
LAB = ROOT / "scripts" / "lab.py"
#: Whether the host is otherwise than the inventory says: a test failed, or leaves it to the next one to put it right.
ASTRAY = pytest.StashKey[bool]()
#: Writes down every command line of the host that is new, one per line. The kernel tells the number of its youngest
#: process, so nothing is looked through while none begins; one is looked at again for a moment, because it begins with
#: the command line of the one that started it.
WATCHER = """
import os, time
os.umask(0o077)
seen, young, last = set(), {}, 0
with open("/run/celeryops-test-commands", "wb", buffering=0) as out, open("/proc/loadavg", "rb", buffering=0) as newest:
    while True:
        now, before = time.monotonic(), last
        last = int(os.pread(newest.fileno(), 100, 0).split()[-1])
        if before and before <= last:
            young |= dict.fromkeys(range(before + 1, last + 1), now)
        else:
            # The first look, and where the numbers begin anew.
            young |= {int(name): now for name in os.listdir("/proc") if name.isdigit()}
        for number, since in list(young.items()):
            if now - since > 1:
                del young[number]
            try:
                with open(f"/proc/{number}/cmdline", "rb", buffering=0) as stream:
                    line = stream.read()
            except OSError:
                continue
            if line and line not in seen:
                seen.add(line)
                out.write(line + b"\\n")
        time.sleep(0.002)
"""


class Secrets(Mapping[str, str]):
    """The secrets by the name of their file, as they are now; pytest shows the names only when a test fails."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, name: str) -> str:
        path = self._folder / name
        if not path.is_file():
            raise KeyError(name)
        return path.read_text().strip()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __repr__(self) -> str:
        return f"<secrets {', '.join(self)}>"

    def _names(self) -> list[str]:
        return sorted(path.name for path in self._folder.iterdir() if path.is_file())


def run_on_stack(*arguments: str, inventory: Path = INVENTORY, **options: Any) -> Run:
    """Run a playbook of the checkout on the scenario's host; the test decides whether a failure is one."""
    return run_playbook(inventory, *arguments, **options)


@pytest.fixture(scope="session")
def site() -> Callable[..., Run]:
    """Run site.yml again: site("--check"), site(variables={"celery_worker_classes": {...}})."""
    return run_on_stack


@pytest.fixture(scope="session")
def leave_astray(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Tell that the host is otherwise than the inventory says: site.yml runs before the next test, if there is one."""

    def tell() -> None:
        request.session.stash[ASTRAY] = True

    return tell


@pytest.fixture
def restored(leave_astray: Callable[[], None]) -> Iterator[None]:
    """For a test that leaves the host otherwise than the inventory says: the next one finds it as it was."""
    yield
    leave_astray()


@pytest.fixture(scope="session")
def inventory() -> dict[str, Any]:
    """The variables of the host as a person wrote them, in that order (those that are templates, as templates)."""
    variables: dict[str, Any] = {}
    for path in sorted((INVENTORY / "group_vars" / "all").iterdir()):
        variables |= yaml.safe_load(path.read_text())
    return variables


@pytest.fixture(scope="session")
def broker() -> str:
    """What the tasks go through: ``rabbitmq`` or ``redis`` (which Valkey is to every client)."""
    return BROKER


@pytest.fixture(scope="session")
def suite() -> str:
    return SUITE


@pytest.fixture(scope="session")
def engine(host: Host) -> str:
    """Which server holds the results, and in the scenario `redis` the tasks: redis or valkey."""
    found = [name for name in ("redis", "valkey") if host.package(f"{name}-server").is_installed]
    assert len(found) == 1, found
    return found[0]


@pytest.fixture(scope="session")
def servers(broker: str, engine: str) -> list[str]:
    """The servers' units."""
    return [*(["rabbitmq-server.service"] if broker == "rabbitmq" else []), f"{engine}-server.service"]


@pytest.fixture(scope="session")
def ask_redis(host: Host, secrets: Mapping[str, str], engine: str) -> Callable[[str], str]:
    """Put a question to Redis or Valkey as its administrator: ask_redis("ACL USERS")."""

    def ask(command: str) -> str:
        login = f"REDISCLI_AUTH={secrets['redis_admin_password']} {engine}-cli --user admin --no-auth-warning"
        return host.check_output(f"{login} {command}")

    return ask


@pytest.fixture(scope="session")
def container(suite: str) -> str:
    return os.environ.get("CELERYOPS_HOST", f"celeryops-test-{suite}")


@pytest.fixture(scope="session")
def host(container: str) -> Host:
    return testinfra.get_host(f"docker://{container}")


@pytest.fixture
def dead_letters(host: Host) -> Iterator[Callable[[], int]]:
    """Count the messages that RabbitMQ keeps for somebody to look at; afterwards there are none."""

    def count() -> int:
        lines = host.check_output("rabbitmqctl --silent list_queues --vhost shop name messages").splitlines()
        return int(next(line.split()[1] for line in lines if line.split()[0] == "dead-letters"))

    yield count
    if BROKER == "rabbitmq":
        host.check_output("rabbitmqctl --silent purge_queue --vhost shop dead-letters")


@pytest.fixture(scope="session")
def produce(host: Host, inventory: dict[str, Any]) -> Callable[..., Any]:
    """Run Python as the app's web process would: its account, and the one line in its unit; returns what it prints.

    The text gets ``send(name, *args, **options)``, which sends a task by name from an unmodified app.
    """
    app, module = inventory["celery_app_name"], inventory["celery_app_import"].split(":")[0]

    def run(text: str, *, account: str = app) -> Any:
        program = "\n".join(
            [
                "import json, time",
                f"from {module} import app",
                "def send(name, *args, **options):",
                "    return app.signature(name, args=args).apply_async(**options)",
                text,
            ]
        )
        return json.loads(run_in_app(host, app, program, account=account).splitlines()[-1])

    return run


@pytest.fixture(scope="session")
def reboot(container: str) -> Callable[[], None]:
    """Restart the host and wait until systemd is up again; a failed unit is an error."""

    def restart() -> None:
        done = subprocess.run([LAB, "restart", container], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return restart


@pytest.fixture(scope="session")
def run_name(suite: str) -> str:
    """The name of this run of the scenario on this suite; the inventory calls it test_run."""
    return os.environ.get("CELERYOPS_RUN") or (suite if SCENARIO == "default" else f"{suite}-{SCENARIO}")


@pytest.fixture(scope="session")
def secret_folder(run_name: str) -> Path:
    """Where the control machine keeps the generated secrets."""
    return ROOT / "build" / "molecule" / run_name / "secrets"


@pytest.fixture
def secret_files(secret_folder: Path) -> list[Path]:
    """The files of the generated secrets; a playbook for another app may add some."""
    files = sorted(path for path in secret_folder.rglob("*") if path.is_file())
    assert files, f"{secret_folder} is empty"
    return files


@pytest.fixture(scope="session")
def secrets(secret_folder: Path) -> Secrets:
    """Every generated secret by the name of its file."""
    return Secrets(secret_folder)


@pytest.fixture(scope="session")
def witness(host: Host) -> Callable[[], AbstractContextManager[Callable[[], str]]]:
    """Watch all command lines of the host while something runs: ``with witness() as seen: ...``, then ``seen()``."""

    @contextmanager
    def watch() -> Iterator[Callable[[], str]]:
        lines = ""
        program, unit = "/run/celeryops-test-witness.py", "celeryops-test-witness"
        host.check_output(
            f"cat > {program} <<'END'\n{WATCHER}\nEND\nsystemd-run --quiet --collect --unit={unit} python3 {program}"
        )
        try:
            yield lambda: lines
            lines = host.check_output("tr '\\0' ' ' < /run/celeryops-test-commands")
        finally:
            host.check_output(f"systemctl stop {unit}; rm -f {program} /run/celeryops-test-commands")

    return watch


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "broker(name): only this broker, rabbitmq or redis, can show it")
    config.addinivalue_line("markers", "long: takes minutes; on Debian 13 in make test, everywhere in make test-all")
    config.addinivalue_line("markers", "alike: the same on every Debian and broker; in make test on Debian 13")
    config.addinivalue_line("markers", "seldom: takes minutes, and few changes touch it; in make test-all only")
    config.addinivalue_line("markers", "apart(host): on a host of its own, beside the one with the other tests")
    config.addinivalue_line("markers", "takes_over: it needs no repaired host before it, as its own run is the repair")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what belongs to another broker, to another host or to a longer run; pytest tells how many those are."""
    mine, other = [], []
    for item in items:
        marks = {marker.name: marker.args for marker in reversed([*item.iter_markers()])}
        assert {*marks.get("broker", ())} <= {"rabbitmq", "redis"}, item.nodeid
        here = belongs(item.path.stem, marks, broker=BROKER, depth=DEPTH, shard=SHARD, modules=MODULES)
        (mine if here else other).append(item)
    config.hook.pytest_deselected(items=other)
    items[:] = mine


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Put the host right before the fixtures of a test begin, unless that one takes it over as it is."""
    if item.session.stash.get(ASTRAY, False) and item.get_closest_marker("takes_over") is None:
        item.session.stash[ASTRAY] = False
        run = run_on_stack()
        assert not run.failed, run.messages


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """A failure brings the last lines of the journal with it, and the next test begins with a repair."""
    report = yield
    if report.failed or (report.when == "call" and item.get_closest_marker("takes_over")):
        item.session.stash[ASTRAY] = report.failed
    host = getattr(item, "funcargs", {}).get("host")
    if report.when == "call" and report.failed and host is not None:
        journal = host.run(
            "journalctl --no-pager --lines=40 --output=short --unit='celery-*' --unit='rabbitmq*' --unit='re*'"
        )
        report.sections.append(("journal of the services", journal.stdout))
    return report
