"""What queues say of themselves, what of it proves that nobody misses them, and what a restart must not lose."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_contents import (
    Contents,
    Queue,
    command,
    look_at,
    missing,
    parse,
    summary,
)


def told(*lines: str) -> Contents:
    """Return what is parsed of lines whose names are written as text."""
    words = [line.split(" ") for line in lines]
    count = {"queue": 3, "gone": 3, "vhost": 2}
    return parse(
        "\n".join(
            " ".join([kind, *(name.encode().hex() for name in rest[: count[kind] - 1]), *rest[count[kind] - 1 :]])
            for kind, *rest in words
        )
    )


def test_what_a_program_prints_is_read() -> None:
    contents = told("vhost shop 2", "queue shop high lasting 3 2 1", "queue shop tmp fleeting 0 0 0", "gone shop old")
    assert contents.connections == {"shop": 2}
    assert contents.queues == {
        ("shop", "high"): Queue("lasting", messages=3, persistent=2, consumers=1),
        ("shop", "tmp"): Queue("fleeting", messages=0, persistent=0, consumers=0),
    }
    assert contents.gone == {("shop", "old")}
    assert summary(contents) == {"vhosts": 1, "queues": 2, "messages": 3}


@pytest.mark.parametrize(
    ("line", "idle"),
    [
        ("queue v q lasting 0 0 0", True),
        ("gone v q", True),
        ("queue v q lasting 1 1 0", False),
        ("queue v q lasting 0 0 1", False),
        ("queue v q lasting unknown unknown unknown", False),
        ("queue v q lasting 0 0 unknown", False),
        ("queue v other lasting 0 0 0", False),
    ],
)
def test_only_a_proof_says_that_nobody_misses_a_queue(line: str, idle: bool) -> None:
    assert told(line).idle_queue(("v", "q")) is idle


@pytest.mark.parametrize(
    ("lines", "idle"),
    [
        (["vhost v 0"], True),
        (["vhost v 0", "queue v q lasting 0 0 0", "queue w q lasting 5 5 0"], True),
        (["vhost v 0", "queue v q lasting 0 0 0", "queue v r lasting 5 5 0"], False),
        (["vhost v 0", "queue v q lasting unknown unknown unknown"], False),
        (["vhost v 1"], False),
        (["vhost v unknown"], False),
        ([], False),
    ],
)
def test_only_a_proof_says_that_nobody_misses_a_virtual_host(lines: list[str], idle: bool) -> None:
    assert told(*lines).idle_vhost("v") is idle


@pytest.mark.parametrize(
    "output", ["", "Error: unable to perform an operation on node", "queue zz zz lasting 0 0 0", "vhost 76"]
)
def test_a_server_that_says_something_else_proves_nothing(output: str) -> None:
    contents = parse(output)
    assert not contents.idle_queue(("v", "q"))
    assert not contents.idle_vhost("v")


def test_names_are_carried_whatever_is_in_them() -> None:
    name = 'a b\'"/\\~p,ü">>).'
    program = look_at([("/", name)], [name])
    assert name not in program
    assert f"Seek(<<47>>, <<{','.join(map(str, name.encode()))}>>)" in program
    assert parse(f"queue 2f {name.encode().hex()} lasting 0 0 0").idle_queue(("/", name))
    assert command(program, ["--node", "rabbit@a"])[1:3] == ["--node", "rabbit@a"]


def test_what_did_not_come_up_is_asked_for() -> None:
    """How it is told was seen on RabbitMQ 3.10.8, with a file in the place of a virtual host's store."""
    program = look_at([("v", "q")], ["w"])
    seek, within = program.partition("Seek = ")[2], program.partition("Within = ")[2].partition("Seek = ")[0]
    assert "rabbit_amqqueue:list_down(Vhost)" in seek
    assert "true = rabbit_vhost_sup_sup:is_vhost_alive(Vhost)" in within
    assert "[] = rabbit_amqqueue:list_down(Vhost)" in within


BEFORE = (
    "vhost v 1",
    "vhost w 0",
    "queue v full lasting 5 5 0",
    "queue v busy lasting 5 5 2",
    "queue v none lasting 0 0 0",
)


@pytest.mark.parametrize(
    ("after", "lost"),
    [
        (BEFORE, []),
        # What a consumer took, or what is new.
        ((*BEFORE[:3], "queue v busy lasting 0 0 0", BEFORE[4], "queue v new lasting 1 1 0"), []),
        # It does not answer yet.
        ((*BEFORE[:2], "queue v full lasting unknown unknown unknown", *BEFORE[3:]), []),
        ((*BEFORE[:2], "queue v full lasting 0 0 0", *BEFORE[3:]), ["5 messages of queue full in virtual host v"]),
        ((*BEFORE[:2], *BEFORE[3:]), ["queue full in virtual host v with 5 messages"]),
        (BEFORE[:4], ["queue none in virtual host v"]),
        (BEFORE[1:2], ["virtual host v"]),
        ((), ["virtual host v", "virtual host w"]),
    ],
)
def test_what_a_restart_must_not_lose(after: tuple[str, ...], lost: list[str]) -> None:
    assert missing(told(*BEFORE, "queue v tmp fleeting 9 9 0"), told(*after)) == lost


def test_messages_whose_time_came_are_no_loss_but_their_queue_is() -> None:
    before = told("vhost v 0", "queue v delay passing 3 3 0")
    assert missing(before, told("vhost v 0", "queue v delay passing 0 0 0")) == []
    assert missing(before, told("vhost v 0")) == ["queue delay in virtual host v with 3 messages"]


@pytest.mark.parametrize(
    ("persistent", "after", "lost"),
    [
        # None was to be kept, and none is.
        ("0", "0 0 0", []),
        # The others are gone, and those that had to be kept are there.
        ("2", "2 2 0", []),
        ("2", "0 0 0", ["2 messages of queue q in virtual host v"]),
        # Not known is all of them.
        ("unknown-hash-algorithm", "0 0 0", ["5 messages of queue q in virtual host v"]),
    ],
)
def test_a_restart_must_keep_what_is_persistent(persistent: str, after: str, lost: list[str]) -> None:
    before = told("vhost v 0", f"queue v q lasting 5 {persistent} 0")
    assert not before.idle_queue(("v", "q")), "somebody misses the others, too, if the queue is deleted"
    assert missing(before, told("vhost v 0", f"queue v q lasting {after}")) == lost
    assert missing(before, told("vhost v 0")) == ["queue q in virtual host v with 5 messages"]
