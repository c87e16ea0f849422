"""What stands beside the packages of a project that is no package itself: it says how it was run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from object_shop.celery import app

print(json.dumps({"words": sys.argv, "folder": str(Path.cwd()), "queue": app.conf.task_default_queue}))
