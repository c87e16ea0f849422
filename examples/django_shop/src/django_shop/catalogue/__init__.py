"""The project's only Django app: articles and their prices."""
