# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services on hosts that the inventory no longer has, and what to do about them. Pure functions.

What was seen of each host (the fact ``celeryops_machine``) is compared with the duties of the inventory. One machine
may have several names, and an inventory need not know all apps of a machine: only what is certainly not wanted any more
is given up.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Found
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.layout import app_layout, is_app_name
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.machines import Given, Groups, loopback
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.machines import machine as machine_name
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import PROCESSES

if TYPE_CHECKING:
    from ansible_collections.celeryops.stack.plugins.plugin_utils.model.build import Planned
    from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.survey import Node, Survey

#: Says that no host has a scheduler that was not looked at.
ONLY = "celeryops_no_other_scheduler"
#: How the first line of the target begins, which all of an app's units share.
_TARGET = f"roles {', '.join(PROCESSES)}"

Seen = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Inventory:
    """What the inventory wants, as far as it is needed here.

    Arguments:
        groups: the inventory's groups and their hosts.
        app_of: host -> the app that it carries.
        names: every app that the inventory names, also where no host carries it.
        machines: host -> one name for its machine (``machines.machine``).
        servers: kind (``rabbitmq``, ``redis``) -> its nodes (``survey``).
        accounts: kind -> the accounts that the inventory declares in it.
    """

    groups: Mapping[str, Sequence[str]]
    app_of: Mapping[str, str]
    names: Collection[str]
    machines: Mapping[str, str] = field(default_factory=dict)
    servers: Mapping[str, Sequence[Node]] = field(default_factory=dict)
    accounts: Mapping[str, Collection[str]] = field(default_factory=dict)

    def duties(self, app: str, role: str) -> list[str]:
        """Return the hosts on which ``app`` is to have units of ``role``."""
        hosts = (host for group in PROCESSES[role].groups for host in self.groups.get(group, ()))
        return [host for host in hosts if self.app_of.get(host) == app]

    def same(self, one: str, other: str, seen: Seen) -> bool:
        """Whether two hosts are, or may be, one machine: copies of one image have one number, so that is no proof.

        What two looks at one machine found is the same as well; what differs are copies.
        """
        if one == other or self.machines.get(one, one) == self.machines.get(other, other):
            return True
        first, second = seen.get(one, {}), seen.get(other, {})
        return bool(first.get("id")) and first.get("id") == second.get("id") and first.get("ours") == second.get("ours")


def inventory_of(
    found: Survey,
    groups: Groups,
    given: Given,
    planned: Mapping[tuple[str, str], Planned] | None = None,
) -> Inventory:
    """Return what the inventory wants of its hosts."""
    named = {str(name) for host in groups.get("all", ()) if is_app_name(name := given(host, "celery_app_name", None))}
    accounts: dict[str, set[str]] = {"rabbitmq": set(), "redis": set()}
    for (role, _host), plan in (planned or {}).items():
        if role in accounts:
            users = plan.plan.get("definitions", plan.plan).get("users") or ()
            accounts[role].update(str(user["name"]) for user in users)
    return Inventory(
        groups=groups,
        app_of=found["app_of"],
        names=named | set(found["app_of"].values()) - {""},
        machines={host: machine_name(host, given) for host in groups.get("all", ())},
        servers=found["servers"],
        accounts=accounts,
    )


def leaving(wanted: Inventory, seen: Seen) -> dict[str, list[dict[str, Any]]]:
    """Return host -> what has to go from it.

    Arguments:
        wanted: what the inventory says.
        seen: host -> ``celeryops_machine``, of the hosts that this run has looked at.

    Returns:
        For each host that has any: dicts with ``app``, ``role``, ``units``, ``glob`` and ``markers`` (for
        celeryops.stack.units), ``files`` (paths to remove behind the units), and ``early``: whether the servers lose
        the app's accounts in this run, so that its units have to end before.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for host, machine in seen.items():
        for app, own in machine.get("ours", {}).get("apps", {}).items():
            roles = sorted({*own["units"].values(), *_left_behind(own)})
            lost = [role for role in roles if _lost(wanted, seen, host, app, role)]
            early = not any(wanted.app_of.get(other) == app for other in wanted.app_of)
            for role in lost:
                units = sorted(unit for unit, its in own["units"].items() if its == role)
                # The last one takes the target with it.
                last = role == lost[-1] and lost == roles
                found.setdefault(host, []).append(
                    {
                        "app": app,
                        "role": role,
                        "units": units,
                        "glob": f"celery-{app}[-.]*",
                        "markers": [f"role {role}", *([_TARGET] if last else [])],
                        "files": _files(app, role),
                        "early": early,
                    }
                )
    return found


def _left_behind(own: Mapping[str, Any]) -> list[str]:
    """Return the role whose passwords are on a host without its unit: a run ended between the two."""
    return ["flower"] if "flower" in own.get("secrets", ()) else []


def _files(app: str, role: str) -> list[str]:
    """Return what a role leaves that nothing else has use for: the passwords and the programs of a Flower that moved.

    What its pages keep is data, and stays, as does everything of the other roles.
    """
    if role != "flower" or not is_app_name(app):
        return []
    layout = app_layout(app)
    return [layout["flower_environment"], layout["flower_base"]]


def units_of(leaving: Mapping[str, Iterable[Mapping[str, Any]]], host: str) -> list[str]:
    """Return the units that go from a host (``leaving``)."""
    return [str(unit) for entry in leaving.get(host, ()) for unit in entry["units"]]


def _lost(wanted: Inventory, seen: Seen, host: str, app: str, role: str) -> bool:
    """Whether a host is certainly not to have units of an app's role any more."""
    if app not in wanted.names:
        return loses_its_account(wanted, seen, host, app)
    duties = wanted.duties(app, role)
    # A host that was not looked at may be this machine by another name.
    return all(other in seen and not wanted.same(host, other, seen) for other in duties)


