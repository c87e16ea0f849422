"""What goes when an app, or everything, is removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import removal
from ansible_collections.celeryops.stack.plugins.module_utils.ours import MARK
from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import engine_names
from ansible_collections.celeryops.stack.plugins.module_utils.removal import SERVERS, of_app, of_server, refusal
from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import render
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.rabbitmq import data_settings
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.layout import app_layout

UNITS = [
    "celery-shop-high.service", "celery-shop-beat.service", "celery-shop.target", "celery-shop_2-high.service",
    "celery-blog-high.service",
]  # fmt: skip
USERS = {"celery-shop-high.service": "shop", "celery-shop-beat.service": "shop", "celery-blog-high.service": "blog"}
PASSWD = (
    "root:x:0:0:root:/root:/bin/bash\nshop:x:998:998:Celery app shop:/var/lib/celeryops/shop:/usr/sbin/nologin\n"
    "blog:x:1001:1001:Anna:/srv/blog:/bin/bash\nweb:x:997:997:Celery app web:/x:/usr/sbin/nologin\n"
)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = tuple(f"{tmp_path}{folder}" for folder in removal.PROGRAMS)
    data = tuple(f"{tmp_path}{folder}" for folder in removal.DATA)
    monkeypatch.setattr(removal, "PROGRAMS", programs)
    monkeypatch.setattr(removal, "DATA", data)
    for folder in (*programs, *data):
        for app in ("shop", "blog"):
            (Path(folder) / app).mkdir(parents=True)
    return tmp_path


def places(host: Path, paths: list[str]) -> list[str]:
    return [path.removeprefix(str(host)) for path in paths]


def test_an_app_goes_and_its_data_stay(host: Path) -> None:
    found = of_app("shop", UNITS, USERS, PASSWD, data=False)
    assert found.units == ["celery-shop-beat.service", "celery-shop-high.service", "celery-shop.target"]
    assert places(host, found.paths) == [
        *(f"/etc/systemd/system/{unit}" for unit in found.units),
        "/opt/celeryops/shop", "/etc/celeryops/shop", "/run/celeryops/shop",
    ]  # fmt: skip
    assert places(host, found.kept) == ["/var/lib/celeryops/shop", "/var/log/celeryops/shop"]
    assert found.accounts == ["shop"]
    assert found.any()


def test_with_its_data(host: Path) -> None:
    (host / "var/lib/celeryops/shop-flower").mkdir()
    found = of_app("shop", UNITS, USERS, PASSWD, data=True)
    data = ["/var/lib/celeryops/shop", "/var/log/celeryops/shop", "/var/lib/celeryops/shop-flower"]
    assert places(host, found.paths)[-3:] == data
    assert found.kept == []


@pytest.mark.usefixtures("host")
def test_an_account_that_is_a_persons_or_anothers_stays() -> None:
    assert of_app("blog", UNITS, USERS, PASSWD, data=True).accounts == []
    shared = {**USERS, "celery-blog-high.service": "shop"}
    assert of_app("shop", UNITS, shared, PASSWD, data=True).accounts == []
    # A custom name, known by the units that run as it.
    assert of_app("shop", UNITS, dict.fromkeys(UNITS[:2], "web"), PASSWD, data=True).accounts == ["shop", "web"]


def test_what_is_gone_already() -> None:
    found = of_app("nothing", UNITS, USERS, PASSWD, data=True)
    assert not found.any()
    assert found.kept == []


def test_the_places_are_those_of_the_layout() -> None:
    layout = app_layout("shop")
    assert {layout["base"], layout["config_dir"], layout["run"]} == {f"{path}/shop" for path in removal.PROGRAMS}
    assert {layout["state"], layout["log"]} == {f"{path}/shop" for path in removal.DATA}


def test_a_server_of_somebody_else_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "conf").write_text("# Managed by celeryops.stack (role rabbitmq). Local changes are overwritten.\n")
    server = {
        "units": ("x.service",), "mark": (f"{tmp_path}/conf",), "files": (f"{tmp_path}/conf", f"{tmp_path}/absent"),
        "packages": ("x",), "data": (f"{tmp_path}/data",),
    }  # fmt: skip
    monkeypatch.setattr(removal, "SERVERS", {"x": server})
    found = of_server("x", data=False)
    assert (found.paths, found.kept, found.packages) == ([f"{tmp_path}/conf"], [f"{tmp_path}/data"], ["x"])
    assert of_server("x", data=True).paths == [f"{tmp_path}/conf", f"{tmp_path}/data"]
    # A file of the same name, of another hand.
    (tmp_path / "conf").write_text("listeners.tcp.default = 5672\n# Managed by celeryops.stack (role rabbitmq)\n")
    assert not of_server("x", data=True).any()
    (tmp_path / "conf").unlink()
    assert not of_server("x", data=True).any()


@pytest.mark.parametrize("data", [True, False])
def test_what_says_where_data_are_stays_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bool) -> None:
    conf, says, place = tmp_path / "rabbitmq.conf", tmp_path / "rabbitmq-env.conf", tmp_path / "srv"
    conf.write_text("# Managed by celeryops.stack (role rabbitmq). Local changes are overwritten.\n")
    roles = Path(__file__).resolve().parents[4] / "roles"
    environment = [{"export": False, "name": name, "value": value} for name, value in data_settings(
        {"base": str(place), "quorum": str(tmp_path / "none")}).items()]  # fmt: skip
    says.write_text(render(roles / "rabbitmq/templates/rabbitmq-env.conf.j2", {"environment": environment}))
    server = {"units": (), "mark": (str(conf),), "files": (str(conf), str(says)), "packages": ("x",), "data": ()}
    monkeypatch.setattr(removal, "SERVERS", {"rabbitmq": {**server, "places": (str(says),)}})
    assert of_server("rabbitmq", data=data).paths == [str(conf), str(says)]
    place.mkdir()
    found = of_server("rabbitmq", data=data)
    assert (found.paths, found.kept) == (
        ([str(conf), str(says)], [str(place)]) if data else ([str(conf)], [str(place), str(says)])
    )


def test_the_mark_of_a_server_begins_as_the_role_writes_it() -> None:
    roles = Path(__file__).resolve().parents[4] / "roles"
    assert SERVERS["rabbitmq"]["mark"] == ("/etc/rabbitmq/rabbitmq.conf",)
    for kind in ("redis", "valkey"):
        assert SERVERS[kind]["mark"] == (engine_names(kind)["config"],)
    for template in ("rabbitmq/templates/rabbitmq.conf.j2", "redis/templates/celeryops.conf.j2"):
        assert MARK.match((roles / template).read_text().splitlines()[0])


def test_every_file_that_the_roles_place_is_removed() -> None:
    roles = Path(__file__).resolve().parents[4] / "roles"
    text = (roles / "rabbitmq/tasks/configure.yml").read_text() + (roles / "rabbitmq/tasks/packages.yml").read_text()
    placed = {
        line.split("path: ")[1].strip().strip('"')
        for line in text.splitlines()
        if "path: /etc/" in line and ".d\n" not in line
    }
    known = SERVERS["rabbitmq"]["files"]
    folders = {
        "/etc/rabbitmq/conf.d",
        "/etc/systemd/system/rabbitmq-server.service.d",
        "/etc/systemd/system/epmd.socket.d",
    }
    assert placed - folders <= set(known)


@pytest.mark.parametrize(
    ("waiting", "messages", "says"),
    [
        ({}, False, ""),
        ({"shop": {"default": 0, "old": None}}, False, ""),
        ({"shop": {"default": 3}}, True, ""),
        ({"shop": "no answer"}, True, ""),
        (
            {"shop": {"feeds": 201, "default": 0, "a": 1}},
            False,
            "tasks of shop wait: 1 in a, 201 in feeds. Nothing was",
        ),
        ({"shop": {}, "blog": "no answer"}, False, "whether tasks of blog wait is not known (no answer)"),
    ],
)
def test_what_has_tasks_in_it_needs_a_word(waiting: dict[str, object], messages: bool, says: str) -> None:
    text = refusal(waiting, messages=messages)
    assert bool(text) is bool(says)
    assert says in text
    assert not says or "celeryops_remove_messages: true" in text
