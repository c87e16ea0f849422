"""What goes wrong, or is done on purpose."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tools.chaos.cluster_faults import CLUSTER_FAULTS
from tools.chaos.report import Strike
from tools.chaos.scenario import APP, ROOT, ChaosError, Fault, Scenario, run
from tools.lab import containers

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

#: How long the broker is out of reach, in seconds: four times the sockets' timeouts.
UNREACHABLE = 120.0
#: How long the disk stays full, and how long an alarm lasts, in seconds: more than ten times the watchdog of the
#: inventory, so that what holds a worker shows. And how many bytes an alarm leaves: less than the inventory's
#: rabbitmq_disk_free_limit, and enough for what has to be written meanwhile.
DISK_FULL, ALARM, ALARM_LEAVES = 30.0, 150.0, 100 << 20


def over(at: float) -> Strike:
    """Return a strike that left nothing to kill, and was over at that time."""
    return Strike(at, at)


def quiet(s: Scenario) -> Sequence[Strike]:
    """Do nothing: what the others are compared with."""
    begin = s.now()
    s.wait(lambda: False, 5 if s.short else 15)
    return [over(begin)]


def rolling(s: Scenario) -> Sequence[Strike]:
    """Restart all classes, one after another."""
    if (ROOT / "playbooks" / "restart.yml").exists():
        s.play("playbooks/restart.yml")
    else:
        s.notes = ["with systemctl, one class after another: there is no restart.yml"]
        for unit in s.units:
            s.on(f"systemctl restart {unit}")
    return [over(s.now())]


def deploy(s: Scenario) -> Sequence[Strike]:
    """Roll out another release."""
    playbook = "playbooks/deploy.yml" if (ROOT / "playbooks" / "deploy.yml").exists() else "site.yml"
    s.notes = [] if playbook.endswith("deploy.yml") else ["with site.yml: there is no deploy.yml"]
    s.play(playbook, celery_app_source=s.source())
    return [over(s.now())]


def broken_deploy(s: Scenario) -> Sequence[Strike]:
    """Roll out a release whose workers do not start: the one before has to be back."""
    if not (ROOT / "playbooks" / "deploy.yml").exists():
        s.notes = ["NOT RUN: there is no deploy.yml"]
        return [over(s.now())]
    before = s.on(f"readlink -f /opt/celeryops/{APP}/current").strip()
    said = s.play("playbooks/deploy.yml", check=False, celery_app_source=s.source(broken=True))
    after = s.on(f"readlink -f /opt/celeryops/{APP}/current").strip()
    if "failed=0" in said and "failed=1" not in said:
        raise ChaosError("deploy.yml took a broken release for a good one")
    if before != after:
        s.notes.append(f"the release is {after}, and was {before}")
    return [over(s.now())]


def by_hand(s: Scenario) -> Sequence[Strike]:
    """Restart every unit at once."""
    s.on(f"systemctl restart {' '.join(s.units)}")
    return [over(s.now())]


def kill_main(s: Scenario) -> Sequence[Strike]:
    """Kill the main process of every class; its children go with it."""
    at = s.now()
    s.on(f"for unit in {' '.join(s.units)}; do kill -9 $(systemctl show -P MainPID $unit); done")
    return [Strike(at, s.now(), s.all_in_flight())]


def kill_child(s: Scenario) -> Sequence[Strike]:
    """Kill a process of every class's pool in the middle of a task."""
    found: dict[str, int] = {}

    def running() -> bool:
        for group in s.classes:
            for pid in s.pids(group)[-1:]:
                found[group] = pid
        return len(found) == len(s.classes)

    if not s.wait(running, 60):
        raise ChaosError(f"no long task was running in {set(s.classes) - set(found)}")
    at = s.now()
    s.on(f"kill -9 {' '.join(map(str, found.values()))}", check=False)
    return [Strike(at, s.now(), dict.fromkeys(found, 1))]


def out_of_memory(s: Scenario) -> Sequence[Strike]:
    """Let one task of each class take more memory than its unit may have."""
    kind = "hog" if containers.resource_control(s.suite) else "killed"
    if kind == "killed":
        s.notes = ["this machine enforces no MemoryMax= here: the process gets the kernel's SIGKILL without it"]
    for group in s.classes:
        s.produce("--once", group, kind)
    s.wait(lambda: False, 3)
    return [Strike(s.now(), s.now(), dict.fromkeys(s.classes, 1))]


def stopped(s: Scenario) -> Sequence[Strike]:
    """Stop the main process of every class as a debugger would: systemd's watchdog has to notice."""
    at = s.now()
    s.on(f"for unit in {' '.join(s.units)}; do kill -STOP $(systemctl show -P MainPID $unit); done")
    return [Strike(at, s.now(), s.all_in_flight())]


def restart_server(unit: str) -> Callable[[Scenario], Sequence[Strike]]:
    """Return a strike that restarts a server."""

    def strike(s: Scenario) -> Sequence[Strike]:
        at = s.now()
        s.on(f"systemctl restart {unit}")
        is_broker = unit.startswith("rabbitmq") is (s.broker == "rabbitmq")
        return [Strike(at, s.now(), s.all_in_flight() if is_broker else {})]

    return strike


