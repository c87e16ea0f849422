# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""Runs a program of an app as its account, with an environment and files that are not in use yet.

Runs on managed hosts, so it keeps to Python 3.9.
"""

from __future__ import annotations

import contextlib
import ctypes
import grp
import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from ansible_collections.celeryops.stack.plugins.module_utils import masking, placed
from ansible_collections.celeryops.stack.plugins.module_utils.account import group_ids
from ansible_collections.celeryops.stack.plugins.module_utils.lock import held_back

#: Where what is tried lies, for as long as it is: in memory, in a directory that only root and the app may enter.
PLACE = "/run"
#: What is said of a file of the app's own beside its content.
ACCESS = ("owner", "group", "mode")
#: A text that no program would have by accident.
_MIXED = re.compile(r"(?=.*\d)(?=.*\D)[^/\s]\S{7,}")
#: A line of code, which is looked at for what it assigns. A secret may end in "=", or have one in it.
_ASSIGNED = re.compile(r"\w+ += +\S")
#: CLONE_NEWNS of unshare(2); MS_REC with MS_PRIVATE, and MS_BIND, of mount(2).
_NEW_MOUNTS, _PRIVATE, _BIND = 0x20000, 0x4000 | 0x40000, 0x1000
#: Below what is staged, the files of the app's own: no variable leads there, as they are seen in their places.
OWN = "/own"
#: Variables that lead to files of the shared configuration; what stands there is a path, or several behind colons.
LEADING = ("CELERYOPS_CONFIG", "PYTHONPATH")
#: Imports the app the way "celery -A" does, with all of its task modules, and looks up what a worker, beat and a sender
#: take from the settings before they connect to anything.
CHECK = """
import json, logging, ssl, sys
from celery.app.utils import find_app
app = find_app(sys.argv[1])
app.loader.import_default_modules()
app.finalize()
if not getattr(app.loader, "in_force", True):
    raise SystemExit("the shared configuration could not be put into force in this app")
tasks = sorted(name for name in app.tasks if not name.startswith(("celery.", "celeryops.")))
loader = app.loader_cls if isinstance(app.loader_cls, str) else app.loader_cls.__name__
from celery.utils.imports import load_extension_class_names, symbol_by_name
conf = app.conf
try:
    step = "timezone"
    app.timezone
    step = "task_annotations"
    app.annotations
    step = "the queues and routes"
    app.amqp.queues, app.amqp.router
    step = "the broker's transport"
    app.connection_for_write(), app.connection_for_read()
    step = "the result backend"
    app.backend
    for what, options in (
        ("the broker with TLS", app.connection_for_write().ssl),
        ("the result backend with TLS", getattr(app.backend, "connparams", None)),
    ):
        options = options if isinstance(options, dict) else {}
        files = {key[4:] if key.startswith("ssl_") else key: value for key, value in options.items()}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for name in ("ca_certs", "keyfile", "certfile"):
            if files.get(name):
                step = "%s, %s" % (what, files[name])
                open(files[name], "rb").close()
                if name == "ca_certs":
                    context.load_verify_locations(files[name])
                elif name == "certfile":
                    # Without a password OpenSSL would ask for it, and there is nobody to ask.
                    context.load_cert_chain(files[name], files.get("keyfile"), options.get("ssl_password") or "")
    for step in ("worker_consumer", "worker_autoscaler", "worker_timer", "beat_scheduler", "task_cls"):
        value = conf.get(step)
        if isinstance(value, str) and value:
            names = dict(load_extension_class_names("celery.beat_schedulers")) if step == "beat_scheduler" else {}
            symbol_by_name(value, aliases=names)
    for step in ("worker_log_format", "worker_task_log_format"):
        logging.Formatter(conf.get(step))
except Exception as error:
    raise RuntimeError("a worker cannot use %s: %s: %s" % (step, type(error).__name__, error)) from error
own = getattr(app.loader, "own_report", dict)()
print("\\n" + json.dumps({"celeryops": {"tasks": tasks, "loader": loader, **own}}))
"""


@dataclass(frozen=True)
class Account:
    """An account with the groups that a unit's process gets as well."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def account_of(user: str) -> Account:
    """Return an account by its name.

    Raises:
        KeyError: when there is none.
    """
    entry = pwd.getpwnam(user)
    return Account(user, entry.pw_uid, entry.pw_gid, tuple(group_ids(user, entry.pw_gid)), entry.pw_dir)


def environment_of(account: Account, release: str, variables: Mapping[str, Any]) -> dict[str, str]:
    """Return the whole environment of a program of a release.

    Arguments:
        account: who it runs as.
        release: path of the virtual environment, whose programs come first.
        variables: the app's own.
    """
    return {
        "PATH": f"{release}/bin:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": account.home,
        "USER": account.name, **{key: str(value) for key, value in variables.items()},
    }  # fmt: skip


