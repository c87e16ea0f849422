"""Further arguments of a worker: read as Celery's own command reads them."""

from __future__ import annotations

import pytest
from celery.bin.worker import worker

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.worker_arguments import (
    FLAGS,
    OWN,
    VALUED,
    Stranger,
    check_arguments,
    strangers,
)


def test_every_option_of_the_installed_celery_is_known() -> None:
    options = {name for option in worker.params for name in (*option.opts, *option.secondary_opts)}
    assert options - {"--help"} == {*FLAGS, *VALUED, *OWN}


@pytest.mark.parametrize(
    "words",
    [
        ["-E"],
        ["-EOfair"],
        ["-O", "fair", "-E"],
        ["--optimization=default"],
        ["--heartbeat-interval", "10", "--without-mingle"],
        ["-Ishop.tasks,shop.mails"],
        ["--include", "shop.tasks"],
        ["--disable-prefetch", "--pool-start-method=spawn"],
        [],
    ],
)
def test_what_a_worker_takes(words: list[str]) -> None:
    assert check_arguments(words, "v") == []
    assert strangers(words) == []


@pytest.mark.parametrize(
    ("words", "word", "instead"),
    [
        (["-EB"], "-EB", "role celery_beat"),
        (["-Ec99"], "-Ec99", "the key concurrency"),
        (["-EQpayments"], "-EQpayments", "the key queues"),
        (["-ElINFO"], "-ElINFO", "the key log_level"),
        (["-EEn", "x"], "-EEn", "nothing: the node is named after the class"),
        (["-S", "/var/lib/x"], "-S", "nothing: a file of one Python"),
        (["--statedb=/var/lib/x"], "--statedb=/var/lib/x", "nothing: a file of one Python"),
        (["--autoscale", "4,1"], "--autoscale", "the key concurrency"),
        (["-Q payments"], "-Q payments", "the key queues"),
        (["--queues payments"], "--queues payments", "the key queues"),
        (["-B"], "-B", "role celery_beat"),
        (["--without-gossip"], "--without-gossip", "nothing: the role gives it"),
        (["--workdir=/tmp"], "--workdir=/tmp", "nothing: it must be a directory"),
    ],
)
def test_what_the_role_sets_itself_is_told_once_however_it_is_written(
    words: list[str], word: str, instead: str
) -> None:
    (problem,) = check_arguments(words, "v")
    assert (problem.value, problem.reason) == (word, "is set by the role itself")
    assert problem.instead.startswith(instead)
    assert strangers(words) == []


@pytest.mark.parametrize(
    ("words", "word", "reason"),
    [
        (["prefetch_multiplier=9"], "prefetch_multiplier=9", "is not an option"),
        (["beat"], "beat", "is not an option"),
        (["-E", "x"], "x", "is not an option"),
        (["--"], "--", "is not an option"),
        (["-"], "-", "is not an option"),
        (["--heartbeat-interval 10"], "--heartbeat-interval 10", "is one word"),
        (["--without-mingle=yes"], "--without-mingle=yes", "takes no value"),
        (["-Ofairly"], "-Ofairly", "is not a value of -O"),
        (["-EO", "-E"], "-E", "is not a value of -O"),
        (["--heartbeat-interval=0"], "--heartbeat-interval=0", "is not a value"),
        (["--pool-start-method", "forkserver"], "forkserver", "is not a value"),
        (["-E", "-O"], "-O", "lacks its value"),
        (["--foo=redis://:secret@h/0"], "(not shown)", "readable by everyone"),
    ],
)
def test_words_that_no_worker_could_take(words: list[str], word: str, reason: str) -> None:
    (problem,) = check_arguments(words, "v")
    assert problem.value == word
    assert reason in problem.reason


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--foo-bar"], [Stranger("--foo-bar", "an option of celery worker 5.7")]),
        (["--without-ming"], [Stranger("--without-ming", "--without-mingle (did you mean that?)")]),
        (["--tenant", "shop", "-E"], [Stranger("--tenant", "an option of celery worker 5.7")]),
        (["--tenant", "-E"], [Stranger("--tenant", "an option of celery worker 5.7")]),
        (["--tenant=shop"], [Stranger("--tenant=shop", "an option of celery worker 5.7")]),
        (["-Ez"], [Stranger("-Ez", "an option of celery worker 5.7")]),
    ],
)
def test_options_that_celery_does_not_have(words: list[str], expected: list[Stranger]) -> None:
    assert strangers(words) == expected
    assert check_arguments(words, "v") == []


def test_behind_an_unknown_option_nothing_of_the_roles_hides() -> None:
    assert [problem.value for problem in check_arguments(["--tenant", "-B"], "v")] == ["-B"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        # A value of the option before it is none of its own; the next word is.
        (["-O", "fair", "-B"], ["-B"]),
        (["--api-key", "beat", "-E"], ["(not shown)"]),
        (["--api-key=x", "beat"], ["(not shown)", "beat"]),
        (["redis://h/0", "beat"], ["(not shown)", "beat"]),
        (["-B", "beat"], ["-B", "beat"]),
        (["--beat", "beat"], ["--beat", "beat"]),
        (["-Q", "beat"], ["-Q"]),
        (["-Qbeat", "beat"], ["-Qbeat", "beat"]),
        (["--queues", "beat"], ["--queues"]),
        (["--queues=beat", "beat"], ["--queues=beat", "beat"]),
        (["-O"], ["-O"]),
        (["-E", "-E", "-O"], ["-O"]),
        (["-O", "-E", "-E"], ["-E"]),
        (["-Q"], ["-Q"]),
        (["--tenant=password"], []),
    ],
)
def test_each_word_is_told_once(words: list[str], told: list[str]) -> None:
    assert [problem.value for problem in check_arguments(words, "v")] == told


def test_what_belongs_into_one_word_is_shown_as_one() -> None:
    (problem,) = check_arguments(["--tenant  big shop"], "v")
    assert problem.instead == "--tenant=big shop"


def test_the_likeliest_of_several_options_is_meant() -> None:
    (stranger,) = strangers(["--max-task-per-child"])
    assert stranger.instead == "--max-tasks-per-child (did you mean that?)"
