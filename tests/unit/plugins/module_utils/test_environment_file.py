"""The environment file of an app is read as it is written."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.environment_file import parse_environment
from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import quote_environment_file


@pytest.mark.parametrize("value", ["", "a b", 'q"q', "back\\slash", "$HOME `id`", "two\nlines", "%h", "ü", "#x", "\\n"])
def test_the_environment_file_is_read_as_it_is_written(value: str) -> None:
    text = f"# comment\nA={quote_environment_file(value)}\nB={quote_environment_file('next')}\n"
    assert parse_environment(text) == {"A": value, "B": "next"}
