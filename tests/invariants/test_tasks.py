"""Tasks named by beat and by enqueue() are registered and routed to a queue that exists."""

import ast
import importlib
from pathlib import Path

import pytest
from celery._state import get_current_app
from flask import Flask

import celeryconfig
from promptly.runtime.celery_app import celery


@pytest.fixture(scope="module", autouse=True)
def _tasks() -> None:
    for module in celeryconfig.imports:
        importlib.import_module(module)


def registered(app: Flask) -> set[str]:
    assert get_current_app() is celery
    celery.finalize()
    return {name for name in celery.tasks if name.startswith("promptly.")}


def enqueued(project: Path) -> dict[str, str]:
    """Return task names passed to enqueue() or send_task(), with the file that does so."""
    found = {}
    for path in (project / "promptly").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, (ast.Name, ast.Attribute))
                and (node.func.id if isinstance(node.func, ast.Name) else node.func.attr)
                in {"enqueue", "send_task"}
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                found[str(node.args[0].value)] = str(path)
    return found


def test_every_name_in_use_is_a_task(worker_app: Flask, project: Path) -> None:
    names = registered(worker_app)
    scheduled = {entry["task"] for entry in celeryconfig.beat_schedule.values()}
    assert scheduled <= names
    queued = enqueued(project)
    assert queued, "the search finds nothing: look at it"
    assert set(queued) <= names


def test_every_task_goes_to_a_queue_that_exists(worker_app: Flask) -> None:
    queues = {queue.name for queue in celeryconfig.task_queues}
    router = celery.amqp.router
    for name in registered(worker_app):
        assert router.route({}, name)["queue"].name in queues


def test_every_module_of_tasks_is_imported(project: Path) -> None:
    modules = {
        f"promptly.tasks.{path.stem}"
        for path in (project / "promptly" / "tasks").glob("*.py")
        if path.stem != "__init__" and "shared_task" in path.read_text()
    }
    assert modules == set(celeryconfig.imports)


def test_a_task_ends_before_its_message_comes_back() -> None:
    assert celeryconfig.task_soft_time_limit < celeryconfig.task_time_limit
    assert celeryconfig.task_time_limit < celeryconfig.VISIBILITY_TIMEOUT_SECONDS
