"""One stack under load: its hosts, what is sent to it, and what became of each task."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from tools.chaos.ledger import Ledger
from tools.chaos.report import Strike, Window
from tools.chaos.stacks import STACKS
from tools.chaos.whole import MASTER, address_of_primary, all_redis_faults, ask, rabbitmq_faults
from tools.lab import engine, machine, network

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

ROOT = machine.ROOT
WORK = ROOT / "build" / "chaos"
SCENARIO = ROOT / "tests" / "chaos"
#: The ledger's files, and where the containers have them.
PARTS = ("sent.log", "work.log")
LEDGER = "/srv/ledger"
APP = "chaos"
ENVIRONMENT, PYTHON = f"/etc/celeryops/{APP}/celery.env", f"/opt/celeryops/{APP}/current/bin/python"
PRODUCER = "chaos-producer.service"

#: Has the program by which packets are dropped.
IPTABLES = """command -v iptables || {
apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends iptables; }"""
#: How long nobody does anything after a fault, in seconds: a long task that it ended would have ended by then.
CALM = 11.0
#: How long a server of a cluster stays down, cut off, or frozen, in seconds; and each in the shortened form.
DOWN, CUT, FROZEN, SHORT = 60.0, 60.0, 120.0, 30.0
#: How long a class may take to come back before that counts as never, in seconds.
RECOVER = 120.0
#: What is written on the host has disks of its own, which can be filled without filling this machine's: volume ->
#: folder and size. They lie in memory, and stay there while a container has them mounted.
DISKS = {
    "rabbitmq": ("/var/lib/rabbitmq", "1g"),
    "redis": ("/var/lib/redis", "512m"),
    "state": ("/var/lib/celeryops", "64m"),
    "log": ("/var/log/celeryops", "64m"),
}
#: How long Redis may keep what nobody acknowledged, in seconds: the inventory's visibility timeout, up to 100 s until a
#: worker looks (every tenth of its looks at 10 s, kombu 5.7), and the longest task.
REDELIVERY = 45.0 + 100.0 + 15.0


class ChaosError(Exception):
    """The scenario itself does not work; it says nothing about the stack."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, or is done on purpose.

    Arguments:
        planned: a person asked for it: nothing may be lost and nothing may run twice.
        strike: does it, and returns its blows.
        times: how often.
        brokers: on which brokers it means anything.
        short: whether it belongs to the shortened form, and how often there.
        cluster: whether it is done to a cluster of RabbitMQ, or to a stack with one node.
        within: in how many seconds every class has to be back; 0 where nobody says.
    """

    key: str
    title: str
    planned: bool
    strike: Callable[[Scenario], Sequence[Strike]]
    times: int = 1
    brokers: tuple[str, ...] = ("rabbitmq", "redis")
    short: int = 0
    cluster: bool = False
    within: float = 0.0


def run(command: Sequence[str | Path], *, check: bool = True, log: Path | None = None, **environment: str) -> str:
    """Run a command and return what it said.

    Raises:
        ChaosError: when it failed, with the end of what it said.
    """
    done = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    if log:
        with log.open("a") as stream:
            stream.write(f"$ {' '.join(map(str, command))}\n{done.stdout}\n")
    if check and done.returncode:
        raise ChaosError(
            f"`{' '.join(map(str, command[:6]))} ...` ended with {done.returncode}:\n{done.stdout[-4000:]}"
        )
    return done.stdout


class Scenario:
    """One stack under load."""

    def __init__(
        self, name: str, console: Console, without: str = "", *, short: bool = False, append: bool = False
    ) -> None:
        """Name the containers and the folders; nothing is started yet."""
        self.name, self.console, self.without, self.short, self.append = name, console, without, short, append
        what = STACKS[name]
        self.suite, self.broker, self.constraints, self.cluster = (
            what.suite,
            what.broker,
            what.constraints,
            what.cluster,
        )
        host = f"chaos-{name.replace('.', '-')}"
        self.stack, self.web = machine.own(host), machine.own(f"{host}-web")
        #: The hosts of a cluster's nodes, and all that have workers.
        self.nodes = tuple(machine.own(f"{host}-mq{number}") for number in (1, 2, 3)) if self.cluster else ()
        self.workers = (self.stack, machine.own(f"{host}-stack2")) if self.cluster else (self.stack,)
        #: What servers and Sentinels call each other by.
        self.addresses: dict[str, str] = {}
        #: Which of the two a cluster has: Debian 14 is where Valkey is at home.
        self.redis = "valkey" if self.cluster and self.suite == "forky" else "redis"
        #: Where the servers are: a folder beside the inventory.
        self.brokers = "cluster" if self.cluster else "single"
        #: The fault's strikes so far.
        self.turn = 0
        disks = {} if self.cluster else DISKS
        self.disks = {machine.own(f"{host}-{volume}"): disk for volume, disk in disks.items()}
        self.work = WORK / name
        self.ledger_folder = self.work / "ledger"
        self.log = self.work / "commands.log"
        inventory = yaml.safe_load((SCENARIO / "inventory" / "group_vars" / "all.yml").read_text())
        defaults: dict[str, Any] = inventory["celery_worker_defaults"]
        self.defaults = defaults
        self.stop_timeout = float(str(defaults["stop_timeout"]).removesuffix("s"))
        self.concurrency = int(defaults["concurrency"])
        self.classes: dict[str, str] = {
            group: "early" if without == "late" else {**defaults, **own}["acknowledgement"]
            for group, own in inventory["celery_worker_classes"].items()
        }
        more = self._classes_of_second_host() if self.cluster else ()
        self.processes = {group: self.concurrency * (1 + (group in more)) for group in self.classes}
        self.variables = self._variables(inventory["celery_worker_classes"], defaults)
        self.release = 0
        self.ledger = Ledger()
        self.windows: list[Window] = []
        self.notes: list[str] = []
        #: Late tasks that did not come back in the longest time that Redis may take.
        self.given_up: set[str] = set()
        self._read: dict[Path, int] = {}
        self._clock = 0.0

    def _classes_of_second_host(self) -> set[str]:
        hosts = yaml.safe_load((SCENARIO / "cluster" / "hosts.yml").read_text())["all"]["hosts"]
        return set(self.classes) - set(hosts["stack2"]["celery_worker_classes"])

    def _variables(self, classes: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
        variables: dict[str, Any] = {"celery_app_broker": self.broker}
        if self.cluster:
            variables["redis_implementation"] = self.redis
        match self.without:
            case "late":
                variables["celery_worker_classes"] = {
                    group: {**own, "acknowledgement": "early"} for group, own in classes.items()
                }
            case "watchdog":
                variables["celery_worker_defaults"] = {**defaults, "watchdog": 0}
            case "confirms":
                variables["celery_app_settings"] = {"broker_transport_options": {"confirm_publish": False}}
        return variables

    # -- the containers ------------------------------------------------------------------------------------------

    @property
    def unit(self) -> Callable[[str], str]:
        """Return what names the unit of a class."""
        return lambda group: f"celery-{APP}-{group}.service"

    @property
    def units(self) -> list[str]:
        """Name the units of all classes."""
        return [self.unit(group) for group in self.classes]

    def on(self, script: str, *, check: bool = True, host: str = "") -> str:
        """Run a shell script as root, on the stack's host or on another one."""
        return run(["docker", "exec", host or self.stack, "sh", "-c", script], check=check, log=self.log)

    def now(self) -> float:
        """Return the time of the ledger's clock; the engine's machine may be another one than this."""
        return time.monotonic() + self._clock

    def play(self, playbook: str, *, check: bool = True, **variables: Any) -> str:
        """Run a playbook on all hosts."""
        extra = self.work / "extra.json"
        extra.write_text(json.dumps({**self.variables, **variables}))
        names = {
            "CHAOS_STACK": self.stack,
            "CHAOS_STACK2": self.workers[-1],
            **{f"CHAOS_MQ{number}": node for number, node in enumerate(self.nodes, 1)},
            **{f"CHAOS_MQ{number}_ADDRESS": self.addresses[node] for number, node in enumerate(self.nodes, 1)},
            "CHAOS_WEB": self.web,
        }
        inventories = [f"--inventory={SCENARIO / folder}" for folder in ("inventory", self.brokers)]
        return run(
            ["ansible-playbook", *inventories, f"--extra-vars=@{extra}", ROOT / playbook],
            check=check,
            log=self.log,
            **names,
            CHAOS_WORK=str(self.work),
            ANSIBLE_STDOUT_CALLBACK="ansible.builtin.default",
            ANSIBLE_NOCOLOR="1",
        )

    def create(self) -> None:
        """Have both hosts, the stack on them, and an empty ledger."""
        self.ledger_folder.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")
        ledger = f"--volume={self.ledger_folder}:{LEDGER}"
        # The other container keeps them mounted while the host reboots.
        spare = [f"--volume={volume}:/srv/{number}" for number, volume in enumerate(self.disks)]
        disks = [f"--volume={volume}:{folder}" for volume, (folder, _size) in self.disks.items()]
        # Of the machines only: dropping the packets of a port is an administrator's business inside a container too.
        admin = "--capability=NET_ADMIN"
        engine.engine()
        for volume, (_folder, size) in self.disks.items():
            options = ("type=tmpfs", "device=tmpfs", f"o=size={size},mode=0755")
            run(["docker", "volume", "create", *(f"--opt={option}" for option in options), volume], log=self.log)
        for host, more in ((self.web, spare), *((worker, [*disks, admin]) for worker in self.workers)):
            run([ROOT / "scripts" / "lab.py", "up", host, f"--suite={self.suite}", ledger, *more], log=self.log)
        for node in self.nodes:
            self.new_node(node)
        for file in self.ledger_folder.iterdir():
            file.unlink()
        if self.append:
            self.restore()
        # Accounts of two hosts write there, which this machine does not know.
        self.ledger_folder.chmod(0o1777)
        if not self.nodes:
            self.on(IPTABLES)
        self.say("putting the stack on its hosts")
        self.deploy()
        there = float(run(["docker", "exec", self.stack, "python3", "-c", "import time; print(time.monotonic())"]))
        offset = there - time.monotonic()
        self._clock = offset if abs(offset) > 1 else 0.0

    def deploy(self) -> None:
        """Put the stack on its hosts."""
        self.play("site.yml", celery_app_source=self.source())
        self.switch_off()

    def new_node(self, node: str) -> None:
        """Have the host of a node, empty where it is new."""
        lab = ROOT / "scripts" / "lab.py"
        run([lab, "up", node, f"--suite={self.suite}", "--capability=NET_ADMIN"], log=self.log)
        self.addresses[node] = network.address_of(node)
        self.on(IPTABLES, host=node)

    def restore(self) -> None:
        """Go on with the ledger and the windows of the run before.

        Raises:
            ChaosError: when there was none.
        """
        kept = self.results
        if not (kept / "windows.json").exists():
            raise ChaosError(f"there is nothing to add to: {kept} is empty")
        data = json.loads((kept / "windows.json").read_text())
        self.windows = [Window.load(window) for window in data["windows"]]
        for part in PARTS:
            shutil.copyfile(kept / part, self.ledger_folder / part)
            # The accounts of the containers, whose own it is not now, go on writing.
            (self.ledger_folder / part).chmod(0o666)

    def switch_off(self) -> None:
        """Take away the protection that the run is without, where it is one of the units'; or see that all have it."""
        lines = {"killmode": "KillMode=control-group", "drain": "Environment=CELERYOPS_STOP_TIMEOUT=0"}.get(
            self.without
        )
        for unit in self.units:
            folder = f"/etc/systemd/system/{unit}.d"
            if lines:
                self.on(f"mkdir -p {folder} && printf '[Service]\\n{lines}\\n' > {folder}/90-chaos.conf")
            else:
                self.on(f"rm -f {folder}/90-chaos.conf")
        self.on(f"systemctl daemon-reload && systemctl restart {' '.join(self.units)}")

    def remove(self) -> None:
        """Remove the containers, their disks, and the broker's secrets with them."""
        run(["docker", "unpause", *self.nodes], check=False, log=self.log)
        run([ROOT / "scripts" / "lab.py", "down", *self.workers, *self.nodes, self.web], log=self.log)
        if self.disks:
            run(["docker", "volume", "rm", "--force", *self.disks], log=self.log)
        shutil.rmtree(self.work / "secrets", ignore_errors=True)

    def source(self, *, broken: bool = False) -> dict[str, Any]:
        """Write the next release of the app, and return where it is.

        A broken one passes every check that does not start a worker: it can be imported, and has all of its tasks.
        """
        self.release += 1
        folder = self.work / "releases" / str(self.release)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(SCENARIO / "app", folder)
        with (folder / "src" / "chaos_app" / "__init__.py").open("a") as stream:
            stream.write(f"\nRELEASE = {self.release}\n")
            if broken:
                stream.write('import sys\nif "worker" in sys.argv:\n    raise SystemExit("this release is broken")\n')
        return self.last_source()

    def last_source(self) -> dict[str, Any]:
        """Return where the last release of the app is."""
        held = {"constraints": "\n".join(self.constraints)} if self.constraints else {}
        return {"type": "path", "path": str(self.work / "releases" / str(self.release)), **held}

    # -- the load ------------------------------------------------------------------------------------------------

    def produce(self, *arguments: str, unit: str = "") -> str:
        """Run the app's producer on its host as a web process of the app would run."""
        command = ["docker", "exec", self.web, "systemd-run", "--quiet", "--collect"]
        command += [f"--unit={unit}"] if unit else ["--pipe", "--wait"]
        command += [f"--property=User={APP}", f"--property=EnvironmentFile={ENVIRONMENT}"]
        command += ["--property=Restart=always"] if unit else []
        return run([*command, PYTHON, "-m", "chaos_app.producer", *arguments], log=self.log)

    def restart_producer(self) -> None:
        """Stop what sends the load, if it runs, and start it with the configuration that is there now."""
        run(["docker", "exec", self.web, "systemctl", "stop", PRODUCER], check=False, log=self.log)
        self.produce(unit=PRODUCER)

    def produce_with(self, program: str, *arguments: str) -> str:
        """Run a program on the host of the producer, with its user and its environment; return what it printed."""
        options = f"--property=User={APP} --property=EnvironmentFile={ENVIRONMENT}"
        words = f"{PYTHON} - {' '.join(arguments)}"
        return self.on(
            f"systemd-run --quiet --pipe --wait --collect {options} {words} <<'END'\n{program}\nEND", host=self.web
        )

    def read(self) -> None:
        """Take in what was written into the ledger since the last time, up to the last whole line."""
        for name in PARTS:
            path = self.ledger_folder / name
            if not path.exists():
                continue
            with path.open("rb") as stream:
                stream.seek(self._read.get(path, 0))
                new = stream.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            for line in whole.decode().splitlines():
                self.ledger.add(line)

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for something that the ledger, or anything else, shows; return whether it came."""
        deadline = time.monotonic() + seconds
        while True:
            self.read()
            if condition():
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.3)

    def back(self, since: float) -> Callable[[], bool]:
        """Return whether every class finishes what was sent after ``since``, and has nothing left of what it can do."""

        def all_well() -> bool:
            now = self.now()
            for group in self.classes:
                short = [task for task in self.ledger.tasks.values() if task.group == group and task.kind == "short"]
                new = [task for task in short if task.began >= since]
                if sum(1 for task in new if task.finished is not None) < 5:
                    return False
                # Quorum queues put what comes back at their head or their end; what came since must be through.
                if any(task.finished is None and task.began < now - 3 for task in new):
                    return False
            return True

        return all_well

    def overdue(self) -> set[str]:
        """Return the tasks that are acknowledged late, should be finished by now, and may still come."""
        now = self.now()
        return {
            task.id
            for task in self.ledger.tasks.values()
            if task.lost and self.classes[task.group] == "late" and task.due < now and task.id not in self.given_up
        }

    def pids(self, group: str, kind: str = "long", least: float = 1.0) -> list[int]:
        """Return the processes that have run a task of this kind for a moment, and will for another."""
        self.read()
        now = self.now()
        return [
            run.pid
            for task, run in self.ledger.running(group, [kind])
            if least < now - run.start < task.seconds - 2 and run.finish is None
        ]

    # -- faults --------------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Tell the person at the keyboard what is going on."""
        self.console.print(f"  {datetime.datetime.now().astimezone():%H:%M:%S} {self.name:9} {text}", highlight=False)

    def all_in_flight(self) -> dict[str, int]:
        """Return what every class can have begun: a task for each process."""
        return dict(self.processes)

    def faulted(self, fault: Fault) -> None:
        """Do one fault, wait until all is well again, and keep its window."""
        begin = self.now()
        since = datetime.datetime.now(tz=datetime.UTC)
        self.notes = []
        strikes: list[Strike] = []
        times = (fault.short if self.short else 0) or fault.times
        self.say(fault.title + (f", {times} times" if times > 1 else ""))
        for self.turn in range(times):
            blows = fault.strike(self)
            strikes += blows
            if not self.wait(self.back(blows[-1].over), RECOVER):
                self.notes.append("did not come back in time")
                break
        if self.broker == "redis":
            # The next fault would get at what waits for its visibility timeout: nobody could tell which one lost it.
            self.wait(lambda: not self.overdue(), REDELIVERY)
            self.given_up |= self.overdue()
        if self.without == "watchdog":
            # Nobody else would wake them. Whether they came back by themselves is known by now.
            self.on(f"for unit in {' '.join(self.units)}; do kill -CONT $(systemctl show -P MainPID $unit); done")
        self.wait(lambda: self.now() > strikes[-1].over + CALM, CALM)
        if self.nodes:
            self.whole()
        self.journal(fault, since)
        self.windows.append(
            Window(
                fault.key,
                fault.planned,
                begin,
                self.now(),
                tuple(strikes),
                tuple(self.notes),
                fault.within,
                # Whatever is planned for a cluster restarts its nodes.
                fault.planned and fault.cluster,
                self.processes,
            )
        )
        self.save()

    def whole(self) -> None:
        """Wait until the cluster is whole again by itself, and note when it is not."""
        faults: list[str] = []

        def whole() -> bool:
            faults[:] = self.faults_of_cluster()
            return not faults

        if not self.wait(whole, RECOVER):
            self.notes.append(f"the cluster is not whole: {'; '.join(faults)}")

    def faults_of_cluster(self) -> list[str]:
        """Return how the cluster, or the one server that it is so far, is not whole."""
        nodes = self.nodes if self.brokers == "cluster" else self.nodes[:1]
        ask = "timeout 30 rabbitmqctl --quiet --formatter json"
        faults: list[str] = []
        for node in nodes:
            status = self.on(f"{ask} cluster_status", check=False, host=node)
            queues = self.on(f"{ask} list_queues --vhost {APP} name type members online", check=False, host=node)
            faults += rabbitmq_faults(node, len(nodes), status, queues)
        if len(nodes) > 1:
            faults += all_redis_faults(nodes, self.addresses, f"{self.redis}-cli", self.work / "secrets")
        return faults

    def primary(self) -> str:
        """Return the host of the Redis that takes writes.

        Raises:
            ChaosError: when no Sentinel knows it.
        """
        command = ("sentinel", "get-master-addr-by-name", MASTER)
        for node in self.nodes:
            answer = ask(node, "sentinel", f"{self.redis}-cli", self.work / "secrets", *command)
            for other, address in self.addresses.items():
                if address == address_of_primary(answer):
                    return other
        raise ChaosError("no Sentinel knows the primary")

    def journal(self, fault: Fault, since: datetime.datetime) -> None:
        """Keep the units' journal of a fault, and look for what systemd had to end by force."""
        units = ("celery-*", "rabbitmq-server*", f"{self.redis}-*")
        look = f"journalctl --no-pager --output=short-precise --since='@{since.timestamp():.0f}'"
        look += "".join(f" --unit='{unit}'" for unit in units)
        text = "".join(self.on(look, check=False, host=host) for host in (*self.workers, *self.nodes))
        (self.work / f"journal-{fault.key}.log").write_text(text)
        forced = re.findall(r"systemd\[1\]: (\S+): State 'stop-sigterm' timed out\. Killing", text)
        if forced:
            self.notes.append(f"systemd had to end {', '.join(sorted(set(forced)))} by force")

    @property
    def results(self) -> Path:
        """Return the folder with what it finds."""
        return results_of(self.name, self.without)

    def save(self) -> None:
        """Keep the windows beside the ledger, so that the report can be made again."""
        data = {
            "without": self.without,
            "classes": self.classes,
            "stop_timeout": self.stop_timeout,
            "windows": [dataclasses.asdict(window) for window in self.windows],
        }
        kept = self.results
        kept.mkdir(parents=True, exist_ok=True)
        (kept / "windows.json").write_text(json.dumps(data, indent=1) + "\n")
        for part in PARTS:
            shutil.copyfile(self.ledger_folder / part, kept / part)

    def settle(self) -> None:
        """End the load, and wait until everything that can still come has come."""
        self.say("ending the load, waiting for what is still under way")
        run(["docker", "exec", self.web, "systemctl", "stop", PRODUCER], log=self.log)

        def done() -> bool:
            late = [task for task in self.ledger.tasks.values() if self.classes[task.group] == "late"]
            return not any(task.lost and task.id not in self.given_up for task in late)

        self.wait(done, 30 if self.broker == "rabbitmq" else REDELIVERY)
        # A second run of one of the long tasks would still be under way.
        self.wait(lambda: False, 12)

    def go(self, faults: Sequence[Fault]) -> None:
        """Put everything up, send, do all faults, settle."""
        if self.cluster and faults and faults[0].key == "grow":
            self.brokers = "first_node"
        self.create()
        # An interrupted run may have left one.
        self.restart_producer()
        try:
            if not self.wait(self.back(self.now()), 60):
                raise ChaosError(f"no task gets through; see {self.work}")
            for fault in faults:
                self.faulted(fault)
        finally:
            self.settle()
            if self.windows:
                self.save()


def results_of(name: str, without: str) -> Path:
    """Return the folder with what a run found."""
    return WORK / "results" / (f"{name}-without-{without}" if without else name)