def digest(variables: Mapping[str, Any], files: Sequence[Mapping[str, Any]]) -> str:
    """Return one digest of an environment and of the files that go with it.

    Arguments:
        variables: name -> value.
        files: ``path`` and ``sha256`` of each; of the app's own, what ``ACCESS`` names as well.
    """
    kept = [[entry["path"], entry["sha256"], *(entry[key] for key in ACCESS if key in entry)] for entry in files]
    described = [sorted((name, str(value)) for name, value in variables.items()), sorted(kept)]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


@contextlib.contextmanager
def staged(files: Sequence[Mapping[str, Any]], gid: int) -> Iterator[str]:
    """Lay files below a directory of their own, each under its full path, and remove them afterwards.

    Arguments:
        files: ``path`` and ``content`` of each, and what ``ACCESS`` names where they are the app's own. Without any
            there is no directory, and its path is empty.
        gid: the group that may read the others.
    """
    if not files:
        yield ""
        return
    root = tempfile.mkdtemp(prefix="celeryops-trial-", dir=PLACE)
    try:
        _share(root, 0o750, gid)
        for entry in files:
            path = root + _staged_as(entry)
            _make_folders(root, os.path.dirname(_staged_as(entry)), gid)
            with open(path, "wb") as stream:
                _share(path, 0o640, gid)
                stream.write(str(entry["content"]).encode())
            if entry.get("own"):
                _give(path, entry)
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def standing_in(files: Sequence[Mapping[str, Any]], root: str) -> Iterator[list[tuple[str, str]]]:
    """Say what a program has to see in which place, for the files that an app opens by their own paths.

    Nobody reads yet what is not there: such a file is put there for the time of the trial, and removed again. Of what
    is there, only the program that is tried sees another content (:func:`run_as`); what is there as it is to be needs
    no view, which a host may not permit.

    Arguments:
        files: as for :func:`staged`; only the app's ``own`` are looked at.
        root: what :func:`staged` gave.

    Returns:
        pairs of a file to be seen and its place.

    Raises:
        OSError: when a file cannot be put into its place.
    """
    views, made = [], []
    try:
        for entry in files if root else ():
            path = entry["path"]
            if not entry.get("own"):
                continue
            if os.path.lexists(path):
                if not _is_so(path, entry):
                    views.append((root + _staged_as(entry), path))
                continue
            for folder in reversed(_missing(os.path.dirname(path))):
                os.mkdir(folder, 0o755)
                made.append(folder)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            made.append(path)
            with os.fdopen(handle, "wb") as stream:
                stream.write(str(entry["content"]).encode())
            _give(path, entry)
        yield views
    finally:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                os.rmdir(path) if os.path.isdir(path) else os.unlink(path)


