"""Options of the connections: which of them any client knows."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import amqp
import celery.backends
import kombu.connection
import pytest
from kombu.transport.redis import SentinelChannel
from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.transport_options import (
    RABBITMQ,
    REDIS,
    RESULTS,
    transport_problems,
)

#: What kombu itself gives to the connection, or what is code.
_KOMBUS = {"self", "host", "userid", "password", "ssl", "authentication", "kwargs", "frame_handler", "frame_writer"}


def found(options: dict[Any, Any], known: tuple[str, ...] = RABBITMQ) -> list[tuple[str, str]]:
    return told(transport_problems("o", options, known))


def test_the_names_are_those_of_the_clients() -> None:
    taken = {name for name in inspect.signature(amqp.Connection.__init__).parameters if not name.startswith("on_")}
    failover = set(RABBITMQ) & set(REDIS)
    assert set(RABBITMQ) - failover == taken - _KOMBUS
    assert set(REDIS) - failover == {*SentinelChannel.from_transport_options, "polling_interval"}
    source = Path(kombu.connection.__file__).read_text()
    assert [name for name in failover if f"'{name}' in transport_opts" not in source] == []
    source = "".join(path.read_text() for path in Path(celery.backends.__path__[0]).glob("*.py"))
    assert [n for n in RESULTS if f"'{n}'" not in source and f'"{n}"' not in source] == ["visibility_timeout"]


@pytest.mark.parametrize("known", [RABBITMQ, REDIS])
def test_a_misspelt_option_is_told_and_a_strange_one_is_not(known: tuple[str, ...]) -> None:
    (problem,) = transport_problems("o", {"max_retires": 3}, known)
    assert told([problem]) == [("no-effect-option", "o.max_retires")]
    assert problem.instead == "max_retries (did you mean that?)"
    assert found({"max_retries": 3, "region": "eu", 5: 1}, known) == []


@pytest.mark.parametrize("seconds", [0, 0.5, 30, None])
def test_times(seconds: Any) -> None:
    assert found({"read_timeout": seconds, "interval_max": seconds}) == []
    assert found({"socket_timeout": seconds}, REDIS) == []


@pytest.mark.parametrize("seconds", ["30s", "30", -1, -0.1, True, [30]])
def test_what_is_no_time(seconds: Any) -> None:
    for name, known in (("write_timeout", RABBITMQ), ("health_check_interval", REDIS)):
        assert found({name: seconds}, known) == [("not-a-number-of-seconds", f"o.{name}")]


def test_confirmation_is_on_or_off() -> None:
    assert found({"confirm_publish": True}) == found({"confirm_publish": False}) == []
    assert found({"confirm_publish": "no"}) == [("not-a-boolean", "o.confirm_publish")]
