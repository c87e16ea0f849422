# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs packages into the virtual environment of a release, with uv or pip."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.module_utils import paths
from ansible_collections.celeryops.stack.plugins.module_utils.releases import credentials, resolve
from ansible_collections.celeryops.stack.plugins.module_utils.releases.lock import locked
from ansible_collections.celeryops.stack.plugins.module_utils.releases.programs import Programs, ReleaseError
from ansible_collections.celeryops.stack.plugins.module_utils.releases.requirements import index_environment
from ansible_collections.celeryops.stack.plugins.module_utils.releases.store import delete

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.celeryops.stack.plugins.module_utils.releases.request import Request
    from ansible_collections.celeryops.stack.plugins.module_utils.releases.source import Source


class Installer:
    """The installer of one call.

    Arguments:
        request: of the module.
        programs: runs it.
        source: tells it who asks for repositories and indexes.
    """

    def __init__(self, request: Request, programs: Programs, source: Source) -> None:
        self.request = request
        self.programs = programs
        self.source = source
        self.uses_uv = request["installer"] == "uv"
        #: of requirements, with the users and passwords that git is asked for
        self.repositories: list[str] = []

    def requirements(self, name: str, lines: Sequence[str]) -> str:
        """Write a file of requirements, in which no repository has a user, and return its path."""
        lines, repositories = credentials.plain_requirements(lines)
        self.repositories += repositories
        return self.programs.write(name, "\n".join(lines) + "\n")

    def create(self, path: str) -> None:
        """Create the virtual environment."""
        python = str(shutil.which(self.request["python"]) or self.request["python"])
        command = [python, "-m", "venv", path]
        environment = self._environment()
        if self.uses_uv:
            command = [self.uv(), "venv", "--quiet", "--no-project", "--python", python, path]
        self.programs.run(command, environment, f"the environment of {self.request['name']} could not be made")

    def install(self, path: str, options: Sequence[str], *, added: bool = False) -> None:
        """Install into the environment.

        Arguments:
            path: the environment.
            options: of the installer, with the files of requirements.
            added: whether the app's own packages are in already.
        """
        failed = f"the packages of {self.request['name']} could not be installed"
        python = f"{path}/bin/python"
        command = [python, "-m", "pip", "install", "--quiet", *options]
        if self.uses_uv:
            command = [self.uv(), "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *options]
        environment = self._environment()
        try:
            self.programs.run(command, environment, failed)
        except ReleaseError as error:
            way_out = resolve.way_out(error.output, self.request["role"], self.request["installer"], added=added)
            if way_out:
                error.args = (f"{error}\n{way_out[0].upper()}{way_out[1:]}.",)
            raise

    def install_alone(self, path: str, package: str) -> None:
        """Install the app beside its packages, with nothing from an index: not what it needs, nor what builds it."""
        failed = (
            f"{self.request['name']} itself could not be installed; with require_hashes the requirements name what "
            "builds it as well, with its hash"
        )
        alone = ["install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", package]
        python = f"{path}/bin/python"
        if self.uses_uv:
            environment = {"UV_CACHE_DIR": f"{paths.CACHE}/uv", "UV_NO_CONFIG": "1", "UV_NO_PROGRESS": "1"}
            command = [self.uv(), "pip", *alone, "--compile-bytecode", "--python", python]
        else:
            environment = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
            environment["PIP_CACHE_DIR"] = f"{paths.CACHE}/pip"
            command = [python, "-m", "pip", *alone]
        self.programs.run(command, environment, failed)

    def _environment(self) -> dict[str, str]:
        """Return what tells uv or pip where packages are, and git who asks, so that no argument has to."""
        environment = index_environment(self.request["source"])
        if self.repositories:
            environment.update(self.source.git(self.repositories)[1])
        cache = self._cache()
        if self.uses_uv:
            own = {"UV_CACHE_DIR": cache, "UV_NO_CONFIG": "1", "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never"}
            return {**environment, **own}
        own = {"PIP_CACHE_DIR": cache, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
        return self._without_users({**environment, **own})

    def _cache(self) -> str:
        """Return the directory of what was downloaded, which is made for root alone."""
        path = f"{paths.CACHE}/{self.request['installer']}"
        os.makedirs(path, mode=0o700, exist_ok=True)
        return path

    def _without_users(self, environment: dict[str, str]) -> dict[str, str]:
        """Return an environment for pip in which no index has a user: what builds a package would show it in argv."""
        given = {key: str(value) for key, value in self.request["install_environment"].items()}
        try:
            result, text = credentials.for_pip({**given, **environment}, f"{self.programs.work}/netrc")
        except credentials.CredentialError as error:
            raise ReleaseError(f"celery_app_source: {error}") from error
        if text:
            self.programs.write("netrc", text)
        return result

    def uv(self) -> str:
        """Return the path of uv, which is installed once for all apps."""
        uv = f"{paths.UV}/bin/uv"
        if not _runs(uv):
            # Apps that share a machine are built at the same time. No app has a name that begins so.
            with locked(".uv"):
                if not _runs(uv):
                    self._install_uv()
        return uv

    def _install_uv(self) -> None:
        delete(paths.UV)
        failed = "uv could not be installed (celery_app_installer: pip does without it)"
        try:
            # Debian keeps the pip that venv would put into the environment as a wheel, which runs as it is: that
            # saves more than a second. Elsewhere venv brings its own.
            wheels = sorted(glob.glob("/usr/share/python-wheels/pip-*.whl"))
            run = self.programs.run
            run(["python3", "-m", "venv", *(["--without-pip"] if wheels else []), paths.UV], {}, failed)
            pip = [f"{paths.UV}/bin/python", *([f"{wheels[-1]}/pip"] if wheels else ["-m", "pip"])]
            quietly = ["--quiet", "--disable-pip-version-check", "--no-cache-dir"]
            run([*pip, "install", *quietly, self.request["uv_package"]], {}, failed)
        except BaseException:
            delete(paths.UV)
            raise


def _runs(uv: str) -> bool:
    try:
        # pylint: disable-next=ansible-bad-function
        return subprocess.run([uv, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False
