# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which names denote secrets, and what replaces their values: one rule for variables, keys, options and settings.

The runtime has the same patterns (roles/celery_app/files/celeryops_runtime/effective.py), since it runs without the
collection; a test compares them. Runs on managed hosts as well.
"""

from __future__ import annotations

import re

#: In place of the value of a variable.
NOT_SHOWN = "(not shown)"
#: In place of a part of a text.
MASK = "***"
#: Words of a name, wherever they stand in it, and how it may end.
SECRET_NAME = re.compile(
    r"passw|passphrase|secret|token|credential|(api|access|private)[^a-z0-9]?key"
    r"|[^a-z0-9]key$|(?-i:^KEY$)|(^|[^a-z0-9])(cookie|dsn|pass|pw)$",
    re.IGNORECASE,
)
#: What such a name ends in when its value only speaks of a secret (where it is, how old it may get, who checks it), and
#: keys that are none.
ABOUT = re.compile(
    r"[_-](MODULE|CLASS|BACKENDS?|HASHERS?|VALIDATORS?|FILE|FILENAME|PATH|DIR|FOLDER|URL|URI|HOST|PORT|NAME|PREFIX|HEADER"
    r"|LIFETIME|TIMEOUT|EXPIRY|EXPIRES|EXPIRATION|TTL|AGE|LENGTH|SIZE|ALGORITHM|TYPE|ENABLED|REQUIRED|VERSION)$"
    r"|(^|[^a-z0-9])(routing|partition|primary|foreign|public|sort|cache|tls|ssl)[_-]?key$",
    re.IGNORECASE,
)


def named_like_a_secret(name: str) -> bool:
    """Whether what stands under a name is a secret, rather than something about one."""
    return bool(SECRET_NAME.search(name)) and not ABOUT.search(name)
