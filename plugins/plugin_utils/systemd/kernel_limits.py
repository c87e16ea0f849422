# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's limit on the arguments and environment of a process ("Argument list too long")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: MAX_ARG_STRLEN of include/uapi/linux/binfmts.h: 32 pages of 4 KiB for one NAME=value, the byte at its end included.
LONGEST = 32 * 4096 - 1
#: Arguments and environment share a quarter of the stack, whose limit is 8 MiB by default (execve(2)); an eighth of it
#: is left for what systemd, the class and the release's verification add.
MOST = 2 * 1024 * 1024 * 7 // 8
#: What stands beside each in that memory: a pointer and a byte at the end.
_EACH = 9


def environment_problems(variable: str, environment: Mapping[Any, Any]) -> Iterator[Problem]:
    """Yield what is too long in an environment: one of its values, or all together.

    Arguments:
        variable: the variable that it comes from; its values are not shown.
        environment: name -> value.
    """
    sizes = {name: size(name, value) for name, value in environment.items()}
    for name, length in sizes.items():
        if length > LONGEST:
            reason = f"is {length} bytes with its name, and the kernel takes {LONGEST}: no process could start"
            instead = "the path of a file with it"
            yield Problem("too-long-with-its-name", f"{variable}.{name}", NOT_SHOWN, reason, instead)
    total = sum(length + _EACH for length in sizes.values())
    if total > MOST and max(sizes.values()) <= LONGEST:
        reason = f"is {total} bytes, and the kernel takes {MOST} beside what is there already: no process could start"
        instead = "the paths of files with the largest values"
        yield Problem("too-long-for-the-kernel", variable, NOT_SHOWN, reason, instead)


def size(name: object, value: object) -> int:
    """Return how many bytes ``NAME=value`` has."""
    return len(f"{name}={value}".encode(errors="surrogatepass"))
