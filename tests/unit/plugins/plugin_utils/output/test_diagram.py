"""The plan as a table and as a diagram."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import (
    App,
    Deployment,
    Duty,
    Route,
    RunningClass,
    Server,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.output.diagram import (
    crowd,
    graph,
    markdown,
    mermaid,
    svg,
    text,
)

HIGH = RunningClass("shop", "app1", "high", ("payments",), concurrency=4, stop_timeout=300, written={"concurrency": 4})
BULK = RunningClass(
    "shop", "app2", "bulk", ("feeds", "default"), time_limit=3600, stop_timeout=3630, memory_max=2**30, late=False
)
SHOP = App(
    "shop",
    hosts=("app1", "app2"),
    queues={"payments": "quorum", "feeds": "quorum", "default": "quorum"},
    routes=(Route("shop.payments.*", "payments"), Route("shop.feeds.*", "feeds")),
    classes=(HIGH, replace(HIGH, host="app2"), BULK),
    longest_eta=43200,
)
STACK = Deployment(
    apps={"shop": SHOP},
    servers=(Server("rabbitmq", "mq1"), Server("redis", "cache1")),
    duties=(Duty("celery_beat", "shop", "app1"),),
)


def parsed(picture: str) -> ElementTree.Element:
    return ElementTree.fromstring(picture)  # noqa: S314 (drawn a moment ago)


def test_the_table_tells_what_will_run_where() -> None:
    lines = text(STACK).splitlines()
    assert lines[0] == (
        "shop: broker RabbitMQ on mq1, results Redis on cache1, "
        "delayed tasks (up to 12h) wait in the broker, beat on app1"
    )
    cells = [line.split() for line in lines]
    assert ["high", "payments", "4", "x", "prefork", "-", "5m", "-", "late", "app1,", "app2"] in cells
    assert ["bulk", "feeds,", "default", "auto", "x", "prefork", "1h", "1h30s", "1G", "early", "app2"] in cells
    assert ["everything", "else", "default", "bulk"] in cells


def test_of_an_apps_own_routes_it_says_where_they_may_lead() -> None:
    own = replace(STACK, apps={"shop": replace(SHOP, routes=(), own_routes=True)})
    cells = [line.split() for line in text(own).splitlines()]
    assert ["by", "the", "app's", "own", "routes", "payments", "high"] in cells
    assert ["by", "the", "app's", "own", "routes", "feeds", "bulk"] in cells
    assert ["everything", "else", "default", "bulk"] in cells
    drawn = graph(own.apps["shop"])
    assert list(drawn.columns[0].values()) == ["by the app's own routes", "everything else"]
    assert [edge for edge in drawn.edges if edge[0] == 0] == [
        (0, "by the app's own routes", "payments"),
        (0, "by the app's own routes", "feeds"),
        (0, "2", "default"),
    ]
    assert "by the app&#x27;s own routes" in svg(own)


def test_where_workers_hold_delayed_tasks_it_says_so() -> None:
    redis = replace(STACK, apps={"shop": replace(SHOP, broker="redis")}, servers=())
    assert "broker Redis elsewhere" in text(redis)
    assert "wait in a worker" in text(redis)


def test_where_results_are_is_told_as_it_is() -> None:
    def told(**changes: object) -> str:
        return text(replace(STACK, apps={"shop": replace(SHOP, **changes)}))  # type: ignore[arg-type]

    assert "no results are kept" in told(has_results=False)
    assert "results postgresql at db:5432/shop," in told(results_at="postgresql at db:5432/shop")
    elsewhere = {"given": frozenset({"celery_app_broker_url"}), "broker_addresses": ("mq.example.org:5671/shop",)}
    assert "broker RabbitMQ at mq.example.org:5671/shop," in told(**elsewhere)
    for known in elsewhere:
        assert "broker RabbitMQ on mq1," in told(**{known: elsewhere[known]})


def test_hosts_that_run_the_same_are_one_node() -> None:
    crowded = replace(SHOP, classes=tuple(replace(HIGH, host=f"app{number:02}") for number in range(50)))
    drawn = graph(crowded)
    assert list(drawn.columns[3].values()) == ["app00 ... app49 (50 hosts)"]
    assert [edge for edge in drawn.edges if edge[0] == 2] == [(2, "0", "app00")]
    assert "c0_0 --> h0_0" in mermaid(Deployment(apps={"shop": crowded}))
    assert crowd(["a", "b", "a", "c"]) == "a, b, c"


def test_a_class_that_differs_between_hosts_is_drawn_for_each() -> None:
    other = replace(HIGH, host="app2", concurrency=8, written={"concurrency": 8})
    labels = graph(replace(SHOP, classes=(HIGH, other))).columns[2].values()
    assert list(labels) == ["high: 4 x prefork", "high: 8 x prefork"]


def test_every_edge_of_the_diagram_joins_nodes_that_are_there() -> None:
    lines = [line.strip() for line in mermaid(STACK).splitlines()]
    nodes = {line.split("[")[0].split("(")[0] for line in lines if '"' in line and not line.startswith("subgraph")}
    edges = [line.split(" --> ") for line in lines if "-->" in line]
    assert len(edges) == 3 + 3 + 3
    assert {end for edge in edges for end in edge} <= nodes
    assert 'r0_0["shop.payments.*"]' in lines


def test_labels_cannot_break_the_diagram() -> None:
    odd = replace(STACK, apps={"shop": replace(SHOP, routes=(Route('a"]<b>&', "payments"),))})
    assert 'r0_0["a&quot;]&lt;b&gt;&amp;"]' in mermaid(odd)
    texts = [element.text for element in parsed(svg(odd)).iter("{http://www.w3.org/2000/svg}text")]
    assert 'a"]<b>&' in texts


def test_the_picture_holds_every_node_and_edge_inside_its_frame() -> None:
    picture = parsed(svg(STACK))
    name = "{http://www.w3.org/2000/svg}"
    boxes = [element for element in picture.iter(f"{name}rect") if "x" in element.attrib]
    assert len(boxes) == sum(map(len, graph(SHOP).columns))
    assert len(list(picture.iter(f"{name}path"))) == len(graph(SHOP).edges)
    width, height = float(picture.attrib["width"]), float(picture.attrib["height"])
    for box in boxes:
        assert float(box.attrib["x"]) + float(box.attrib["width"]) <= width
        assert float(box.attrib["y"]) + float(box.attrib["height"]) <= height


def test_the_page_holds_the_table_and_the_diagram() -> None:
    page = markdown(STACK)
    assert "| shop.payments.\\* | payments | high |" in page
    assert "```mermaid\nflowchart LR\n" in page


#: Beside the shop an app whose columns differ in length: drawn below it, and wider.
BLOG = App(
    "blog & co",
    hosts=("app3",),
    broker="redis",
    default_queue="posts",
    queues={"posts": "classic"},
    routes=(
        Route("blog.pictures.of.quite.some.size.*", "pictures"),
        Route("blog.feeds", "feeds"),
        Route("blog.*", "feeds"),
    ),
    classes=(RunningClass("blog & co", "app3", "all", ("posts", "pictures"), pool="threads", concurrency=16),),
    longest_eta=600,
    has_results=False,
)
DRAWN = Path(__file__).resolve().parents[3] / "drawn"


@pytest.mark.parametrize(("name", "draw"), [("plan.txt", text), ("plan.md", markdown), ("plan.svg", svg)])
def test_the_plan_is_drawn_as_it_was_looked_at(name: str, draw: Callable[[Deployment], str]) -> None:
    two = replace(STACK, apps={"shop": SHOP, BLOG.name: BLOG})
    assert draw(two).rstrip("\n") == (DRAWN / name).read_text().rstrip("\n")


def test_names_for_a_narrow_place() -> None:
    assert [crowd(["a", "b", "c", "d"][:number]) for number in range(1, 5)] == [
        "a",
        "a, b",
        "a, b, c",
        "a ... d (4 hosts)",
    ]


def test_where_nothing_works_there_is_little_to_draw() -> None:
    idle = Deployment(apps={"shop": replace(SHOP, classes=())})
    head = "Class  Queues  At a time  Time limit  Stop  Memory  Acknowledged  Hosts"
    assert text(idle).splitlines()[2].strip() == head
    assert "|---|---|---|---|---|---|---|---|" in markdown(idle)
    assert parsed(svg(Deployment())).attrib["width"] == "0"


def test_several_workers_of_a_class_are_one_line() -> None:
    crowd_of_three = replace(SHOP, classes=(replace(HIGH, pool="gevent", concurrency=50, workers=3), BULK))
    stack = replace(STACK, apps={"shop": crowd_of_three})
    assert ["high", "payments", "3", "x", "50", "x", "gevent", "-", "5m", "-", "late", "app1"] in [
        line.split() for line in text(stack).splitlines()
    ]
    assert "high: 3 x 50 x gevent" in svg(stack)
