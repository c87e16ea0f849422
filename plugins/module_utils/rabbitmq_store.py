# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The data of a RabbitMQ node that is stopped, moved where no node finds them. Runs on managed hosts."""

from __future__ import annotations

import glob
import os
import shutil
import time

#: Below the home of RabbitMQ's account, and not below the base of its nodes: what is there is looked at as data.
ASIDE = "/var/lib/rabbitmq/celeryops-aside"


def put_aside(directory: str, aside: str = ASIDE) -> str:
    """Move the data of a node, with what RabbitMQ keeps beside them under its name, and return where they are then.

    Nothing is deleted, so that a mistake can be undone. The path is empty when there are none.

    Arguments:
        directory: of the node.
        aside: where to.
    """
    there = [path for path in (directory, *sorted(glob.glob(glob.escape(directory) + "-*"))) if os.path.exists(path)]
    if not there:
        return ""
    name = f"{os.path.basename(directory)}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    place = os.path.join(aside, name)
    os.makedirs(place, mode=0o700)
    for path in there:
        shutil.move(path, place)
    return place
