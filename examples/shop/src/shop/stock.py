"""Stock: work that nobody thought important enough for a queue of its own."""

from __future__ import annotations

import zlib
from typing import Any

from shop import state
from shop.celery import app
from shop.identity import whoami


@app.task(bind=True, name="shop.stock.count")
def count(self: Any, article: str) -> dict[str, Any]:
    """Count the pieces of an article on the shelf."""
    return {"article": article, "pieces": zlib.crc32(article.encode()) % 100, "ran_by": whoami(self)}


@app.task(bind=True, name="shop.stock.seen", ignore_result=True)
def seen(self: Any, article: str) -> dict[str, Any]:
    """Note that somebody looked at an article. Nobody waits for the answer, so none is kept."""
    state.note("article seen", article=article, ran_by=whoami(self))
    return {"article": article}
