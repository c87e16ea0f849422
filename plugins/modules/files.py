# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: files
short_description: FilePath all of a role's files, directories and links in one remote call
version_added: 0.1.0
description:
  - Templates are rendered on the control machine and see only the variables named here.
  - All new contents are written beside their targets and validated first; then each replaces its target atomically.
    When one fails its validation, none is replaced.
  - Contents marked as secret appear in no output and no diff.
  - A file that somebody else wrote is kept beside itself, once, before it is replaced, as C(<path>.before-celeryops~)
    with its owner and no wider mode, and a warning says so. What this collection wrote is told by its first lines, by
    its name or by a record on the host (C(/var/lib/celeryops/.placed)).
  - With O(units) it looks at the units that read the files as well, in the same call, and tells whether they are as
    they should be. It changes no unit; a task with M(celeryops.stack.units) does that, unless all is settled.
extends_documentation_fragment: [celeryops.stack.servers]
options:
  files:
    description: What to place, in this order.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path on the host. With O(files[].each), C(${key}) stands for a key of the current element.
        type: str
        required: true
      state:
        description: What the path is to be. V(only) is used internally for O(files[].tree).
        type: str
        choices: [file, directory, link, absent, only]
        default: file
      template:
        description: A Jinja2 template below the role's C(templates/).
        type: str
      vars:
        description: The variables that the template sees.
        type: dict
      each:
        description: Renders O(files[].template) once for each of these dictionaries, whose keys are variables as well.
        type: list
        elements: dict
      tree:
        description: A directory below the role's C(files/), placed inside O(files[].path) with all of its text files.
        type: str
      content:
        description: The content itself.
        type: str
      secret_content:
        description: Internal; the content of a file with O(files[].secret).
        type: str
      secret:
        description: Whether the content must not be shown.
        type: bool
        default: false
      owner:
        description: The owning user.
        type: str
        default: root
      group:
        description: The owning group.
        type: str
        default: root
      mode:
        description: Octal permissions; C(0644), and C(0755) for a directory, unless given.
        type: str
      target:
        description: Where a link leads.
        type: str
      validate:
        description: A command that must succeed for the new content; C(%s) stands for its temporary path.
        type: str
      environment_file:
        description: A file of variables that the command is given; its secrets are not shown when it fails.
        type: path
      create_only:
        description: Leave the content of a file that exists as it is.
        type: bool
        default: false
      backup:
        description: Keep a copy of a replaced file beside it.
        type: bool
        default: false
      pristine:
        description: A regular expression for contents that a package makes by itself, of which no copy is kept.
        type: str
      src:
        description: The content as a file on the control machine, its path from the inventory unless absolute.
        type: str
      own:
        description: Whether it is a file of the app's own, and so part of O(record).
        type: bool
        default: false
      keep:
        description: Internal; the relative names that belong into a tree.
        type: list
        elements: str
      part_of:
        description: Internal; the tree that a file belongs to. A diff has its name and a digest, not its text.
        type: str
  record:
    description:
      - Where the files with O(files[].own) are noted. One that was noted and is among them no more stays where it is,
        and a warning says so once. M(celeryops.stack.remove) removes those that hold what was placed.
    type: path
  units:
    description: The units that read the files, to be looked at only. The same as in M(celeryops.stack.units).
    type: list
    elements: dict
  servers:
    description:
      - The servers among O(units). What one of them holds is asked before a file that makes it restart is replaced,
        while it still answers to what it was started with.
  prune:
    description: Unit files that should not be there. The same as in M(celeryops.stack.units).
    type: dict
attributes:
  check_mode:
    description: Says what would change; validation commands do not run.
    support: full
  diff_mode:
    description:
      - Shows the difference of contents that are not secret, and of owners and modes.
      - Of a tree, which is code and nothing that a person decides on, it shows the version and the names of the files.
    support: full
author: celeryops.stack contributors
"""

EXAMPLES = r"""
- name: FilePath the configuration
  celeryops.stack.files:
    files:
      - {path: /etc/shop, state: directory}
      - {path: /etc/shop/shop.conf, template: shop.conf.j2, vars: {port: 8080}}
      - {path: /etc/shop/token, content: "{{ shop_token }}", secret: true, mode: "0600"}
  register: __shop_files
