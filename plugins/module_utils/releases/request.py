# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The types of the options of the module release (plugins/modules/release.py documents them)."""

from __future__ import annotations

from typing import Any, TypedDict

Request = TypedDict(
    "Request",
    {
        "name": str,
        "import": str,
        "user": str,
        "account": "dict[str, Any] | None",
        "directories": list[str],
        "source": dict[str, Any],
        "extra_packages": list[str],
        "broker": str,
        "needs": list[dict[str, Any]],
        "role": str,
        "system_packages": list[str],
        "python": str,
        "installer": str,
        "uv_package": str,
        "install_environment": dict[str, Any],
        "environment": dict[str, Any],
        "verify": bool,
        "keep": int,
        "configuration": list[dict[str, Any]],
        "hold": bool,
        "take": str,
        "after": bool,
        "switch": bool,
        "select": str,
        "expected": list[dict[str, Any]],
        "running": list[dict[str, Any]],
        "consumed": list[str],
        "decided": list[str],
        "accept_missing_tasks": list[str],
        "content": "str | None",
        "archive": "str | None",
        "contents": "list[dict[str, Any]] | None",
        "receipt": "str | None",
    },
)
