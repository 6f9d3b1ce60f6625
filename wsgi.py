"""Entry point of gunicorn, Celery and the flask command: the application and its task queue."""

import sys

from promptly.app import create_app
from promptly.runtime.celery_app import celery
from promptly.settings import SettingsError, from_environment

try:
    app = create_app(from_environment())
except SettingsError as problem:
    sys.exit(str(problem))

__all__ = ["app", "celery"]
