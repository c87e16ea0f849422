# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Places files, directories and links: all new contents are written and validated before the first is replaced.

Runs on managed hosts.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import shutil
import stat
import tempfile
import time
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils import placed, server_contents
from ansible_collections.celeryops.stack.plugins.module_utils.account import group_name
from ansible_collections.celeryops.stack.plugins.module_utils.environment_file import parse_environment
from ansible_collections.celeryops.stack.plugins.module_utils.file_changes import Changes
from ansible_collections.celeryops.stack.plugins.module_utils.file_owners import Owners
from ansible_collections.celeryops.stack.plugins.module_utils.masking import secrets_of, tail
from ansible_collections.celeryops.stack.plugins.module_utils.secret_files import secrets_placed
from ansible_collections.celeryops.stack.plugins.module_utils.systemd import is_file_of
from ansible_collections.celeryops.stack.plugins.module_utils.text_files import text_of

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


#: In a command that validates: all new files that have this command.
ALL = "%*"


class Placer:
    """Compares and places entries; writes nothing in check mode.

    Arguments:
        module: has the arguments, and fails.
        check_mode: whether nothing is to be written although the module may.
    """

    def __init__(self, module: AnsibleModule, *, check_mode: bool = False) -> None:
        self.module = module
        self.check_mode = check_mode or bool(module.check_mode)
        self.changes = Changes()
        self.owners = Owners(str(module.params.get("record") or ""), check_mode=self.check_mode)
        #: (temporary path, entry) of contents that wait until all were validated
        self.staged: list[tuple[str, dict[str, Any]]] = []
        #: What does not belong into a tree any more, and goes once all that belongs there has come.
        self.surplus: list[str] = []
        #: What servers hold, by unit.
        self.held: dict[str, Any] = {}

    def run(self, entries: list[dict[str, Any]]) -> None:
        """Place all ``entries``; the contents last, and only when every one of them is valid."""
        try:
            for entry in entries:
                getattr(self, "_" + entry["state"])(entry)
            self._validate()
            self._ask_servers()
            for temporary, entry in self.staged:
                if entry["backup"] and os.path.lexists(entry["path"]):
                    shutil.copy2(entry["path"], f"{entry['path']}.{time.strftime('%Y-%m-%d@%H:%M:%S')}~")
                self.owners.keep(entry["path"], _mode(entry))
                os.replace(temporary, entry["path"])
            for path in self.surplus:
                os.unlink(path)
            self.owners.save()
        except OSError as error:
            self.module.fail_json(
                msg=f"{error.filename or 'files'}: {error.strerror}", changed_paths=self.changes.paths
            )
        finally:
            for temporary, _entry in self.staged:
                if os.path.lexists(temporary):
                    os.unlink(temporary)

    def _file(self, entry: dict[str, Any]) -> None:
        path = entry["path"]
        status = _lstat(path)
        if status and stat.S_ISDIR(status.st_mode):
            self.module.fail_json(msg=f"{path} is a directory where a file belongs")
        secret = entry["secret_content"] is not None
        content = entry["secret_content"] if secret else entry["content"]
        exists = status is not None and stat.S_ISREG(status.st_mode)
        if content is None and not exists:
            self.module.fail_json(msg=f"{path} is not there and no content was given for it")
        wanted = None if content is None or (exists and entry["create_only"]) else content.encode()
        current = _read(path) if exists else None
        led_to = _read(path) if status and not exists and os.path.isfile(path) else current
        self.owners.look(entry, current, led_to, wanted)
        if wanted is None or wanted == current:
            self._attributes(entry, status)
            return
        self.changes.note_content(path, current, wanted, tree=entry.get("part_of") or "", secret=secret)
        if not self.check_mode:
            self._stage(entry, wanted)

    def _ask_servers(self) -> None:
        """Note what the servers hold that have to be restarted for what is about to be replaced."""
        paths = {entry["path"] for _temporary, entry in self.staged}
        read_by = {unit["name"]: set(unit["restart_on"]) for unit in self.module.params.get("units") or []}
        for server in self.module.params.get("servers") or []:
            unit = server["unit"]
            if paths & read_by.get(unit, set()) or any(is_file_of(unit, path) for path in paths):
                self.held[unit] = server_contents.contents(
                    server, lambda command: str(self.module.run_command(list(command))[1])
                )

    def _stage(self, entry: dict[str, Any], content: bytes) -> None:
        """Write ``content`` beside its target, with its final owner and mode."""
        path = entry["path"]
        folder, name = os.path.split(path)
        stem, suffix = os.path.splitext(name)
        handle, temporary = tempfile.mkstemp(prefix=f".{stem}-", suffix=suffix, dir=folder)
        self.staged.append((temporary, entry))
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.chown(temporary, *self._ids(entry))
        os.chmod(temporary, _mode(entry))

    def _validate(self) -> None:
        """Run the commands that say whether contents are valid: each once, or once for all of its files."""
        groups: dict[tuple[Any, ...], list[tuple[str, dict[str, Any]]]] = {}
        for number, (temporary, entry) in enumerate(self.staged):
            if entry["validate"]:
                alone = () if ALL in shlex.split(entry["validate"]) else (number,)
                key = (entry["validate"], entry.get("environment_file") or "", *alone)
                groups.setdefault(key, []).append((temporary, entry))
        for (command, environment_file, *_alone), files in groups.items():
            self._run_validation(command, environment_file, files)

    def _run_validation(self, command: str, environment_file: str, files: list[tuple[str, dict[str, Any]]]) -> None:
        temporaries = [temporary for temporary, _entry in files]
        words: list[str] = []
        for word in shlex.split(command):
            words += temporaries if word == ALL else [word.replace("%s", temporaries[0])]
        code, output, errors = self.module.run_command(words)
        if code == 0:
            return
        # The command may import an app, whose error names what it was given.
        secrets = secrets_of(parse_environment(text_of(environment_file)))
        if environment_file:
            # Beside it is the record of the files that the app reads as well.
            secrets += secrets_placed(f"{os.path.dirname(environment_file)}/{placed.NAME}")
        said = errors.strip() or output.strip()
        for temporary, entry in files:
            said = said.replace(temporary, entry["path"])
        paths = ", ".join(entry["path"] for _temporary, entry in files)
        self.module.fail_json(
            msg=f"{paths}: the new content is not valid, the old one stays in place: {tail(said, secrets)}", rc=code
        )

    def _directory(self, entry: dict[str, Any]) -> None:
        path = entry["path"]
        status = _lstat(path)
        if status and not stat.S_ISDIR(status.st_mode):
            self.module.fail_json(msg=f"{path} is in the way of a directory")
        if status is None:
            self.changes.note(path, "", "directory\n")
            if not self.check_mode:
                os.makedirs(path, exist_ok=True)
                os.chown(path, *self._ids(entry))
                os.chmod(path, _mode(entry))
            return
        self._attributes(entry, status)

    def _link(self, entry: dict[str, Any]) -> None:
        path, target = entry["path"], entry["target"]
        status = _lstat(path)
        if status and not stat.S_ISLNK(status.st_mode):
            self.module.fail_json(msg=f"{path} is in the way of a link")
        current = os.readlink(path) if status else None
        if current == target:
            return
        self.changes.note(path, f"-> {current}\n" if current else "", f"-> {target}\n")
        if not self.check_mode:
            # A link cannot be made through an open file; in a directory of its own no name is taken.
            with tempfile.TemporaryDirectory(prefix=f".{os.path.basename(path)}-", dir=os.path.dirname(path)) as folder:
                os.symlink(target, f"{folder}/link")
                os.replace(f"{folder}/link", path)

    def _absent(self, entry: dict[str, Any]) -> None:
        path = entry["path"]
        status = _lstat(path)
        if status is None:
            return
        self.changes.note(path, "present\n", "")
        if not self.check_mode:
            if stat.S_ISDIR(status.st_mode):
                shutil.rmtree(path)
            else:
                os.unlink(path)

    def _only(self, entry: dict[str, Any]) -> None:
        """Remove the files of a tree that are not in ``keep``; compiled Python belongs to whoever runs it."""
        keep = set(entry["keep"] or [])
        for folder, folders, names in os.walk(entry["path"]):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for name in names:
                path = os.path.join(folder, name)
                if os.path.relpath(path, entry["path"]) not in keep and path not in dict(self.staged):
                    self.changes.note_part(entry["path"], path, _read(path) if os.path.isfile(path) else b"", None)
                    if not self.check_mode:
                        self.surplus.append(path)

    def _attributes(self, entry: dict[str, Any], status: os.stat_result | None) -> None:
        """Set owner, group and mode where they differ."""
        path = entry["path"]
        owner, group = self._ids(entry)
        mode = _mode(entry)
        if status is None or (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (owner, group, mode):
            return
        before = f"{_user(status.st_uid)}:{group_name(status.st_gid)} {stat.S_IMODE(status.st_mode):04o}\n"
        self.changes.note(path, before, f"{entry['owner']}:{entry['group']} {mode:04o}\n")
        if not self.check_mode:
            os.chown(path, owner, group)
            os.chmod(path, mode)

    def _ids(self, entry: dict[str, Any]) -> tuple[int, int]:
        """Return uid and gid; in check mode an account that an earlier task would create is (-1, -1)."""
        try:
            return pwd.getpwnam(entry["owner"]).pw_uid, grp.getgrnam(entry["group"]).gr_gid
        except KeyError as error:
            if self.check_mode:
                return -1, -1
            self.module.fail_json(msg=f"{entry['path']}: {error.args[0]}")
            raise


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


def _mode(entry: dict[str, Any]) -> int:
    return int(entry["mode"] or ("0755" if entry["state"] == "directory" else "0644"), 8)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
