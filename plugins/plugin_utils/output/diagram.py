# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan for people: a table, and a diagram of routes, queues, worker classes and hosts."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import SERVERS
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import show_duration, show_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import App, Deployment, RunningClass

_ELSE = "everything else"
_OWN = "by the app's own routes"
_COLUMNS = ("routes", "queues", "classes", "hosts")


def text(deployment: Deployment) -> str:
    """Return the plan as lines for a terminal."""
    parts = []
    for app in deployment.apps.values():
        parts += [_summary(deployment, app), "", *_aligned(_class_table(app)), "", *_aligned(_route_table(app)), ""]
    return "\n".join(parts).rstrip()


def markdown(deployment: Deployment) -> str:
    """Return the plan as a Markdown page, the diagram in Mermaid, which the usual forges draw."""
    parts = ["# The plan", ""]
    for app in deployment.apps.values():
        parts += [f"## {app.name}", "", _summary(deployment, app) + ".", ""]
        parts += [*_piped(_class_table(app)), "", *_piped(_route_table(app)), ""]
    return "\n".join([*parts, "```mermaid", mermaid(deployment), "```", ""])


def _summary(deployment: Deployment, app: App) -> str:
    broker = _where(deployment, app.broker)
    if "celery_app_broker_url" in app.given and app.broker_addresses:
        broker = f"{SERVERS[app.broker].title} at {', '.join(app.broker_addresses)}"
    results = f"results {app.results_at or _where(deployment, 'redis')}" if app.has_results else "no results are kept"
    delayed = "the broker" if app.delays_in_broker else "a worker"
    others = [
        f"{duty.role.removeprefix('celery_')} on {duty.host}" for duty in deployment.duties if duty.app == app.name
    ]
    facts = [
        f"broker {broker}",
        results,
        f"delayed tasks (up to {show_duration(app.longest_eta)}) wait in {delayed}",
        *others,
    ]
    return f"{app.name}: " + ", ".join(facts)


def _where(deployment: Deployment, kind: str) -> str:
    hosts = [server.host for server in deployment.of_kind(kind)]
    return f"{SERVERS[kind].title} on {', '.join(hosts)}" if hosts else f"{SERVERS[kind].title} elsewhere"


def _class_table(app: App) -> list[list[str]]:
    rows = [["Class", "Queues", "At a time", "Time limit", "Stop", "Memory", "Acknowledged", "Hosts"]]
    for workers in _by_meaning(app.classes):
        worker = workers[0]
        rows.append(
            [
                worker.name,
                ", ".join(worker.queues),
                at_a_time(worker),
                _or_dash(worker.time_limit),
                show_duration(worker.stop_timeout),
                show_size(worker.memory) if worker.memory else "-",
                "late" if worker.late else "early",
                crowd([one.host for one in workers]),
            ]
        )
    return rows


def at_a_time(worker: RunningClass) -> str:
    """Return how many tasks a class runs at once on one host: ``4 x prefork``, ``3 x 50 x gevent`` of three workers."""
    workers = f"{worker.workers} x " if worker.workers > 1 else ""
    return f"{workers}{worker.concurrency} x {worker.pool}"


def _or_dash(seconds: int | None) -> str:
    return show_duration(seconds) if seconds else "-"


def _route_table(app: App) -> list[list[str]]:
    rows = [["Tasks", "Queue", "Class"]]
    for task, queue in _routes(app):
        classes = dict.fromkeys(worker.name for worker in app.consumers(queue))
        rows.append([task, queue, ", ".join(classes) or "-"])
    return rows


def _routes(app: App) -> list[tuple[str, str]]:
    """Return what is sent to which queue. Where the app's own routes hold, that may be any queue of a class."""
    if app.own_routes:
        read = dict.fromkeys(queue for worker in app.classes for queue in worker.queues if queue != app.default_queue)
        return [*((_OWN, queue) for queue in read), (_ELSE, app.default_queue)]
    return [*((route.task, route.queue) for route in app.routes), (_ELSE, app.default_queue)]


def _by_meaning(workers: Iterable[RunningClass]) -> list[list[RunningClass]]:
    """Return the classes, those that are the same on several hosts together."""
    found: dict[tuple[object, ...], list[RunningClass]] = {}
    for worker in workers:
        key = (worker.name, worker.queues, *sorted((name, repr(value)) for name, value in worker.written.items()))
        found.setdefault(key, []).append(worker)
    return list(found.values())


def crowd(names: Sequence[str]) -> str:
    """Return names for a narrow place: all of up to three, else the first, the last and how many."""
    unique = list(dict.fromkeys(names))
    return ", ".join(unique) if len(unique) <= 3 else f"{unique[0]} ... {unique[-1]} ({len(unique)} hosts)"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [f"  {lines[0]}", "  " + "  ".join("-" * width for width in widths), *(f"  {line}" for line in lines[1:])]


