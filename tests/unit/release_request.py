"""Requests for a release, as Ansible hands them to the module; a host in the place of a real one."""

from __future__ import annotations

from typing import Any, cast

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.celeryops.stack.plugins.module_utils.releases.procedure import Procedure
from ansible_collections.celeryops.stack.plugins.module_utils.releases.request import Request
from ansible_collections.celeryops.stack.plugins.modules.release import OPTIONS


def request(**options: Any) -> Request:
    """Return all options of the module, with its defaults; most of what is required has one here."""
    given = {"name": "shop", "import": "shop:app", "user": "shop", "source": {"type": "pip", "packages": ["shop"]}}
    found = ArgumentSpecValidator(OPTIONS).validate({**given, **options})
    assert found.error_messages == []
    return cast("Request", found.validated_parameters)


class Host:
    """A module without a host, which notes its warnings."""

    def __init__(self, *, check_mode: bool = False) -> None:
        self.check_mode = check_mode
        self.warned: list[str] = []

    def warn(self, text: str) -> None:
        self.warned.append(text)


def procedure(host: Any = None, work: str = "", **options: Any) -> Procedure:
    """Return one call of the module."""
    return Procedure(host or Host(), request(**options), work)
