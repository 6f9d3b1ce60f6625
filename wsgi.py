"""Entry point of gunicorn, Celery and the flask command: the application and its task queue."""

import os
import sys

from promptly.app import create_app
from promptly.runtime import logs
from promptly.runtime.celery_app import celery
from promptly.setting_fields import SettingsError
from promptly.settings import from_environment

try:
    app = create_app(from_environment())
except SettingsError as problem:
    # Flask sets this for its commands: their users read text, not log lines.
    if os.environ.get("FLASK_RUN_FROM_CLI"):
        sys.exit(str(problem))
    logs.fail(problem.summary, problems=problem.problems)

__all__ = ["app", "celery"]
