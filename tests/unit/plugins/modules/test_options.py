"""Modules document what they take, and take what they document."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.celeryops.stack.plugins.module_utils.releases.request import Request
from ansible_collections.celeryops.stack.plugins.modules import commands, release


def documented(options: dict[str, Any]) -> dict[str, Any]:
    """Return what the documentation says of options, in the form of an argument spec."""
    found = {}
    for name, said in options.items():
        found[name] = {key: said[key] for key in ("type", "elements", "required", "default", "choices") if key in said}
        if "suboptions" in said:
            found[name]["options"] = documented(said["suboptions"])
    return found


@pytest.mark.parametrize("module", [release, commands], ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_module_takes_what_it_documents(module: Any) -> None:
    assert documented(yaml.safe_load(module.DOCUMENTATION)["options"]) == module.OPTIONS


def test_the_request_of_a_release_has_every_option() -> None:
    assert set(Request.__annotations__) == set(release.OPTIONS)