"""

RETURN = r"""
changed_paths:
  description: The paths that were changed, or would be in check mode.
  type: list
  elements: str
  returned: success
kept:
  description: The paths of the copies that were kept of files which somebody else wrote, or would be in check mode.
  type: list
  elements: str
  returned: success
left:
  description: The files of O(record) that are among O(files) no more, since this run.
  type: list
  elements: str
  returned: with O(record)
held:
  description: What a server of O(servers) held before a file of its was replaced, by its unit.
  type: dict
  returned: success
settled:
  description: Whether M(celeryops.stack.units) would have nothing to do.
  type: bool
  returned: when O(units) were given
"""

import grp
import hashlib
import os
import pwd
import re
import shlex
import shutil
import stat
import tempfile
import time
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils import foreign, placed, server_contents
from ansible_collections.celeryops.stack.plugins.module_utils.environment_file import parse_environment
from ansible_collections.celeryops.stack.plugins.module_utils.look import OPTIONS, look
from ansible_collections.celeryops.stack.plugins.module_utils.masking import secrets_of, tail
from ansible_collections.celeryops.stack.plugins.module_utils.quiet_module import QuietModule
from ansible_collections.celeryops.stack.plugins.module_utils.secret_files import secrets_placed
from ansible_collections.celeryops.stack.plugins.module_utils.systemd import is_file_of

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

_VERSION = re.compile(rb"^__version__ = [\"']([\w.+-]+)[\"']", re.MULTILINE)
_HIDDEN = "(secret content, not shown)\n"


class Placer:
    """Compares and places entries; writes nothing in check mode."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.changed_paths: list[str] = []
        self.diff: list[dict[str, str]] = []
        #: tree -> its entry in the diff
        self.trees: dict[str, dict[str, str]] = {}
        #: (temporary path, entry) of contents that wait until all were validated
        self.staged: list[tuple[str, dict[str, Any]]] = []
        self.recorded = foreign.recorded()
        #: Paths of this collection that only the record tells, and that it does not have yet.
        self.unrecorded: list[str] = []
        #: Contents of files that somebody else wrote, by path; and where their copies are.
        self.foreign: dict[str, bytes] = {}
        self.kept: list[str] = []
        #: What servers hold, by unit.
        self.held: dict[str, Any] = {}
        #: Contents of the app's own files, by path.
        self.own: dict[str, bytes] = {}
        #: Those of them that somebody else has put there, as they are to be.
        self.found: set[str] = set()
        #: What is noted of them.
        self.noted = placed.read(module.params["record"]) if module.params.get("record") else {}

    def run(self, entries: list[dict[str, Any]]) -> None:
        """FilePath all ``entries``; the contents last, and only when every one of them is valid."""
        try:
            for entry in entries:
                getattr(self, "_" + entry["state"])(entry)
            self._ask_servers()
            for temporary, entry in self.staged:
                if entry["backup"] and os.path.lexists(entry["path"]):
                    shutil.copy2(entry["path"], f"{entry['path']}.{time.strftime('%Y-%m-%d@%H:%M:%S')}~")
                if entry["path"] in self.foreign:
                    self._keep(entry)
                os.replace(temporary, entry["path"])
            if not self.module.check_mode:
                foreign.record(self.unrecorded)
        except OSError as error:
            self.module.fail_json(
                msg=f"{error.filename or 'files'}: {error.strerror}", changed_paths=self.changed_paths
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
        if entry.get("own") and wanted is not None:
            self.own[path] = wanted
        current = _read(path) if exists else None
        if entry.get("own") and current == wanted and self.noted.get(path, {"found": True}).get("found"):
            self.found.add(path)
        # A link is replaced, and what it led to is not used any more.
        self._tell_apart(entry, _read(path) if status and not exists and os.path.isfile(path) else current, wanted)
        if wanted is None or wanted == current:
            self._attributes(entry, status)
            return
        if entry.get("part_of"):
            self._note_part(entry["part_of"], path, current, wanted)
        else:
            self._note(path, "" if secret else _text(current), "" if secret else _text(wanted), secret=secret)
        if not self.module.check_mode:
            self._stage(entry, wanted)

    def _tell_apart(self, entry: dict[str, Any], current: bytes | None, wanted: bytes | None) -> None:
        """Note whether a file that is to be replaced is somebody else's, and what will have to be told as our own."""
        path = entry["path"]
        if wanted is None:
            return
        if entry.get("own"):
            # Of the app's own files it is known what was placed: anything else is somebody's, by whatever name.
            known = self.noted.get(path, {})
            if current and current != wanted and (known.get("found") or placed.digest(current) != known.get("sha256")):
                self._note_foreign(path, current)
            return
        if current not in (None, wanted) and foreign.is_foreign(
            path, current or b"", self.recorded, entry["pristine"] or ""
        ):
            self._note_foreign(path, current or b"")
        if foreign.needs_record(path, wanted) and path not in self.recorded:
            self.unrecorded.append(path)

    def _note_foreign(self, path: str, content: bytes) -> None:
        self.foreign[path] = content
        if self.module.check_mode and not os.path.lexists(path + foreign.SUFFIX):
            self.kept.append(path + foreign.SUFFIX)

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

    def _keep(self, entry: dict[str, Any]) -> None:
        kept = foreign.keep(entry["path"], self.foreign[entry["path"]], _mode(entry))
        if kept:
            self.kept.append(kept)

    def _stage(self, entry: dict[str, Any], content: bytes) -> None:
        """Write ``content`` beside its target, with its final owner and mode, and validate it there."""
        path = entry["path"]
        folder, name = os.path.split(path)
        stem, suffix = os.path.splitext(name)
        handle, temporary = tempfile.mkstemp(prefix=f".{stem}-", suffix=suffix, dir=folder)
        self.staged.append((temporary, entry))
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.chown(temporary, *self._ids(entry))
        os.chmod(temporary, _mode(entry))
        if entry["validate"]:
            command = [word.replace("%s", temporary) for word in shlex.split(entry["validate"])]
            code, output, errors = self.module.run_command(command)
            if code != 0:
                # The command may import an app, whose error names what it was given.
                secrets = secrets_of(_environment(entry.get("environment_file")))
                if entry.get("environment_file"):
                    # Beside it is the record of the files that the app reads as well.
                    secrets += secrets_placed(f"{os.path.dirname(entry['environment_file'])}/{placed.NAME}")
                said = tail((errors.strip() or output.strip()).replace(temporary, path), secrets)
                self.module.fail_json(
                    msg=f"{path}: the new content is not valid, the old one stays in place: {said}", rc=code
                )

    def note_own(self, path: str) -> list[str]:
        """Write the record of the app's own files, and return those that have left it."""
        after, gone = placed.updated(self.noted, self.own, self.found)
        if after != self.noted and not self.module.check_mode:
            placed.write(path, after)
        return [name for name in gone if os.path.lexists(name)]

    def _directory(self, entry: dict[str, Any]) -> None:
        path = entry["path"]
        status = _lstat(path)
        if status and not stat.S_ISDIR(status.st_mode):
            self.module.fail_json(msg=f"{path} is in the way of a directory")
        if status is None:
            self._note(path, "", "directory\n")
            if not self.module.check_mode:
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
        self._note(path, f"-> {current}\n" if current else "", f"-> {target}\n")
        if not self.module.check_mode:
            temporary = tempfile.mktemp(prefix=f".{os.path.basename(path)}-", dir=os.path.dirname(path))  # noqa: S306 - a link cannot be made through an open file, and a taken name is an error
            os.symlink(target, temporary)
            os.replace(temporary, path)

    def _absent(self, entry: dict[str, Any]) -> None:
        path = entry["path"]
        status = _lstat(path)
        if status is None:
            return
        self._note(path, "present\n", "")
        if not self.module.check_mode:
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
                    self._note_part(entry["path"], path, _read(path) if os.path.isfile(path) else b"", None)
                    if not self.module.check_mode:
                        os.unlink(path)

    def _attributes(self, entry: dict[str, Any], status: os.stat_result | None) -> None:
        """Set owner, group and mode where they differ."""
        path = entry["path"]
        owner, group = self._ids(entry)
        mode = _mode(entry)
        if status is None or (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (owner, group, mode):
            return
        before = f"{_user(status.st_uid)}:{_group(status.st_gid)} {stat.S_IMODE(status.st_mode):04o}\n"
        self._note(path, before, f"{entry['owner']}:{entry['group']} {mode:04o}\n")
        if not self.module.check_mode:
            os.chown(path, owner, group)
            os.chmod(path, mode)

    def _ids(self, entry: dict[str, Any]) -> tuple[int, int]:
        """Return uid and gid; in check mode an account that an earlier task would create is (-1, -1)."""
        try:
            return pwd.getpwnam(entry["owner"]).pw_uid, grp.getgrnam(entry["group"]).gr_gid
        except KeyError as error:
            if self.module.check_mode:
                return -1, -1
            self.module.fail_json(msg=f"{entry['path']}: {error.args[0]}")
            raise

    def _note_part(self, tree: str, path: str, before: bytes | None, after: bytes | None) -> None:
        """Note a file of a tree by its name; None is for one that is not there."""
        self.changed_paths.append(path)
        if tree not in self.trees:
            self.trees[tree] = {"before_header": tree, "after_header": tree, "before": "", "after": ""}
            self.diff.append(self.trees[tree])
        for side, content in (("before", before), ("after", after)):
            if content is not None:
                self.trees[tree][side] += f"{os.path.relpath(path, tree)} {_summary(content)}\n"

    def _note(self, path: str, before: str, after: str, *, secret: bool = False) -> None:
        self.changed_paths.append(path)
        if secret:
            before, after = f"old {_HIDDEN}", f"new {_HIDDEN}"
        self.diff.append({"before_header": path, "after_header": path, "before": before, "after": after})


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


def _environment(path: str | None) -> dict[str, str]:
    """Return the variables of an environment file; none of one that is not there yet."""
    try:
        return parse_environment(_read(path).decode("utf-8", errors="replace")) if path else {}
    except OSError:
        return {}


def _text(content: bytes | None) -> str:
    return "" if content is None else content.decode("utf-8", errors="replace")


def _summary(content: bytes) -> str:
    """Return what tells one content of a file from another: its version, where it names one, and a digest."""
    version = _VERSION.search(content)
    digest = hashlib.sha256(content).hexdigest()[:12]
    return f"(version {version[1].decode()}, {digest})" if version else f"({digest})"


def _mode(entry: dict[str, Any]) -> int:
    return int(entry["mode"] or ("0755" if entry["state"] == "directory" else "0644"), 8)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def main() -> None:
    """Run the module."""
    module = QuietModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "str", "required": True},
                    "state": {
                        "type": "str",
                        "choices": ["file", "directory", "link", "absent", "only"],
                        "default": "file",
                    },
                    "content": {"type": "str"},
                    "secret_content": {"type": "str", "no_log": True},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "mode": {"type": "str"},
                    "target": {"type": "str"},
                    "validate": {"type": "str"},
                    "environment_file": {"type": "path"},
                    "create_only": {"type": "bool", "default": False},
                    "backup": {"type": "bool", "default": False},
                    "pristine": {"type": "str"},
                    "keep": {"type": "list", "elements": "str", "no_log": False},
                    "part_of": {"type": "str"},
                    "own": {"type": "bool", "default": False},
                },
            },
            "record": {"type": "path"},
            "units": OPTIONS["units"],
            "servers": server_contents.OPTION,
            "prune": OPTIONS["prune"],
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    placer = Placer(module)
    placer.run(module.params["files"])
    result: dict[str, Any] = {"changed_paths": placer.changed_paths, "kept": placer.kept, "diff": placer.diff}
    result["held"] = placer.held
    if placer.kept:
        names = ", ".join(path[: -len(foreign.SUFFIX)] for path in placer.kept)
        module.warn(f"not written by celeryops.stack and replaced, with a copy beside it ({foreign.SUFFIX}): {names}")
    if module.params["record"]:
        result["left"] = placer.note_own(module.params["record"])
        if result["left"]:
            module.warn(
                f"celery_app_files does not have {', '.join(result['left'])} any more; what was placed there stays, "
                "since the app may still read it: remove it by hand, or put it back into celery_app_files"
            )
    if module.params["units"] is not None:
        outlook = look(module, module.params["units"], module.params["prune"], placer.changed_paths)
        result["settled"] = outlook.settled
    module.exit_json(changed=bool(placer.changed_paths), **result)


if __name__ == "__main__":
    main()
