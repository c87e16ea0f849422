# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates without logic: plain Jinja2 that sees only the plan.

A template gets only the variables that the task names, so it cannot reach host variables, lookups or facts, and an
unknown name is an error. That also makes thirty unit files cost thirty renderings, not thirty copies of all host
variables (which is what Ansible's template lookup does), and lets a unit test render a role's templates as they are.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class RenderError(Exception):
    """A template could not be rendered; the text names the template and the reason."""


def quote_systemd(value: object) -> str:
    """Return ``value`` as one quoted word of a unit file (Environment=, ExecStart=).

    Escapes the quote and the backslash (systemd.syntax(7), "Quoting"), ``%`` (specifiers, systemd.unit(5)) and
    ``$`` (substitution in command lines, systemd.service(5)); the last is doubled, which Environment= leaves alone
    only outside of command lines, so it is left to ``quote_systemd_word``.
    """
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return f'"{text}"'


def quote_systemd_word(value: object) -> str:
    """Return ``value`` as one quoted word of a command line: as ``quote_systemd``, with ``$`` doubled as well."""
    return quote_systemd(value).replace("$", "$$")


def quote_environment_file(value: object) -> str:
    """Return ``value`` as a double-quoted value of an EnvironmentFile= (systemd.exec(5)).

    Inside double quotes a backslash keeps the next of the characters ``"``, backslash, backquote and ``$`` literal,
    and no specifier is expanded.
    """
    text = str(value)
    for character in ("\\", '"', "`", "$"):
        text = text.replace(character, "\\" + character)
    return f'"{text}"'


def to_json(value: object) -> str:
    """Return ``value`` as indented JSON; keys keep their order, since the order of routes has a meaning."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def render(template: Path, variables: Mapping[str, Any]) -> str:
    """Return the text of ``template`` rendered with ``variables`` only.

    Raises:
        RenderError: when the template is not there, is malformed or names something that it was not given.
    """
    environment = Environment(
        loader=FileSystemLoader(str(template.parent)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - nothing here is HTML: the results are unit files and configuration
    )
    environment.filters.update(
        quote_systemd=quote_systemd,
        quote_systemd_word=quote_systemd_word,
        quote_environment_file=quote_environment_file,
        to_json=to_json,
        bool=bool,
    )
    try:
        return environment.get_template(template.name).render(**variables)
    except TemplateError as error:
        raise RenderError(f"template {template}: {error.message or type(error).__name__}") from error
