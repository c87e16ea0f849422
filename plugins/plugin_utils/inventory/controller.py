# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an action plugin passes from Ansible and the control machine to the functions that plan and check."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.control_paths import local_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_COLLECTION = Path(__file__).resolve().parents[3]


class Controller:
    """Templates, and the files of the collection and of the inventory.

    Arguments:
        templar: of the action plugin.
        loader: of the action plugin; it knows the playbook's directory.
        sources: the inventory's sources, as Ansible's ``ansible_inventory_sources`` lists them.
    """

    def __init__(self, templar: Any, loader: Any, sources: Iterable[str] = ()) -> None:
        self._templar = templar
        self._loader = loader
        self.sources = list(sources)
        self._defaults: dict[str, dict[str, Any]] = {}

    def template(self, variables: Mapping[str, Any], value: Any) -> Any:
        """Return a value worked out with these variables, which may be templates themselves."""
        return self.templates_with(variables)(value)

    def templates_with(self, variables: Mapping[str, Any]) -> Any:
        """Return a function that works out values with these variables."""
        return self._templar.copy_with_new_env(available_variables=variables).template

    def variables_in(self, *path: str) -> dict[str, Any]:
        """Return the variables in a file of the collection, which may be templates."""
        # ansible-core 2.19 has to be told so.
        arguments = {}
        if "trusted_as_template" in inspect.signature(self._loader.load_from_file).parameters:
            arguments["trusted_as_template"] = True
        return self._loader.load_from_file(str(_COLLECTION.joinpath(*path)), **arguments) or {}

    def role_defaults(self, role: str) -> dict[str, Any]:
        """Return a role's defaults."""
        if role not in self._defaults:
            self._defaults[role] = self.variables_in("roles", role, "defaults", "main.yml")
        return self._defaults[role]

    def local(self, path: str) -> Path:
        """Return where a file or directory is that an inventory names (``beside_inventory.local_source``)."""
        return local_source(path, self.sources, self._loader.get_basedir())

    def place_of(self, path: str) -> Path:
        """Return where Ansible's own lookups look for a path: from the playbook, unless it is absolute."""
        return Path(self._loader.path_dwim(path))
