# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source of a release: an index, a wheel, a directory of the control machine, a git repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.releases import credentials
from ansible_collections.celeryops.stack.plugins.module_utils.releases.identity import is_commit
from ansible_collections.celeryops.stack.plugins.module_utils.releases.programs import Programs, ReleaseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.celeryops.stack.plugins.module_utils.releases.request import Request


class Source:
    """The source of a release (``celery_app_source``).

    Arguments:
        request: of the module.
        programs: runs git.
        check_mode: whether what is not on the host yet is no error.
    """

    def __init__(self, request: Request, programs: Programs, *, check_mode: bool = False) -> None:
        self.request = request
        self.given = request["source"]
        self.programs = programs
        self.check_mode = check_mode

    def facts(self) -> dict[str, Any]:
        """Return what beside the source itself decides the content of a release (``identity.release_id``)."""
        facts: dict[str, Any] = {
            "machine": os.uname().machine,
            "extra_packages": self.request["extra_packages"],
            "python": self._python_version(),
            "content": self.request["content"],
        }
        if self.given["type"] == "git":
            facts["commit"] = self._commit()
        return facts

    def _python_version(self) -> str | None:
        """Return major.minor: a security update of the interpreter is taken over by the links of the environment."""
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        try:
            # pylint: disable-next=ansible-bad-function
            return subprocess.run(
                [self.request["python"], "-c", code], capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError) as error:
            if self.check_mode:
                return None
            raise ReleaseError(
                f"celery_app_python: {self.request['python']} cannot be run on the host: {error}"
            ) from error

    def _commit(self) -> str | None:
        version = str(self.given["version"])
        if is_commit(version):
            return version
        if self.check_mode and not shutil.which("git"):
            return None
        repository, environment = self.git()
        listing = self.programs.run(["git", "ls-remote", "--", repository], environment, f"cannot read {repository}")
        commit = pick_commit(listing, version)
        if commit is None:
            raise ReleaseError(f"celery_app_source.version: {repository} has neither a tag nor a branch {version}")
        return commit

    def fetch(self, commit: str | None) -> tuple[str | None, str | None]:
        """Return where the source tree is, and what of it is to be installed as a package.

        Arguments:
            commit: of a repository.
        """
        kind, work = self.given["type"], self.programs.work
        if kind == "wheel":
            # Installers read the package's name from the file's name.
            wheel = f"{work}/{os.path.basename(str(self.given['path']))}"
            shutil.copyfile(str(self.request["archive"]), wheel)
            return None, wheel
        if kind == "pip":
            return None, None
        checkout = f"{work}/source"
        if kind == "path":
            self._unpack(checkout)
        else:
            self._clone(checkout, str(commit))
        tree = os.path.join(checkout, str(self.given.get("subdirectory") or "")).rstrip("/")
        if not os.path.isdir(tree):
            raise ReleaseError(
                f"celery_app_source.subdirectory: the source has no directory {self.given['subdirectory']}"
            )
        wanted = self.given.get("requirements_file")
        if wanted and not os.path.isfile(f"{tree}/{wanted}"):
            raise ReleaseError(f"celery_app_source.requirements_file: the source has no file {wanted}")
        install_as = self.given.get("install_as") or "auto"
        return tree, tree if (is_package(tree) if install_as == "auto" else install_as == "package") else None

    def _unpack(self, checkout: str) -> None:
        with tarfile.open(str(self.request["archive"])) as archive:
            if hasattr(tarfile, "data_filter"):
                archive.extractall(checkout, filter="data")
            else:
                archive.extractall(checkout)  # noqa: S202 - made by this collection from the user's own files

    def _clone(self, checkout: str, commit: str) -> None:
        repository, environment = self.git()
        self.programs.run(
            ["git", "clone", "--quiet", "--no-checkout", "--", repository, checkout],
            environment,
            f"cannot clone {repository}",
        )
        for command in (
            ["git", "-C", checkout, "checkout", "--quiet", "--detach", commit],
            ["git", "-C", checkout, "submodule", "--quiet", "update", "--init", "--recursive"],
        ):
            self.programs.run(command, environment, f"cannot check out {self.given['version']} of {repository}")

    def git(self, urls: Sequence[str] = ()) -> tuple[str, dict[str, str]]:
        """Return the repository without credentials, and the environment that lets git reach it and ``urls``."""
        repository = str(self.given.get("repo") or "")
        helper = f"{self.programs.work}/git-credential"
        given = self.request["install_environment"]
        others = [str(given["GIT_CONFIG_GLOBAL"])] if given.get("GIT_CONFIG_GLOBAL") else []
        if not others and given.get("HOME"):
            others = [f"{given['HOME']}/.gitconfig"]
        try:
            text, environment = credentials.for_git([repository, *urls], helper, others)
            repository, _account = credentials.plain(repository)
        except credentials.CredentialError as error:
            raise ReleaseError(f"celery_app_source: {error}") from error
        environment["GIT_TERMINAL_PROMPT"] = "0"
        if text:
            self.programs.write(os.path.basename(helper), credentials.HELPER)
            # Not by GIT_CONFIG_COUNT, which git does not hand on to submodules (environment.c, local_repo_env, 2.47).
            environment["GIT_CONFIG_GLOBAL"] = self.programs.write("gitconfig", text)
        known = str(self.given.get("known_hosts") or "")
        known_hosts = self.programs.write("known_hosts", f"{known.rstrip()}\n")
        ssh = ["ssh", "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={known_hosts}"]
        ssh += ["-o", "StrictHostKeyChecking=" + ("yes" if known else "accept-new")]
        if self.given.get("deploy_key"):
            key = self.programs.write("deploy_key", str(self.given["deploy_key"]).rstrip() + "\n")
            ssh += ["-o", "IdentitiesOnly=yes", "-i", key]
        environment["GIT_SSH_COMMAND"] = " ".join(ssh)
        if given.get("SSL_CERT_FILE"):
            environment["GIT_SSL_CAINFO"] = str(given["SSL_CERT_FILE"])
        return repository, environment


def pick_commit(listing: str, version: str) -> str | None:
    """Return the commit that ``version`` names in the output of ``git ls-remote``.

    A tag wins over a branch of the same name, as in git itself; an annotated tag stands for the commit it points to.
    """
    refs = {}
    for line in listing.splitlines():
        commit, _tab, ref = line.partition("\t")
        refs[ref.strip()] = commit.strip()
    for ref in (f"refs/tags/{version}^{{}}", f"refs/tags/{version}", f"refs/heads/{version}", version):
        if ref in refs:
            return refs[ref]
    return None


def is_package(tree: str) -> bool:
    """Return whether pip could build ``tree``; a pyproject.toml may hold nothing but the settings of tools."""
    if os.path.isfile(f"{tree}/setup.py"):
        return True
    try:
        with open(f"{tree}/pyproject.toml", encoding="utf-8") as stream:
            return any(line.strip() in ("[project]", "[build-system]") for line in stream)
    except OSError:
        return False
