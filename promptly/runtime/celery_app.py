"""The Celery application; `bind_celery` sets its broker and gives every task an app context."""

from typing import Any

from celery import Celery, Task
from flask import Flask

from promptly.settings import Settings

celery = Celery("promptly")


def broker_url(redis_url: str) -> str:
    """Translate a Redis URL for kombu, which has its own scheme for Unix sockets."""
    if redis_url.startswith("unix://"):
        return "redis+socket://" + redis_url.removeprefix("unix://")
    return redis_url


def bind_celery(app: Flask, settings: Settings) -> None:
    """Configure Celery and run each task inside the application's context."""

    class ContextTask(Task[Any, Any]):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with app.app_context():
                return super().__call__(*args, **kwargs)

    celery.config_from_object("celeryconfig", force=True)
    redis_url = settings.redis_connection_url
    # All but `broker_url` are ours, for the signal handlers of celeryconfig.py.
    celery.conf.update(
        broker_url=broker_url(redis_url),
        redis_url=redis_url,
        metrics_host=settings.worker_metrics_bind,
        metrics_port=settings.worker_metrics_port,
        metrics_allowed=settings.admin_allowed_cidrs,
        metrics_key=settings.metrics_key,
    )
    setattr(celery, "Task", ContextTask)  # noqa: B010  (the stubs declare it read-only)
    celery.set_default()
    app.extensions["celery"] = celery
