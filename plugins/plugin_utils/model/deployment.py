# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The deployment: one typed model of apps, routes, queues, worker classes, servers and hosts.

It is made once for a whole inventory from the plans of the roles (``plans/<role>.py``), which stay what templates
render from: a class here and the unit of that class come from the same reading of the same variables. Rules
(``rules/``) and pictures (``drawing.py``) look at nothing else.

All times are whole seconds, all sizes bytes. Nothing in here is a secret.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.machines import ANY, loopback, machine_at
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.worker_classes import WorkerClass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: The variables of an app that lead to a server.
URLS = ("celery_app_broker_url", "celery_app_result_backend", "celery_app_once_url")


@dataclass(frozen=True)
class Machine:
    """A host of the inventory.

    Arguments:
        name: its name in the inventory; one machine may have several.
        address: what Ansible connects to (``ansible_host``, else the name).
        hostname: what it calls itself; None when no facts are known.
        cores: processors; None when not known.
        memory: None when not known.
        distribution: such as ``Debian 13``; empty when not known.
        port: that Ansible connects to; empty for the usual one.
    """

    name: str
    address: str
    hostname: str | None = None
    cores: int | None = None
    memory: int | None = None
    distribution: str = ""
    port: str = ""

    @property
    def identity(self) -> str:
        """One name for the machine, by whatever name it stands in the inventory."""
        return machine_at(self.address, self.port)


@dataclass(frozen=True)
class Route:
    """Tasks whose names match ``task`` (``*`` stands for anything) are sent to ``queue``."""

    task: str
    queue: str


@dataclass(frozen=True, slots=True)
class RunningClass(WorkerClass):
    """A worker class as it runs on a host: what it leaves open, the settings of its app say.

    Arguments:
        prefetch: messages that each of its workers takes in advance; None is as many as there are.
        late: whether a task is acknowledged when it is done, rather than when it begins.
    """

    prefetch: int | None = 1
    late: bool = True

    @property
    def memory(self) -> int:
        """What its workers may take at most, as far as the inventory limits it; 0 without any limit."""
        children = self.concurrency if isinstance(self.concurrency, int) else 1
        return self.workers * (self.memory_max or children * (self.max_memory_per_child or 0))


@dataclass(frozen=True)
class Login:
    """With what an address that the inventory gives asks a server of this inventory to be let in.

    Arguments:
        variable: that has the address.
        kind: ``rabbitmq`` or ``redis``.
        host: of the server.
        user: the account; what a client takes where the address names none.
        vhost: of RabbitMQ; empty for Redis.
        direct: whether the address is the server's own, and not that of the Sentinels that know of it.
    """

    variable: str
    kind: str
    host: str
    user: str
    vhost: str = ""
    direct: bool = True