def secrets_in(files: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what must not be shown of secret files.

    An error shows the line that it comes from, so that is hidden as a whole; elsewhere what is named like a secret is.

    Arguments:
        files: as for :func:`staged`; only those that are ``secret`` are looked at.
    """
    found: dict[str, None] = {}
    for content in (str(entry["content"]) for entry in files if entry.get("secret")):
        if len(content.strip().splitlines()) == 1 and not _ASSIGNED.match(content):
            # Nothing but the secret, be it a sentence or a short word.
            found.update(dict.fromkeys(masking.secrets_of({"SECRET": content.strip()})))
        for line in (line.strip() for line in content.splitlines()):
            # "import os" and a bracket are no secrets, whatever stands around them.
            if re.search(r"[=:]|^\S{8,}$", line):
                found[line] = None
            name, value = (part.strip(" \"',") for part in (*re.split("[=:]", line, maxsplit=1), "")[:2])
            found.update(dict.fromkeys(masking.secrets_of({name: value})))
            # Whatever it is called: a name or the path of a module has no digits, and a file's path is no secret.
            texts = [value, *re.findall(r"[\"']([^\"']+)[\"']", line)]
            found.update(dict.fromkeys(text for text in texts if _MIXED.fullmatch(text)))
    return list(found)


def secrets_placed(record: str) -> list[str]:
    """Return what must not be shown of the secret files of an app's own that are on the host, changed by now or not.

    Arguments:
        record: path of the record of them (``placed``). What everybody may read is no secret: none may be so open.
    """
    files = []
    for path in placed.read(record):
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as stream:
            if not os.fstat(stream.fileno()).st_mode & 0o004:
                files.append({"content": stream.read(), "secret": True})
    return secrets_in(files)


def _missing(folder: str) -> list[str]:
    """Return the directories on the way to ``folder`` that are not there, itself first."""
    found = []
    while not os.path.isdir(folder):
        found.append(folder)
        folder = os.path.dirname(folder)
    return found


def _staged_as(entry: Mapping[str, Any]) -> str:
    """Return where below its root a file is staged."""
    return (OWN if entry.get("own") else "") + str(entry["path"])


def has_access(entry: Mapping[str, Any]) -> bool:
    """Whether a file has the owner, group and mode that it is to have; one that is not the app's own may have any.

    Arguments:
        entry: its ``path``; where it is the app's ``own``, what ``ACCESS`` names.
    """
    if not entry.get("own"):
        return True
    try:
        status = os.lstat(entry["path"])
        owner, group = pwd.getpwnam(entry["owner"]).pw_uid, grp.getgrnam(entry["group"]).gr_gid
    except (OSError, KeyError):
        return False
    return (status.st_uid, status.st_gid, status.st_mode) == (owner, group, stat.S_IFREG | int(entry["mode"], 8))


def _is_so(path: str, entry: Mapping[str, Any]) -> bool:
    """Whether a file of the app's own is there with the content and the access that it is to have."""
    if not has_access(entry):
        return False
    with open(path, "rb") as stream:
        return stream.read() == str(entry["content"]).encode()


def _give(path: str, entry: Mapping[str, Any]) -> None:
    os.chown(path, pwd.getpwnam(entry["owner"]).pw_uid, grp.getgrnam(entry["group"]).gr_gid)
    os.chmod(path, int(entry["mode"], 8))


def _make_folders(root: str, folder: str, gid: int) -> None:
    path = root
    for name in folder.strip("/").split("/"):
        path = f"{path}/{name}"
        if not os.path.isdir(path):
            os.mkdir(path)
            _share(path, 0o750, gid)


def _share(path: str, mode: int, gid: int) -> None:
    os.chmod(path, mode)
    os.chown(path, -1, gid)


def redirected(variables: Mapping[str, Any], root: str) -> dict[str, Any]:
    """Return an environment that leads to the staged files, where there are such, instead of those in use.

    Arguments:
        variables: name -> value.
        root: what :func:`staged` gave.
    """
    result = dict(variables)
    for name in LEADING:
        if root and result.get(name):
            paths = str(result[name]).split(":")
            result[name] = ":".join(root + path if path and os.path.exists(root + path) else path for path in paths)
    if root:
        result["PYTHONDONTWRITEBYTECODE"] = "1"
    return result


def run_as(
    account: Account,
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    timeout: float,
    views: Sequence[tuple[str, str]] = (),
) -> tuple[int, str]:
    """Run a program as the app's account and return its status and what it printed.

    Arguments:
        account: who it runs as.
        command: the program and its arguments.
        environment: all of its environment.
        folder: the directory that it begins in.
        timeout: seconds.
        views: files that it sees in the place of others (:func:`standing_in`), and nobody else does.

    Raises:
        subprocess.TimeoutExpired: when it took longer; it and its children are gone then. Holds what it printed.
            What it has left behind in a session of its own goes on, and nobody waits for that.
        subprocess.SubprocessError: when the host does not let it see ``views``, as in some containers.
        OSError: when it cannot be run.
    """
    identity: dict[str, Any] = {"user": account.uid, "group": account.gid, "extra_groups": list(account.groups)}
    if views:
        # Only root may mount, so the account is changed after that.
        identity = {"preexec_fn": _in_a_view_of_its_own(account, views)}
    # A pipe would stay open as long as anything has it that the program leaves behind, a daemon of its own for one.
    with tempfile.TemporaryFile() as output:
        process = None
        try:
            with held_back():
                process = subprocess.Popen(
                    list(command), env=dict(environment), cwd=folder, stdin=subprocess.DEVNULL, stdout=output,
                    stderr=subprocess.STDOUT, start_new_session=True, umask=0o022, **identity,
                )  # fmt: skip
            process.wait(timeout)
        except BaseException as error:
            if process is None:
                raise
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise subprocess.TimeoutExpired(list(command), timeout, output=_printed(output)) from error
            raise
        return process.returncode, _printed(output)


def _printed(output: IO[bytes]) -> str:
    """Return what a program has written to a file so far."""
    output.seek(0)
    return output.read().decode("utf-8", errors="replace")


def _in_a_view_of_its_own(account: Account, views: Sequence[tuple[str, str]]) -> Callable[[], None]:
    """Return what makes a new process see files in the place of others, and then gives up all rights.

    It has mounts of its own (mount_namespaces(7)), which end with it. Python has no such call before 3.12.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    pairs = [(os.fsencode(source), os.fsencode(target)) for source, target in views]

    def checked(outcome: int) -> None:
        if outcome != 0:
            raise OSError(ctypes.get_errno(), "mount")

    def enter() -> None:
        checked(libc.unshare(_NEW_MOUNTS))
        checked(libc.mount(b"none", b"/", None, _PRIVATE, None))
        for source, target in pairs:
            checked(libc.mount(source, target, None, _BIND, None))
        os.setgroups(account.groups)
        os.setgid(account.gid)
        os.setuid(account.uid)

    return enter
