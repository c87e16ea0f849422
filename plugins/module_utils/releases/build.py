# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a complete release, or none: content, packages, the app itself, and the trial of it."""

from __future__ import annotations

import glob
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.releases import resolve, virtualenv
from ansible_collections.celeryops.stack.plugins.module_utils.releases.installer import Installer
from ansible_collections.celeryops.stack.plugins.module_utils.releases.programs import Programs, ReleaseError, write
from ansible_collections.celeryops.stack.plugins.module_utils.releases.requirements import requirement_lines
from ansible_collections.celeryops.stack.plugins.module_utils.releases.store import MANIFEST, Store, delete, write_json

if TYPE_CHECKING:
    from ansible_collections.celeryops.stack.plugins.module_utils.releases.request import Request
    from ansible_collections.celeryops.stack.plugins.module_utils.releases.source import Source
    from ansible_collections.celeryops.stack.plugins.module_utils.releases.verify import Verification


class Build:
    """The build of one release.

    Arguments:
        request: of the module.
        store: gets the release.
        source: where its content comes from.
        programs: runs what builds it.
        verification: tries it.
    """

    def __init__(
        self, request: Request, store: Store, source: Source, programs: Programs, verification: Verification
    ) -> None:
        self.request = request
        self.given = request["source"]
        self.store = store
        self.source = source
        self.programs = programs
        self.verification = verification
        self.installer = Installer(request, programs, source)
        #: What should be known of the versions that were taken.
        self.warnings: list[str] = []

    def make(self, release: str, facts: dict[str, Any]) -> None:
        """Make a complete release, or nothing.

        Arguments:
            release: its name.
            facts: what its name was made of (``Source.facts``).

        Raises:
            ReleaseError: it cannot be built, or the app cannot be imported from it.
        """
        path = self.store.path(release)
        os.makedirs(self.store.paths.releases, exist_ok=True)
        delete(path)
        try:
            tree, package = self.source.fetch(facts.get("commit"))
            self._install(path, tree, package)
            virtualenv.close(path)
            self.verification.fits(release, f"the release {release}")
            self.verification.run(release)
            manifest = {
                "release": release,
                "built": time.time(),
                "source": self.given["type"],
                **facts,
                **virtualenv.versions(path),
            }
            write_json(f"{path}/{MANIFEST}", manifest)
        except BaseException:
            delete(path)
            raise

    def _install(self, path: str, tree: str | None, package: str | None) -> None:
        """Create the environment and install everything into it."""
        given, installer = self.given, self.installer
        lines = requirement_lines(given, [], package, tree)
        options = ["--requirement", installer.requirements("requirements.txt", lines)]
        if given.get("constraints"):
            constraints = str(given["constraints"]).splitlines()
            options += ["--constraint", installer.requirements("constraints.txt", constraints)]
        if given.get("require_hashes"):
            options.append("--require-hashes")
        if given.get("overrides"):
            overrides = [str(line) for line in given["overrides"]]
            options += ["--override", installer.requirements("overrides.txt", overrides)]
        installer.create(path)
        if lines:
            installer.install(path, options)
        if not given.get("require_hashes"):
            self.add_extra(path, options if lines else [])
        elif package:
            installer.install_alone(path, package)
        if tree and not package:
            self._add_tree(path, tree)

    def add_extra(self, path: str, options: list[str]) -> None:
        """Add the packages that every release gets, in versions that fit the app's own."""
        extra = [str(package) for package in self.request["extra_packages"]]
        if not extra:
            return
        alone = virtualenv.installed(path)
        first: ReleaseError | None = None
        for attempt in resolve.attempts(extra, alone, self.request["broker"]):
            files = ["--requirement", self.installer.requirements("extra.txt", attempt.lines)]
            files += ["--constraint", self.programs.write("held.txt", "\n".join(attempt.constraints) + "\n")]
            try:
                self.installer.install(path, [*options, *files], added=True)
            except ReleaseError as error:
                first = first or error
                if not resolve.contradicts(error.output):
                    raise
                continue
            installed = virtualenv.installed(path)
            if resolve.lacks_redis(attempt, installed):
                continue
            said = resolve.told(attempt, alone, installed, extra)
            if said:
                self.warnings.append(said)
            return
        if first:
            raise first

    def _add_tree(self, path: str, tree: str) -> None:
        """Put a source tree that is no package beside the packages, where Python finds it."""
        target = f"{path}/app"
        shutil.copytree(tree, target, symlinks=True, ignore=shutil.ignore_patterns(".git"))
        for folder, folders, names in os.walk(target):
            for entry in (os.path.join(folder, name) for name in (*folders, *names)):
                if not os.path.islink(entry):
                    os.chown(entry, 0, 0)
                    os.chmod(entry, 0o755 if os.path.isdir(entry) or os.stat(entry).st_mode & 0o111 else 0o644)
        for packages in glob.glob(f"{path}/lib/python3*/site-packages"):
            write(f"{packages}/celeryops_app.pth", f"{target}\n", 0o644)
        command = [f"{path}/bin/python", "-m", "compileall", "-q", target]
        self.programs.run(command, {}, "the source could not be compiled", ignore=True)