@dataclass(frozen=True)
class App:
    """An app, as its shared configuration has it.

    Arguments:
        name: its short name.
        hosts: every host that carries it, workers, producers, beat and Flower alike.
        broker: ``rabbitmq`` or ``redis``.
        broker_addresses: ``host:port/path`` of each of the broker's nodes (``addresses.places``).
        default_queue: where tasks without a route go.
        queues: name -> ``quorum`` or ``classic``; of the latter kind all queues of Redis are.
        declared: queues that ``celery_app_queues`` itself names: somebody else may read them.
        routes: first match wins.
        own_routes: whether the app's own routes hold in their place; where they lead, only the app says.
        classes: every class on every host.
        files: ``number``, ``path``, ``groups`` and ``restarts`` of each of ``celery_app_files``, on any host.
        settings: Celery's settings in force, of all processes.
        own_settings: those that the inventory gives.
        longest_eta: how far ahead tasks are sent.
        longest_task: how long a task of a class without a limit may take.
        visibility_timeout: after which Redis hands out an unacknowledged message again; 0 with RabbitMQ.
        has_results: whether it has a result backend.
        results_at: the store of results that the inventory names itself; empty where it is the stack's own.
        requirements: lines that say which packages a release consists of, each behind the variable that has it, without
            those that an override wins over.
        locked: lines of lock files beside the source, which the installation does not read.
        kombu_delays: whether its kombu can delay messages in RabbitMQ, as far as the requirements say.
        weak_passwords: variable -> why the password in it is weak.
        lax_urls: variable -> what a URL in it says of certificates (``tls_options.lax_in_url``).
        logins: of its addresses to servers of this inventory.
        variables: the role's variables as they are on its hosts, secrets left out.
        variants: the first host of each kind, with the role's variables there; hosts that are alike are one kind. Of
            URLs there is where they lead to, without any credentials.
        given: names of the variables that the inventory itself sets.
        accepted: the rules that the inventory overrides, ``rule`` or ``rule:subject``.
    """

    name: str
    hosts: tuple[str, ...] = ()
    broker: str = "rabbitmq"
    broker_addresses: tuple[str, ...] = ()
    default_queue: str = "default"
    queues: Mapping[str, str] = field(default_factory=dict)
    declared: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    own_routes: bool = False
    classes: tuple[RunningClass, ...] = ()
    files: tuple[Mapping[str, Any], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    own_settings: Mapping[str, Any] = field(default_factory=dict)
    longest_eta: int = 0
    longest_task: int = 0
    visibility_timeout: int = 0
    has_results: bool = True
    results_at: str = ""
    requirements: tuple[tuple[str, str], ...] = ()
    locked: tuple[tuple[str, str], ...] = ()
    kombu_delays: bool = True
    weak_passwords: Mapping[str, str] = field(default_factory=dict)
    lax_urls: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    logins: frozenset[Login] = frozenset()
    variables: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    given: frozenset[str] = frozenset()
    accepted: frozenset[str] = frozenset()

    def consumers(self, queue: str) -> list[RunningClass]:
        """Return the classes that consume ``queue``, on every host."""
        return [worker for worker in self.classes if queue in worker.queues]

    def held(self, worker: RunningClass) -> int:
        """Return for how many seconds a message may wait in a worker and run there (measured with Celery 5.7.0).

        Where a worker takes all there are, no time is enough: that is a rule of its own.
        """
        if worker.prefetch is None:
            return 0
        return (worker.prefetch + 1) * (worker.time_limit or self.longest_task)

    def pinned(self, worker: RunningClass) -> int:
        """Return for how many seconds Redis may have to wait for an acknowledgement of a delayed task in a worker.

        The worker keeps it until it is due; then it waits for a process like every other, and is acknowledged when it
        begins or ends.
        """
        running = 0 if worker.late else worker.time_limit or self.longest_task
        return self.longest_eta + self.held(worker) - running

    def unacknowledged(self, worker: RunningClass) -> int:
        """Return for how many seconds RabbitMQ may have to wait for an acknowledgement of a worker."""
        # Without quorum queues, or with an old kombu, a worker holds delayed tasks as well.
        return self.held(worker) + (0 if self.delays_in_broker else self.longest_eta)

    @property
    def quorum(self) -> bool:
        """Whether any of its queues is a quorum queue."""
        return self.broker == "rabbitmq" and "quorum" in self.queues.values()

    @property
    def delays_in_broker(self) -> bool:
        """Whether delayed tasks wait in the broker; else a worker holds them, unacknowledged."""
        return self.quorum and self.kombu_delays


@dataclass(frozen=True)
class Server:
    """A RabbitMQ or Redis server of the inventory.

    Arguments:
        kind: ``rabbitmq`` or ``redis``.
        host: name of its host.
        listen: addresses that it listens on.
        port: of AMQP, of Redis or of Sentinel.
        version: major and minor version where known, such as ``(4, 0)``.
        consumer_timeout: how long RabbitMQ waits for an acknowledgement; 0 for Redis.
        variables: the role's variables, secrets left out.
        given: names of the variables that the inventory itself sets.
    """

    kind: str
    host: str
    listen: tuple[str, ...] = ()
    port: int = 0
    version: tuple[int, int] | None = None
    consumer_timeout: int = 0
    variables: Mapping[str, Any] = field(default_factory=dict)
    given: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Duty:
    """Something of an app that a host does beside work: ``celery_beat`` or ``flower``.

    Arguments:
        role: which of the two.
        app: name of the app.
        host: name of the host.
        variables: the role's variables, secrets left out.
    """

    role: str
    app: str
    host: str
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Deployment:
    """Everything that one inventory describes.

    Arguments:
        machines: name -> host, those with a duty only.
        apps: name -> app.
        servers: the brokers and result stores.
        duties: beat and Flower.
        groups: the inventory's groups and their hosts.
        unplaced: worker class -> the hosts without the duty to work that speak of it, while no worker has it.
        replaced: those of them that nearer ``celery_worker_classes`` of the workers leave out.
        unusable: names of the variables whose values could not be used.
        strays: (variable of a role with the app that it is to run, that app, host, the app that the host carries).
        accounts: (variable, account, host, app, the account of the app) of processes that have another one.
    """

    machines: Mapping[str, Machine] = field(default_factory=dict)
    apps: Mapping[str, App] = field(default_factory=dict)
    servers: tuple[Server, ...] = ()
    duties: tuple[Duty, ...] = ()
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unplaced: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    replaced: frozenset[str] = frozenset()
    unusable: frozenset[str] = frozenset()
    strays: tuple[tuple[str, str, str, str], ...] = ()
    accounts: tuple[tuple[str, str, str, str, str], ...] = ()

    def machine_of(self, viewer: str, address: str) -> str:
        """Return one name for the machine that a host means by an address."""
        if loopback(address):
            return self.machines[viewer].identity
        for server in self.servers:
            names = (server.host, self.machines[server.host].address, *server.listen)
            if address in {name.lower() for name in names} - set(ANY):
                return self.machines[server.host].identity
        return address

    def of_kind(self, kind: str) -> list[Server]:
        """Return the servers of a kind, ``rabbitmq`` or ``redis``."""
        return [server for server in self.servers if server.kind == kind]

    def of_role(self, role: str) -> list[Duty]:
        """Return the duties of a role, ``celery_beat`` or ``flower``."""
        return [duty for duty in self.duties if duty.role == role]

    def vhosts(self, app: App, server: Server) -> set[str]:
        """Return the virtual hosts of a RabbitMQ in which an app is."""
        if app.broker != "rabbitmq":
            return set()
        place = f"{self.machines[server.host].identity}:{server.port}/"
        return {address.removeprefix(place) for address in app.broker_addresses if address.startswith(place)}

    def meet(self, one: App, other: App) -> bool:
        """Whether what two apps send and ask comes together: in one virtual host, or in one Redis under one prefix."""
        if one.broker != other.broker or not set(one.broker_addresses) & set(other.broker_addresses):
            return False
        prefix = "celery_app_key_prefix"
        return one.broker == "rabbitmq" or one.variables.get(prefix) == other.variables.get(prefix)

    @property
    def pairs(self) -> Iterable[tuple[App, App]]:
        """Every two apps that meet, in the order of the inventory."""
        apps = list(self.apps.values())
        for position, other in enumerate(apps):
            yield from ((one, other) for one in apps[:position] if self.meet(one, other))

    @property
    def classes(self) -> Iterable[RunningClass]:
        """Every class of every app on every host."""
        for app in self.apps.values():
            yield from app.classes

    def accepts(self, rule: str, subject: str, app: str | None) -> bool:
        """Whether the inventory says that a finding is meant: of one app, or of any where it concerns a server."""
        apps = self.apps.values() if app is None else [self.apps[app]]
        return any({rule, f"{rule}:{subject}"} & one.accepted for one in apps)