def _piped(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(cell.replace("|", "\\|").replace("*", "\\*") for cell in row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


# The diagram


@dataclass(frozen=True)
class Graph:
    """Four columns of labelled nodes, and the edges between neighbouring columns.

    Arguments:
        columns: for each column, key of a node -> its label, in the order in which they are drawn.
        edges: (column, key, key in the next column).
    """

    columns: tuple[Mapping[str, str], ...]
    edges: tuple[tuple[int, str, str], ...]


def graph(app: App) -> Graph:
    """Return routes, queues, classes and hosts of an app. Hosts that run the same classes are one node."""
    columns: tuple[dict[str, str], ...] = ({}, {}, {}, {})
    edges: dict[tuple[int, str, str], None] = {}
    of_host: dict[str, list[str]] = {}
    for number, (task, queue) in enumerate(_routes(app)):
        key = _OWN if task == _OWN else str(number)
        columns[0][key] = task
        columns[1][queue] = queue
        edges[0, key, queue] = None
    for number, workers in enumerate(_by_meaning(app.classes)):
        worker = workers[0]
        columns[2][str(number)] = f"{worker.name}: {at_a_time(worker)}"
        for queue in worker.queues:
            columns[1][queue] = queue
            edges[1, queue, str(number)] = None
        for one in workers:
            of_host.setdefault(one.host, []).append(str(number))
    alike: dict[tuple[str, ...], list[str]] = {}
    for host, classes in of_host.items():
        alike.setdefault(tuple(classes), []).append(host)
    for classes_of, hosts in alike.items():
        columns[3][hosts[0]] = crowd(hosts)
        for key in classes_of:
            edges[2, key, hosts[0]] = None
    return Graph(columns, tuple(edges))


def mermaid(deployment: Deployment) -> str:
    """Return the diagram in the language of Mermaid (flowchart syntax, version 11)."""
    lines = ["flowchart LR"]
    shapes = (('["', '"]'), ('(["', '"])'), ('["', '"]'), ('[["', '"]]'))
    for number, app in enumerate(deployment.apps.values()):
        drawn = graph(app)
        names: dict[tuple[int, str], str] = {}
        lines.append(f'  subgraph app{number}["{_quoted(app.name)}"]')
        for column, nodes in enumerate(drawn.columns):
            opening, closing = shapes[column]
            for place, (key, label) in enumerate(nodes.items()):
                names[column, key] = f"{_COLUMNS[column][0]}{number}_{place}"
                lines.append(f"    {names[column, key]}{opening}{_quoted(label)}{closing}")
        lines += [f"    {names[column, one]} --> {names[column + 1, other]}" for column, one, other in drawn.edges]
        lines.append("  end")
    return "\n".join(lines)


def _quoted(label: str) -> str:
    """Return a label as Mermaid reads it inside quotes."""
    return label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")


_ROW, _BOX, _GAP, _MARGIN, _HEAD = 38, 26, 90, 24, 56
#: A character of the font below, in pixels, on average; boxes get a little more.
_CHARACTER = 7.2
_FILLS = ("#eef2f7", "#e3f1e7", "#fdf0d9", "#e9e6f5")
_STYLE = (
    "text{font:13px ui-sans-serif,system-ui,sans-serif;fill:#1c2430}"
    ".app{font-weight:600;font-size:16px}.head{fill:#5b6675}"
    "rect{stroke:#8a94a3}.paper{stroke:none}path{fill:none;stroke:#8a94a3;stroke-width:1.4}"
)


def svg(deployment: Deployment) -> str:
    """Return the diagram as an SVG picture, one app below the other."""
    body: list[str] = []
    top, widest = _MARGIN, 0
    for app in deployment.apps.values():
        lines, height, width = _drawn(app, top)
        body += lines
        top += height
        widest = max(widest, width)
    size = f'width="{widest}" height="{top}" viewBox="0 0 {widest} {top}"'
    names = ", ".join(deployment.apps)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"<title>Routes, queues, worker classes and hosts of {escape(names)}</title>",
            f"<style>{_STYLE}</style>",
            '<rect class="paper" width="100%" height="100%" fill="#fff"/>',
            *body,
            "</svg>",
            "",
        ]
    )


def _drawn(app: App, top: int) -> tuple[list[str], int, int]:
    """Return the elements of one app, their height, and the width of the whole."""
    drawn = graph(app)
    rows = max(len(nodes) for nodes in drawn.columns)
    places: dict[tuple[int, str], tuple[float, float, float]] = {}
    boxes: list[str] = [f'<text class="app" x="{_MARGIN}" y="{top + 16}">{escape(app.name)}</text>']
    left = float(_MARGIN)
    for column, nodes in enumerate(drawn.columns):
        width = max([80.0, *(len(label) * _CHARACTER + 20 for label in nodes.values())])
        boxes.append(f'<text class="head" x="{left:.0f}" y="{top + 40}">{_COLUMNS[column]}</text>')
        # Short columns stand in the middle of the longest one.
        start = top + _HEAD + (rows - len(nodes)) * _ROW / 2
        for place, (key, label) in enumerate(nodes.items()):
            y = start + place * _ROW
            places[column, key] = (left, y, width)
            boxes.append(
                f'<rect x="{left:.0f}" y="{y:.0f}" width="{width:.0f}" height="{_BOX}" rx="5" fill="{_FILLS[column]}"/>'
                f'<text x="{left + 10:.0f}" y="{y + 17:.0f}">{escape(label)}</text>'
            )
        left += width + _GAP
    edges = []
    for column, one, other in drawn.edges:
        (x, y, width), (to_x, to_y, _width) = places[column, one], places[column + 1, other]
        begin, end = f"{x + width:.0f} {y + _BOX / 2:.0f}", f"{to_x:.0f} {to_y + _BOX / 2:.0f}"
        bend, unbend = f"{x + width + _GAP / 2:.0f} {y + _BOX / 2:.0f}", f"{to_x - _GAP / 2:.0f} {to_y + _BOX / 2:.0f}"
        edges.append(f'<path d="M{begin}C{bend} {unbend} {end}"/>')
    return [*edges, *boxes], _HEAD + rows * _ROW + _MARGIN, int(left - _GAP + _MARGIN)
