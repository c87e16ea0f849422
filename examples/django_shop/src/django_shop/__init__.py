"""A minimal Django project: the second example application of celeryops.stack."""

from django_shop.celery import app as celery_app

__all__ = ["celery_app"]
