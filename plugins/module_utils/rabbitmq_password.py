# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RabbitMQ's salted password hashes: made, and checked against the salt that the server stores.

The format is base64(salt + digest(salt + password)) with a salt of four bytes, see "Credentials and Passwords" in
RabbitMQ's documentation. Checking with the stored salt is what makes a run repeatable: no hash is ever compared with
a hash of another salt.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

SALT_LENGTH = 4
DEFAULT_ALGORITHM = "rabbit_password_hashing_sha256"
_DIGESTS = {
    DEFAULT_ALGORITHM: "sha256",
    "rabbit_password_hashing_sha512": "sha512",
    "rabbit_password_hashing_md5": "md5",
}
ALGORITHMS = tuple(_DIGESTS)


def hash_password(password: str, salt: bytes | None = None, algorithm: str = DEFAULT_ALGORITHM) -> str:
    """Return what RabbitMQ stores for ``password``; the salt is random unless given."""
    used = os.urandom(SALT_LENGTH) if salt is None else salt
    digest = hashlib.new(_DIGESTS[algorithm], used + password.encode("utf-8")).digest()
    return base64.b64encode(used + digest).decode("ascii")


def password_matches(password: str, stored: str, algorithm: str = DEFAULT_ALGORITHM) -> bool:
    """Tell whether ``stored``, a hash as the server holds it, belongs to ``password``."""
    if algorithm not in _DIGESTS:
        return False
    try:
        salt = base64.b64decode(stored)[:SALT_LENGTH]
    except ValueError:
        return False
    return hmac.compare_digest(hash_password(password, salt, algorithm), stored)


def stable_salt(key: str, user: str) -> bytes:
    """Return a salt that stays the same for a user, so that a file with the hash does not change on every run.

    Arguments:
        key: a secret of this installation; without it the salt of a name cannot be guessed.
        user: the user's name.
    """
    return hmac.new(key.encode("utf-8"), user.encode("utf-8"), hashlib.sha256).digest()[:SALT_LENGTH]
