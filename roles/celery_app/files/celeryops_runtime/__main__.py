# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Command line: ``python -m celeryops_runtime``; see :mod:`celeryops_runtime.cli`."""

from __future__ import annotations

import sys

from celeryops_runtime.cli import main

if __name__ == "__main__":
    sys.exit(main())
