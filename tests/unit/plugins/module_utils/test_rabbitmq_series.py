"""Of which series RabbitMQ is, and its data."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_series import (
    installed_version,
    series_of,
    written_by,
)

#: What the first node of Debian 13 writes, shortened.
FLAGS = "[classic_mirrored_queue_version,\n message_containers,\n quorum_queue,\n 'rabbitmq_4.0.0',\n stream_queue].\n"


@pytest.mark.parametrize(
    ("version", "series"),
    [
        ("4.0.5", "4.0"), ("3.10.8-1+deb12u1", "3.10"), ("1:3.13.7-1", "3.13"), ("4.3", "4.3"), ("4.0.*", "4.0"),
        ("4.*", ""), ("4", ""), ("", ""),
    ],
)  # fmt: skip
def test_series(version: str, series: str) -> None:
    assert series_of(version) == series


def test_the_newest_that_is_there_is_installed() -> None:
    assert installed_version(["bin", "rabbitmq_server-3.9.1", "rabbitmq_server-3.10.8"]) == "3.10.8"
    assert installed_version(["bin"]) == ""


def test_the_flags_tell_who_wrote_the_data() -> None:
    assert written_by(FLAGS) == "4.0"
    assert written_by(FLAGS.replace("'rabbitmq_4.0.0',", "")) == "3.13"
    assert written_by("[classic_mirrored_queue_version, stream_queue].") == "3.10"
    # Not a part of another name.
    assert written_by("[my_message_containers].") == ""
    assert written_by("") == ""
