"""A project whose Celery app says everything itself, in its constructor, and all of it is wrong in production."""
