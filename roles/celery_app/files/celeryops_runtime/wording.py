# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Lists of names in messages; the same as in plugins/module_utils/wording.py, and a test compares them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def some_of(names: Sequence[str], most: int) -> str:
    """Return names for a message: ``a, b and 3 more``.

    :param names: in the order of the message.
    :param most: how many of them it has at most.
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
