"""The Celery application; `bind_celery` gives it a broker, and every task an app context."""

from typing import Any

from celery import Celery, Task
from flask import Flask

from promptly.settings import Settings

celery = Celery("promptly")


def broker_url(redis_url: str) -> str:
    """The address as kombu spells it: unix sockets have a scheme of their own there."""
    if redis_url.startswith("unix://"):
        return "redis+socket://" + redis_url.removeprefix("unix://")
    return redis_url


def bind_celery(app: Flask, settings: Settings) -> None:
    """Configure the task queue and let each task run inside the application's context."""

    class ContextTask(Task[Any, Any]):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with app.app_context():
                return super().__call__(*args, **kwargs)

    celery.config_from_object("celeryconfig", force=True)
    celery.conf.update(broker_url=broker_url(settings.redis_url))
    setattr(celery, "Task", ContextTask)  # noqa: B010  (the stubs call it read-only)
    celery.set_default()
    app.extensions["celery"] = celery
