"""Templates that are compiled once in a process, and not for every environment that Ansible makes."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment

_compile_it = Environment.compile
_compiled: dict[tuple[Any, ...], Any] = {}


def _kept(self: Environment, source: Any, *how: Any, **more: Any) -> Any:
    if not isinstance(source, str):
        return _compile_it(self, source, *how, **more)
    key = (type(self), self.variable_start_string, self.block_start_string, source, how, *sorted(more.items()))
    if key not in _compiled:
        _compiled[key] = _compile_it(self, source, *how, **more)
    return _compiled[key]


def compile_once() -> None:
    """Compile no template a second time from now on, which forks inherit: most are those of the defaults."""
    Environment.compile = _kept  # type: ignore[method-assign]
