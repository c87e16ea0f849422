"""Registration with Django."""

from __future__ import annotations

from django.apps import AppConfig


class CatalogueConfig(AppConfig):
    """The catalogue."""

    name = "django_shop.catalogue"
    label = "catalogue"