def loses_its_account(wanted: Inventory, seen: Seen, host: str, app: str) -> bool:
    """Whether an app that the inventory does not name has its broker in a server of the inventory, without an account.

    Then this run takes its account away. Another app of the machine may be in another inventory: it has a broker of its
    own, or an account that is declared here (``rabbitmq_users``, ``redis_extra_users``), or that somebody else made.
    """
    brokers = seen[host]["ours"]["apps"][app]["brokers"]
    for broker in brokers:
        kind = str(broker["kind"])
        for server in wanted.servers.get(kind, ()):
            # What the last run declared there, this one removes; of a server that was not looked at that is not known.
            had = seen.get(str(server["host"]), {}).get("ours", {}).get("accounts", {}).get(kind, ())
            loses = broker["user"] in had and broker["user"] not in wanted.accounts.get(kind, ())
            if loses and _is(broker, server, host, wanted, seen):
                return True
    return False


def _is(broker: Mapping[str, Any], server: Node, host: str, wanted: Inventory, seen: Seen) -> bool:
    """Whether an address, as ``host`` has it, is that of a server."""
    if int(broker["port"]) != int(server["port"]):
        return False
    address = str(broker["host"]).lower()
    if loopback(address):
        return wanted.same(host, str(server["host"]), seen)
    return address in {str(name).lower() for name in (*server["listen"], server["reached_as"], server["host"])}


# Schedulers


def beats(
    wanted: Inventory, seen: Seen, playing: Collection[str], several: Collection[str], *, only: bool = False
) -> Iterator[Found]:
    """Yield that this run would start a scheduler while another one may go on.

    Arguments:
        wanted: what the inventory says.
        seen: the hosts that were looked at.
        playing: the hosts of this run, which ``--limit`` may narrow.
        several: the apps of which several schedulers may run (RedBeat).
        only: whether somebody has said that no host beyond those that were looked at has a scheduler.
    """
    for host, app in new_beats(wanted, seen, playing):
        if app in several:
            continue
        unit = f"celery-{app}-beat.service"
        for other, machine in seen.items():
            units = machine.get("ours", {}).get("apps", {}).get(app, {}).get("units", {})
            if unit in units and other not in playing and not wanted.same(host, other, seen):
                reason = f"the scheduler of {app} would start, while {other}, which --limit leaves out, has it too"
                yield Found(
                    "two-schedulers", "celery_beat", host, reason, f"add {other} to --limit: this run moves it then"
                )
        unknown = [
            other
            for other, its in wanted.app_of.items()
            if its == app and other not in seen and not wanted.same(host, other, seen)
        ]
        if unknown:
            names = f"{', '.join(unknown[:3])}{', ...' if unknown[3:] else ''}"
            reason = f"the scheduler of {app} would start, and whether {names} still has it is not known"
            yield Found("two-schedulers", "celery_beat", host, reason, "run this when those hosts can be reached")
            continue
        elsewhere = _perhaps_elsewhere(wanted, seen, host, app)
        if elsewhere and not only:
            names = f"{', '.join(elsewhere[:3])}{', ...' if elsewhere[3:] else ''}"
            reason = f"the scheduler of {app} would start, and whether {names} has it from before is not known"
            instead = (
                "let this run look there (celeryops_look_at_all_hosts: true), take hosts that are gone for good out of "
                f"the inventory, or write {ONLY}: true if none of them has one"
            )
            yield Found("two-schedulers", "celery_beat", host, reason, instead)


