"""A project with a settings module, and a second thought after it was read; all of it wrong in production."""
