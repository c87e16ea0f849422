"""Tables."""

from __future__ import annotations

from django.db import models


class Article(models.Model):
    """Something that the shop sells."""

    name = models.CharField(max_length=80, unique=True)
    cents = models.PositiveIntegerField()

    def __str__(self) -> str:
        """Show the name."""
        return self.name
