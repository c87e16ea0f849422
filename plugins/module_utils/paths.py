# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The paths of the collection on a host: the only module that has them. No I/O here.

Each directory contains one directory per app. Used on managed hosts and on the control machine.
"""

from __future__ import annotations

import posixpath

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
#: What calls were asked for, and how the host looked when they were done (module_utils/receipts.py).
RECEIPTS = f"{RUN}/.receipts"
#: The paths that were placed, of files that can hold no comment.
PLACED = f"{STATE}/.placed"
#: Runs a program of any app on the host as its workers run (roles/celery_app/files).
RUN_COMMAND = "/usr/local/bin/celeryops-run"
#: Of systemd: units that stay, and units that are gone after a reboot (systemd.unit(5), "Unit File Load Path").
UNITS = "/etc/systemd/system"
TRANSIENT_UNITS = "/run/systemd/system"
#: In the configuration directory of an app: which files of the app's own were placed (module_utils/placed.py).
FILES_RECORD = "files.json"


def folders_of(path: str) -> list[str]:
    """Return the directories that a file is in, the outermost first, without the root directory."""
    parts = posixpath.dirname(path).split("/")
    return ["/".join(parts[:number]) for number in range(2, len(parts) + 1)]


class AppPaths:
    """The places of one app, by its short name."""

    def __init__(self, app: str) -> None:
        #: Directory of its releases, its runtime and what is known of them.
        self.base = f"{PROGRAMS}/{app}"
        #: Directory with one virtual environment for each release.
        self.releases = f"{self.base}/releases"
        #: Link to the release in use.
        self.current = f"{self.base}/current"
        #: Note of the switches of the link, and of what was verified.
        self.history = f"{self.base}/activations.json"
        #: Directory of the package that puts the shared configuration into force.
        self.runtime = f"{self.base}/runtime"
        #: Directory of its configuration.
        self.config = f"{CONFIG}/{app}"
        #: File of the shared configuration.
        self.settings = f"{self.config}/celery.json"
        #: File of queues and routes, which processes look at again while they run (celeryops_runtime.queues_file).
        self.queues = f"{self.config}/queues.json"
        #: Environment file of its units, for root alone.
        self.environment = f"{self.config}/celery.env"
        #: Directory of files of the app's own (celery_app_files), and the record of those that were placed.
        self.files = f"{self.config}/files"
        self.files_record = f"{self.config}/{FILES_RECORD}"
        #: Directory that it may write to.
        self.state = f"{STATE}/{app}"
        #: Directory of its logs.
        self.log = f"{LOG}/{app}"
        #: Directory of its workers' reports.
        self.run = f"{RUN}/{app}"
        #: Directory of Flower's releases, and its environment file, for root alone.
        self.flower_base = f"{self.base}-flower"
        self.flower_environment = f"{self.config}/flower.env"
