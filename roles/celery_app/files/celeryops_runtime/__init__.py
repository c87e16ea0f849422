"""What a unit file cannot carry: the shared configuration of a Celery app, and its readiness for systemd.

The package runs inside the user's own processes (workers, beat, Flower, producers). It comes in through
``CELERY_LOADER=celeryops_runtime.loader:Loader`` and needs nothing of the app. Importing it has no effect:
everything starts when Celery creates the loader, or on the command line (``python -m celeryops_runtime``).
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
