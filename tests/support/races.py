"""Real concurrency: run calls at the same moment, in threads with a connection each."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from flask import Flask

R = TypeVar("R")


def run(app: Flask, task: Any, *arguments: object) -> None:
    """Run a Celery task here, inside this application; a real worker has only one."""
    with app.app_context():
        task.run(*arguments)


def together(app: Flask, *calls: Callable[[], R]) -> list[R]:
    """Start all calls at once, each in an application context, and return their results in order.

    Re-raise the first exception, if any.
    """
    barrier = threading.Barrier(len(calls))

    def start(call: Callable[[], R]) -> R:
        with app.app_context():
            barrier.wait(timeout=20)
            return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [
            future.result(timeout=60) for future in [pool.submit(start, call) for call in calls]
        ]
