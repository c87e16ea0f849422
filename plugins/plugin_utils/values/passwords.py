# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a password easy to guess. No function here returns or shows one."""

from __future__ import annotations

import re

#: Where others can try passwords as fast as a server answers.
SHORTEST = 12

#: What is tried first: defaults of RabbitMQ, Redis, Flower and of their images, and what people write meanwhile.
_COMMON = frozenset({
    "admin", "administrator", "celery", "changeit", "changeme", "default", "flower", "foobar", "foobared", "guest",
    "letmein", "pass", "passw0rd", "password", "qwerty", "qwertyuiop", "rabbit", "rabbitmq", "redis", "root", "secret",
    "test", "testing", "welcome",
})  # fmt: skip


def weakness(password: object, user: object = "", shortest: int = SHORTEST) -> str:
    """Return why a password is weak, continuing "<variable>: (not shown) ..."; an empty string for a good one.

    Arguments:
        password: the password.
        user: whose it is.
        shortest: how many characters it needs.
    """
    text = str(password or "")
    if not text:
        return "is empty"
    # Digits and signs at its end, and saying it twice, do not make a word harder to find.
    word = re.sub(r"[\W\d_]+$", "", text.lower())
    plain = re.sub(r"[\W_]+", "", word)
    once = plain[: (plain + plain).find(plain, 1)] if plain else ""
    if {word, plain, once} & _COMMON or (not word and len(set(text)) < 6):
        return "is a commonly guessed password"
    if user and once in {str(user).lower(), re.sub(r"[\W\d_]+", "", str(user).lower())}:
        return "is the user's own name"
    if len(text) < shortest:
        return f"has fewer than {shortest} characters"
    return ""