def change_rabbitmq(s: Scenario) -> Sequence[Strike]:
    """Change the configuration of RabbitMQ, and nothing else: it restarts."""
    before = s.variables.get("rabbitmq_config", {}).get("channel_max", 2000)
    s.variables["rabbitmq_config"] = {"channel_max": before + 1}
    s.play("site.yml", celery_app_source=s.last_source())
    return [Strike(s.now(), s.now())]


def reboot(s: Scenario) -> Sequence[Strike]:
    """Reboot the host in good order: systemd stops everything first."""
    run([ROOT / "scripts" / "lab.py", "restart", s.stack], log=s.log)
    return [over(s.now())]


def unreachable(s: Scenario) -> Sequence[Strike]:
    """Drop every packet to and from the broker's port, so that nobody is told that a connection is gone."""
    port = 5672 if s.broker == "rabbitmq" else 6379
    rules = [f"{chain} -p tcp --{side}port {port} -j DROP" for chain in ("INPUT", "OUTPUT") for side in "sd"]
    held = s.all_in_flight()
    s.on(" && ".join(f"iptables -I {rule}" for rule in rules))
    try:
        s.wait(lambda: False, UNREACHABLE)
    finally:
        s.on("; ".join(f"iptables -D {rule}" for rule in rules))
    return [Strike(s.now(), s.now(), held)]


def fill(leaves: int, seconds: float = DISK_FULL) -> Callable[[Scenario], Sequence[Strike]]:
    """Return a strike that fills every disk of the host up to so many bytes, and makes room again after a while."""

    def strike(s: Scenario) -> Sequence[Strike]:
        folders = [folder for folder, _size in s.disks.values()]
        held = s.all_in_flight()
        # What fallocate leaves of a page or two, dd takes; that it ends with an error is the point.
        more = ":" if leaves else "dd if=/dev/zero of=$folder/chaos-rest bs=4k || true"
        s.on(
            f"for folder in {' '.join(folders)}; do"
            f" room=$(($(df --output=avail -B1 $folder | tail -n 1) - {leaves}));"
            f" test $room -le 0 || fallocate -l $room $folder/chaos-filler; {more}; done"
        )
        try:
            s.wait(lambda: False, seconds)
        finally:
            s.on(f"for folder in {' '.join(folders)}; do rm -f $folder/chaos-filler $folder/chaos-rest; done")
        return [Strike(s.now(), s.now(), held)]

    return strike


RABBITMQ = ("rabbitmq",)
FAULTS = (
    Fault("quiet", "no fault, for comparison", True, quiet, short=1),
    Fault("rolling-restart", "rolling restart", True, rolling, 5, short=1),
    Fault("deploy", "deploy of a new release", True, deploy, 2, short=1),
    Fault("broken-deploy", "deploy of a broken release", True, broken_deploy, short=1),
    Fault("restart-by-hand", "systemctl restart by hand", True, by_hand, short=1),
    Fault("kill-main", "kill -9 of each worker's main process", False, kill_main, short=1),
    Fault("kill-child", "kill -9 of a child in mid-task", False, kill_child, short=1),
    Fault("out-of-memory", "a child out of memory", False, out_of_memory, short=1),
    Fault("sigstop", "SIGSTOP of each worker's main process", False, stopped, short=1),
    Fault("rabbitmq-restart", "restart of RabbitMQ", False, restart_server("rabbitmq-server"), 5, RABBITMQ, short=1),
    Fault("rabbitmq-change", "a changed configuration of RabbitMQ", True, change_rabbitmq, 2, RABBITMQ),
    Fault("redis-restart", "restart of Redis", False, restart_server("redis-server"), 5, short=1),
    Fault("reboot", "reboot of the host", True, reboot),
    Fault("unreachable", "the broker is unreachable", False, unreachable),
    Fault("disk-alarm", "RabbitMQ's disk alarm", False, fill(ALARM_LEAVES, ALARM), 1, RABBITMQ),
    Fault("disk-full", "no byte left on any disk", False, fill(0)),
    *CLUSTER_FAULTS,
)
#: What is switched off -> the faults that show what it is for, and how often each is done.
WITHOUT = {
    "killmode": {"restart-by-hand": 3},
    "late": {"kill-main": 2, "kill-child": 2, "rolling-restart": 1},
    "watchdog": {"sigstop": 1},
    "confirms": {"unreachable": 1},
    "drain": {"restart-by-hand": 12},
}


def chosen(options: argparse.Namespace, broker: str, *, cluster: bool = False) -> list[Fault]:
    """Return the faults of a run."""
    faults = [fault for fault in FAULTS if broker in fault.brokers and fault.cluster is cluster]
    if options.without:
        times = WITHOUT[options.without]
        return [dataclasses.replace(fault, times=times[fault.key]) for fault in faults if fault.key in times]
    if options.only:
        return [fault for fault in faults if fault.key in options.only]
    return [fault for fault in faults if fault.short or not options.short]