def others_beats(
    wanted: Inventory, seen: Seen, playing: Collection[str], imports: Mapping[str, str], *, only: bool = False
) -> Iterator[Found]:
    """Yield that this run would start the first scheduler of an app that somebody else runs already.

    One that does not say which app it is for may be this one's.

    Arguments:
        wanted: what the inventory says.
        seen: the hosts that were looked at.
        playing: the hosts of this run.
        imports: app -> what it is imported from (``celery_app_import``).
        only: whether somebody has said that nobody else schedules.
    """
    if only:
        return
    for host, app in new_beats(wanted, seen, playing):
        for other, machine in seen.items():
            for one in machine.get("schedulers") or ():
                if not _may_be(str(one["app"]), imports.get(app, "")):
                    continue
                place = ", ".join(filter(None, [f"pid {one['pid']}", str(one["unit"])]))
                what = f"celery -A {one['app']}" if one["app"] else "celery, of an app that it does not name,"
                reason = (
                    f"the scheduler of {app} would start, while {what} schedules on {other} already ({place}), and "
                    "every due task would be sent twice"
                )
                instead = f"stop and disable that first, or write {ONLY}: true if it is another app's"
                yield Found("two-schedulers", "celery_beat", host, reason, instead)


def _may_be(named: str, imported: str) -> bool:
    """Whether what stands behind ``celery -A`` may be an app: ``shop`` is found in ``shop.celery`` and ``shop.app``."""
    one, other = (re.split(r"[.:/]", text.removesuffix(".py")) for text in (named, imported))
    return not named or not imported or all(left == right for left, right in zip(one, other, strict=False))


def _perhaps_elsewhere(wanted: Inventory, seen: Seen, host: str, app: str) -> list[str]:
    """Return the hosts without a duty that may have the scheduler of an app still, as nobody has looked at them.

    An app that no host and no broker knows is new, and has none anywhere. Of one whose scheduler was seen it is known.
    """
    unit = f"celery-{app}-beat.service"
    everything = [machine.get("ours", {}) for machine in seen.values()]
    if any(unit in own.get("apps", {}).get(app, {}).get("units", {}) for own in everything):
        return []
    accounts = [name for own in everything for names in own.get("accounts", {}).values() for name in names]
    if app not in accounts and not any(app in own.get("apps", {}) for own in everything):
        return []
    return [name for name in wanted.groups.get("all", ()) if name not in seen and not wanted.same(host, name, seen)]


def new_beats(wanted: Inventory, seen: Seen, playing: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield (host, app) of the schedulers that this run would start on a host that has none of its own.

    One of several (RedBeat) tells nothing of the others: it becomes the only one when the inventory says so.
    """
    for host in wanted.groups.get("celery_beat", ()):
        app = wanted.app_of.get(host, "")
        own = seen.get(host, {}).get("ours", {}).get("apps", {}).get(app, {})
        has = f"celery-{app}-beat.service" in own.get("units", {}) and not own.get("redbeat")
        if host in playing and app and host in seen and not has:
            yield host, app


def without_app(wanted: Inventory, seen: Seen, playing: Collection[str], tags: Collection[str]) -> Iterator[Found]:
    """Yield that a scheduler would move to a host without the app, where a run of some tags does not install it."""
    starts = {"celery_beat", "celery_beat_service"} & set(tags)
    if not starts or {"all", "celery_app"} & set(tags):
        return
    for host, app in new_beats(wanted, seen, playing):
        if not seen[host]["ours"]["apps"].get(app, {}).get("brokers"):
            reason = f"{app} is not installed, and --tags leaves that out: its scheduler would stop and not start again"
            instead = "run this without --tags, or with --tags celery_app,celery_beat"
            yield Found("release-left-out-by-tags", "celery_beat", host, reason, instead)


def further(wanted: Inventory, seen: Seen, playing: Iterable[str], *, secrets: bool) -> list[str]:
    """Return the hosts beyond those of this run that have to be looked at.

    Arguments:
        wanted: what the inventory says.
        seen: the hosts that were looked at.
        playing: the hosts of this run.
        secrets: whether passwords were made up in this run, which may be in use on a host already.
    """
    playing = set(playing)
    if not secrets and not any(new_beats(wanted, seen, playing)):
        return []
    return [host for host in wanted.groups.get("all", ()) if host not in playing and host not in seen]
