# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The paths of the collection on a host: the only module that has them. No I/O here.

Each directory contains one directory per app. Used on managed hosts and on the control machine.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Releases and the installer, which root owns.
PROGRAMS = "/opt/celeryops"
CONFIG = "/etc/celeryops"
#: What apps write.
STATE = "/var/lib/celeryops"
LOG = "/var/log/celeryops"
RUN = "/run/celeryops"
#: Of the installers, for all apps together.
CACHE = "/var/cache/celeryops"
#: What an account owns that exists only while its unit runs (systemd.exec(5), DynamicUser=).
DYNAMIC_STATE = "/var/lib/private/celeryops"
#: The installer's own environment, beside the apps.
UV = f"{PROGRAMS}/uv"
#: One file for each app that a run works on. Its name begins with a dot, as no app's does.
LOCKS = f"{RUN}/.lock"
#: The paths that were placed, of files that can hold no comment.
PLACED = f"{STATE}/.placed"
#: Runs a program of any app on the host as its workers run (roles/celery_app/files).
RUN_COMMAND = "/usr/local/bin/celeryops-run"
#: Of systemd: units that stay, and units that are gone after a reboot (systemd.unit(5), "Unit File Load Path").
UNITS = "/etc/systemd/system"
TRANSIENT_UNITS = "/run/systemd/system"
#: In the configuration directory of an app: which files of the app's own were placed (module_utils/placed.py).
FILES_RECORD = "files.json"


@dataclass(frozen=True)
class AppPaths:
    """The places of one app.

    Arguments:
        app: its short name.
    """

    app: str

    @property
    def base(self) -> str:
        """Directory of its releases, its runtime and what is known of them."""
        return f"{PROGRAMS}/{self.app}"

    @property
    def releases(self) -> str:
        """Directory with one virtual environment for each release."""
        return f"{self.base}/releases"

    @property
    def current(self) -> str:
        """Link to the release in use."""
        return f"{self.base}/current"

    @property
    def history(self) -> str:
        """Note of the switches of the link, and of what was verified."""
        return f"{self.base}/activations.json"

    @property
    def runtime(self) -> str:
        """Directory of the package that puts the shared configuration into force."""
        return f"{self.base}/runtime"

    @property
    def config(self) -> str:
        """Directory of its configuration."""
        return f"{CONFIG}/{self.app}"

    @property
    def settings(self) -> str:
        """File of the shared configuration."""
        return f"{self.config}/celery.json"

    @property
    def queues(self) -> str:
        """File of queues and routes, which processes look at again while they run (celeryops_runtime.queues_file)."""
        return f"{self.config}/queues.json"

    @property
    def environment(self) -> str:
        """Environment file of its units, for root alone."""
        return f"{self.config}/celery.env"

    @property
    def files(self) -> str:
        """Directory of files of the app's own (celery_app_files)."""
        return f"{self.config}/files"

    @property
    def files_record(self) -> str:
        """Record of the files of the app's own that were placed."""
        return f"{self.config}/{FILES_RECORD}"

    @property
    def state(self) -> str:
        """Directory that it may write to."""
        return f"{STATE}/{self.app}"

    @property
    def log(self) -> str:
        """Directory of its logs."""
        return f"{LOG}/{self.app}"

    @property
    def run(self) -> str:
        """Directory of its workers' reports."""
        return f"{RUN}/{self.app}"

    @property
    def flower_base(self) -> str:
        """Directory of Flower's releases."""
        return f"{self.base}-flower"

    @property
    def flower_environment(self) -> str:
        """Environment file of Flower, for root alone."""
        return f"{self.config}/flower.env"
