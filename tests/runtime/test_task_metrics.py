"""Metrics of a Celery worker: counted in its children, read on a port of the main process."""

import ipaddress
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import urllib3
from celery import Celery
from prometheus_client.parser import text_string_to_metric_families

from promptly.runtime import task_metrics
from promptly.runtime.celery_app import broker_url
from promptly.secret import Secret
from sandbox import process
from sandbox.ports import free_port
from tests.support.books import wait_for
from tests.support.servers import PROJECT, VARIABLES

SWEEP = "promptly.tasks.metering.recover_holds"
RECONCILE = "promptly.tasks.payments.reconcile"


KEY = Secret("a key that lets Prometheus read metrics")


def get(
    port: int, path: str = "/metrics", method: str = "GET", key: Secret | None = None
) -> tuple[int, str]:
    headers = {} if key is None else {"Authorization": f"Bearer {key.reveal()}"}
    url = f"http://127.0.0.1:{port}{path}"
    answer = urllib3.request(method, url, headers=headers, retries=False, timeout=10.0)
    return answer.status, answer.data.decode()


@contextmanager
def listening(network: str) -> Iterator[int]:
    """The port of a server that admits this network."""
    server = task_metrics.listen("127.0.0.1", 0, [ipaddress.ip_network(network)], KEY)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("network", "path", "method", "status"),
    [
        ("127.0.0.0/8", "/metrics", "GET", 200),
        ("127.0.0.0/8", "/metrics", "POST", 404),
        ("127.0.0.0/8", "/", "GET", 404),
        ("100.64.0.0/10", "/metrics", "GET", 403),
    ],
)
def test_the_port(network: str, path: str, method: str, status: int) -> None:
    with listening(network) as port:
        assert get(port, path, method)[0] == status


def test_the_key_opens_the_port_to_every_address() -> None:
    with listening("100.64.0.0/10") as port:
        assert get(port, key=Secret("another key"))[0] == 403
        assert get(port, key=KEY)[0] == 200
        assert get(port, "/", key=KEY)[0] == 404


def test_outcomes() -> None:
    measured = task_metrics.TaskMetrics(["test.task"])
    for state in ("SUCCESS", "SUCCESS", "FAILURE", "RETRY", "REVOKED"):
        measured.begin("id")
        measured.end("test.task", "id", state)
    measured.time_out("test.task")
    # Tasks that are not promptly's have no label.
    measured.end("celery.chord", "other", "SUCCESS")
    found = {
        (sample.labels["task"], sample.labels["outcome"]): sample.value
        for family in task_metrics.families.collect()
        for sample in family.samples
        if "outcome" in sample.labels
    }
    assert found == {
        ("test.task", "success"): 2,
        ("test.task", "failure"): 1,
        ("test.task", "retry"): 1,
        ("test.task", "other"): 1,
        ("test.task", "timeout"): 1,
    }


@pytest.fixture
def worker(
    tmp_path: Path, fresh_database: str, redis_url: str
) -> Iterator[tuple[int, psutil.Process]]:
    """The metrics' port and the main process of a worker with one child."""
    port = free_port()
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        **VARIABLES,
        "PYTHONPATH": str(PROJECT),
        "DATABASE_URL": fresh_database,
        "REDIS_URL": redis_url,
        "WORKER_METRICS_PORT": str(port),
    }
    command: list[str | Path] = [PROJECT / ".venv" / "bin" / "python", "-m", "celery", "--quiet"]
    command += ["-A", "wsgi:celery", "worker", "--concurrency=1"]
    log = tmp_path / "worker.log"
    started = process.spawn(command, log=log, env=environment, cwd=tmp_path)
    main = psutil.Process(started.pid)
    try:
        process.wait_until(lambda: _answers(port), 60, "the worker")
        yield port, main
    finally:
        children = main.children(recursive=True)
        process.stop(started, (signal.SIGTERM, 15.0))
        for child in children:
            if child.is_running():
                child.kill()


def _answers(port: int) -> bool:
    try:
        return get(port)[0] == 200
    except urllib3.exceptions.HTTPError:
        return False


def _succeeded(port: int, task: str) -> float:
    for family in text_string_to_metric_families(get(port)[1]):
        for sample in family.samples:
            if sample.labels == {"task": task, "outcome": "success"}:
                return sample.value
    raise AssertionError(f"{task} is not known")


@pytest.mark.slow
def test_a_worker_whose_child_is_killed(worker: tuple[int, psutil.Process], redis_url: str) -> None:
    port, main = worker
    # At its start a worker reconciles.
    wait_for(lambda: _succeeded(port, RECONCILE) == 1, "the first task", 60)
    for child in main.children():
        child.kill()
    assert _succeeded(port, RECONCILE) == 1
    # Not as the current application: later tests of this process expect promptly's.
    with Celery("test", broker=broker_url(redis_url), set_as_current=False) as sender:
        sender.send_task(SWEEP, queue="metering")
    wait_for(lambda: _succeeded(port, SWEEP) == 1, "a task of the next child", 60)
    assert _succeeded(port, RECONCILE) == 1
