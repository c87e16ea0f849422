"""Sentinels that are told to wait get their own time back, whatever happens; they are stood in for."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import sentinel_patience
from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import ServerError
from ansible_collections.celeryops.stack.plugins.module_utils.sentinel_patience import A_DAY, Sentinels

PRIMARY = ("10.0.0.1", 6379)
PLACES = [{"host": f"10.0.0.{number}", "port": 26379} for number in (1, 2, 3)]


class World:
    """Three Sentinels, and what each of them says."""

    def __init__(self) -> None:
        self.said = {
            place["host"]: {
                "last-ok-ping-reply": "300",
                "ip": PRIMARY[0],
                "port": "6379",
                "flags": "master",
                "down-after-milliseconds": f"{number}000",
            }
            for number, place in enumerate(PLACES, 3)
        }
        self.silent: set[str] = set()
        #: How often a Sentinel is asked before the primary has answered it.
        self.unanswered = 0

    def times(self) -> list[str]:
        return [said["down-after-milliseconds"] for said in self.said.values()]

    def client(self, address: tuple[str, int], **_options: float) -> Client:
        if address[0] in self.silent:
            raise OSError("refused")
        return Client(self, address[0])


class Client:
    def __init__(self, world: World, host: str) -> None:
        self.world, self.host = world, host

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        """Stay as it is."""

    def call(self, *words: str) -> Any:
        if words[0] == "AUTH":
            if words[1:] != ("admin", "secret"):
                raise ServerError("WRONGPASS")
            return "OK"
        assert words[:1] == ("SENTINEL",)
        assert words[2] == "celeryops"
        if words[1] == "SET":
            self.world.said[self.host][words[3]] = words[4]
            return "OK"
        if self.world.unanswered:
            self.world.unanswered -= 1
            return [
                word for pair in {**self.world.said[self.host], "last-ok-ping-reply": "9000"}.items() for word in pair
            ]
        return [word for pair in self.world.said[self.host].items() for word in pair]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(sentinel_patience, "Client", world.client)
    monkeypatch.setattr(sentinel_patience, "PAUSE", 0.01)
    monkeypatch.setattr(sentinel_patience, "PATIENCE", 0.1)
    return world


def sentinels(password: str = "secret") -> Sentinels:  # noqa: S107 - no real one
    return Sentinels(PLACES, "celeryops", "admin", password)


def test_sentinels_wait_for_a_time_and_no_longer(world: World) -> None:
    told = sentinels()
    assert told.refusal(PRIMARY) == ""
    with told.waiting():
        assert world.times() == [A_DAY] * 3
    assert world.times() == ["3000", "4000", "5000"]
    assert told.stuck == []


@pytest.mark.parametrize("questions", [3, 1000])
def test_their_own_time_begins_when_the_primary_has_answered_or_does_not(world: World, questions: int) -> None:
    """Else its silence so far would count."""
    with sentinels().waiting():
        world.unanswered = questions
    assert world.times() == ["3000", "4000", "5000"]
    assert (world.unanswered == 0) == (questions == 3)


def test_they_get_their_time_back_when_something_fails(world: World) -> None:
    with pytest.raises(KeyError), sentinels().waiting():
        raise KeyError
    assert world.times() == ["3000", "4000", "5000"]


def test_nothing_begins_when_one_does_not_answer(world: World) -> None:
    world.silent = {"10.0.0.3"}
    assert "10.0.0.3:26379 does not answer (refused)" in sentinels().refusal(PRIMARY)
    began = False
    with pytest.raises(OSError, match="refused"), sentinels().waiting():
        began = True
    assert not began
    assert world.times() == ["3000", "4000", "5000"]


def test_one_that_keeps_waiting_is_told_of(world: World) -> None:
    told = sentinels()
    with told.waiting():
        world.silent = {"10.0.0.2"}
    assert world.times() == ["3000", A_DAY, "5000"]
    assert told.stuck == ["10.0.0.2:26379"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"ip": "10.0.0.2"}, "10.0.0.2:26379 has another primary, 10.0.0.2:6379"),
        ({"port": "6380"}, "has another primary, 10.0.0.1:6380"),
        ({"flags": "master,o_down"}, "says of it: master,o_down"),
    ],
)
def test_all_have_to_know_the_primary_as_what_it_is(world: World, said: dict[str, str], why: str) -> None:
    world.said["10.0.0.2"] |= said
    assert why in sentinels().refusal(PRIMARY)


def test_a_password_that_is_refused_is_no_answer(world: World) -> None:
    assert "does not answer (WRONGPASS)" in sentinels("other").refusal(PRIMARY)
    assert world.times() == ["3000", "4000", "5000"]
