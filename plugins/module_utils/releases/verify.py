# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tries a release before it is activated: its versions, and the import of the app under its own account.

The import uses the configuration that will be placed; an import as root would prove nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils import celery_versions, trial
from ansible_collections.celeryops.stack.plugins.module_utils.releases import own_routes, virtualenv
from ansible_collections.celeryops.stack.plugins.module_utils.releases.configuration import lacks_files
from ansible_collections.celeryops.stack.plugins.module_utils.releases.programs import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ansible_collections.celeryops.stack.plugins.module_utils.releases.request import Request
    from ansible_collections.celeryops.stack.plugins.module_utils.releases.store import Store

#: Seconds.
IMPORT_TIMEOUT = 300
#: Says where an app waits that is not imported in that time.
WHERE = f"import faulthandler\nfaulthandler.dump_traceback_later({IMPORT_TIMEOUT - 5})\n"
#: What an app has for its loader that says nothing of one: Celery's, or that of the shared configuration.
OWN_LOADERS = ("celery.loaders.app:AppLoader", "celeryops_runtime.loader:Loader")
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


class Verification:
    """The trial of a release.

    Arguments:
        request: of the module.
        store: has the releases, and notes what was verified.
        shown: returns what may be shown of the output of a program (``Programs.shown``).
    """

    def __init__(self, request: Request, store: Store, shown: Callable[[str], str]) -> None:
        self.request = request
        self.store = store
        self.shown = shown
        self.warnings: list[str] = []
        #: Of settings that the configuration decides, those for which the app itself has another value.
        self.replaced: list[dict[str, str]] = []
        #: Whether something was imported.
        self.imported = False

    def is_done(self, release: str) -> bool:
        """Whether a release was verified with what it will run with; or need not be."""
        if not self.request["verify"]:
            return True
        known = self.store.verified(release)
        # A release is compared by its tasks before it is taken into use; an older version did not note them.
        lacks_tasks = not self.request["switch"] and not isinstance(known.get("tasks"), list)
        return not lacks_tasks and all(known.get(key) == value for key, value in self._subject().items())

    def _subject(self) -> dict[str, str]:
        """Return what a release is verified with; with anything else it is verified again before that is placed."""
        files = self.request["configuration"]
        tried = {"tried": trial.digest(self.request["environment"], files)} if files else {}
        return {"import": self.request["import"], "user": self.request["user"], **tried}

    def lacks_files(self) -> bool:
        """Whether the release will be tried with files that are not on the host, and were not brought over either."""
        if not self.request["verify"] or self.request["contents"] is not None:
            return False
        return lacks_files(self.request["configuration"])

    def fits(self, release: str, what: str) -> None:
        """Refuse versions that are not supported, that do not work together, or that lack what the plan counts on.

        Arguments:
            release: its name, or the path of a virtual environment.
            what: how it is called.

        Raises:
            ReleaseError: it is not taken into use.
        """
        path = self.store.path(release)
        named = {name: found for name, found in virtualenv.versions(path).items() if found}
        versions = {**virtualenv.installed(path), **named}
        told = celery_versions.too_old(versions)
        floor = celery_versions.text(celery_versions.FLOOR)
        if told and self.request["role"] == "flower":
            told[-1] += f"; write celery>={floor} into flower_packages"
        elif told and self.request["source"]["type"] != "virtualenv":
            told[-1] += (
                f"; write celery[redis]>={floor} into celery_app_source.overrides, which wins over what the app's "
                "packages ask for"
            )
        told += [
            f"{pair}; write {instead} into celery_app_source.constraints"
            for pair, instead in celery_versions.misfits(versions, self.request["broker"])
        ]
        unmet = celery_versions.unmet(self.request["needs"], versions)
        if self.request["select"]:
            # It ran here before: going back must not fail for a setting.
            self.warnings += unmet
        else:
            told += unmet
        if told:
            raise ReleaseError(f"{what} was not taken into use: {'; '.join(told)}")

    def run(self, release: str) -> None:
        """Import the app with its tasks as the account that will run it, and note that it could be.

        Arguments:
            release: its name, or the path of a virtual environment.

        Raises:
            ReleaseError: it cannot be imported, or must not run with this configuration.
        """
        if not self.request["verify"]:
            return
        status, output = self._import(self.store.path(release))
        name, user = self.request["import"], self.request["user"]
        if status is None:
            raise ReleaseError(
                f"importing {name} as {user} took more than {IMPORT_TIMEOUT} s, so neither this "
                "version nor this configuration was taken into use. It printed, and was here at the end, perhaps "
                f"waiting for a server that it asks while it is imported:\n{self.shown(output)}"
            )
        if status != 0:
            raise ReleaseError(
                f"{name} cannot be imported as {user} with the configuration that the variables say, "
                "so neither this version nor this configuration was taken into use (variables that it needs belong "
                f"into celery_app_environment):\n{self.shown(output)}"
            )
        report = last_report(output)
        self._judge(report)
        self.imported = True
        self.store.note_verified(release, {**self._subject(), "tasks": report.get("tasks")})

    def _import(self, path: str) -> tuple[int | None, str]:
        """Return the status of the import, None where it took too long, and what was printed."""
        user = self.request["user"]
        try:
            account = trial.account_of(user)
        except KeyError as error:
            raise ReleaseError(f"there is no account {user}") from error
        self.provide_directories(account)
        python = [f"{path}/bin/python", "-c", WHERE + CHECK, self.request["import"]]
        contents = self.request["contents"] or []
        status: int | None
        with trial.staged(contents, account.gid) as root, trial.standing_in(contents, root) as views:
            environment = trial.environment_of(account, path, trial.redirected(self.request["environment"], root))
            try:
                try:
                    status, output = trial.run_as(account, python, environment, "/", IMPORT_TIMEOUT, views)
                except subprocess.TimeoutExpired:
                    raise
                except subprocess.SubprocessError:
                    reason = "this host permits no mount, so the app was tried with the files that are in use"
                    self.warnings.append(f"celery_app_files: {reason}")
                    status, output = trial.run_as(account, python, environment, "/", IMPORT_TIMEOUT)
            except subprocess.TimeoutExpired as error:
                status, output = None, str(error.output or "")
            # Whoever reads it looks for the file where it will be.
            return status, output.replace(root, "") if root else output

    def _judge(self, report: dict[str, Any]) -> None:
        """Refuse what the app says of itself, or warn of it."""
        if report.get("loader", OWN_LOADERS[0]) not in OWN_LOADERS:
            self.warnings.append(
                f"{self.request['import']} is created with loader={report['loader']!r}, which keeps the shared "
                "configuration (routes, queues, timeouts) out; remove that argument"
            )
        if report.get("tasks") == []:
            self.warnings.append(
                f"{self.request['import']} has no tasks after import; autodiscover_tasks() or include= may be missing"
            )
        self.replaced = report.get("replaced") or []
        consumed = self.request["consumed"]
        if report.get("routes"):
            lost = own_routes.refusal(report["routes"], consumed)
            if lost:
                raise ReleaseError(f"{lost}. Neither this version nor this configuration was taken into use")
            self.warnings += own_routes.doubts(report["routes"])
        elif consumed:
            self.warnings += own_routes.strays(report.get("queues") or {}, consumed)

    def provide_directories(self, account: trial.Account) -> None:
        """Make the directories that the app may write to: one that opens its log when it is imported needs it."""
        for path in self.request["directories"]:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            if not os.path.lexists(path):
                os.mkdir(path, 0o750)
                os.chown(path, account.uid, account.gid)


def last_report(output: str) -> dict[str, Any]:
    """Return what :data:`CHECK` has printed, behind whatever the app prints; empty when it has not."""
    for line in reversed(output.splitlines()):
        if line.startswith('{"celeryops"'):
            report: dict[str, Any] = json.loads(line)["celeryops"]
            return report
    return {}
