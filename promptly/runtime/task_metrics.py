"""Metrics of the tasks of a Celery worker, and the port on which Prometheus reads them.

celeryconfig.py connects these functions to Celery's signals. With the prefork pool, tasks run in
child processes, which count in memory that the main process shares; it alone listens. A child's
successor inherits its column, so that a killed one loses nothing.
"""

import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client.exposition import choose_encoder

from promptly.runtime.metrics_key import has_key
from promptly.runtime.shared_metrics import Families, cells
from promptly.secret import Secret
from promptly.setting_parsers import Network

logger = logging.getLogger(__name__)

families = Families()

# Celery's states of a task that has run, and the limit after which its process is killed.
OUTCOMES = {"SUCCESS": "success", "FAILURE": "failure", "RETRY": "retry"}
OTHER, TIMEOUT = "other", "timeout"

DURATIONS = (0.005, 0.025, 0.1, 0.25, 1, 2.5, 10, 30, 60, 120, 240)


class TaskMetrics:
    """Counts and durations of the tasks with these names."""

    def __init__(self, names: Iterable[str]) -> None:
        names = sorted(names)
        self._ended = families.counters_by(
            "promptly_celery_tasks_total",
            "Tasks that this worker has run, by their outcome.",
            ("task", "outcome"),
            [(name, end) for name in names for end in (*OUTCOMES.values(), OTHER, TIMEOUT)],
        )
        self._durations = families.histograms_by(
            "promptly_celery_task_duration_seconds",
            "Time that this worker's tasks have run.",
            ("task",),
            [(name,) for name in names],
            DURATIONS,
        )
        # By the ids of running tasks.
        self._started_at: dict[str, float] = {}

    def begin(self, task_id: str) -> None:
        """Note when a task starts."""
        self._started_at[task_id] = time.monotonic()

    def end(self, name: str, task_id: str, state: str | None) -> None:
        """Count a task that has ended in one of Celery's states."""
        started_at = self._started_at.pop(task_id, None)
        self._count(name, OUTCOMES.get(state or "", OTHER))
        histogram = self._durations.get((name,))
        if histogram is not None and started_at is not None:
            histogram.observe(time.monotonic() - started_at)

    def time_out(self, name: str) -> None:
        """Count a task whose process was killed because it took too long."""
        self._count(name, TIMEOUT)

    def _count(self, name: str, outcome: str) -> None:
        counter = self._ended.get((name, outcome))
        if counter is not None:
            counter.add()


def share(processes: int) -> None:
    """Share the memory with that many children; the first column is the main process's."""
    cells.share(processes + 1)


def use_column_of(child: int | None) -> None:
    """Count in the column of a child, by its number in the pool, from 0."""
    columns = cells.columns
    cells.use(None if child is None or child + 1 >= columns else child + 1)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # Without WSGIServer's reverse look-up of the host name.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()


class _IPv6Server(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = 5

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def address_string(self) -> str:
        return str(self.client_address[0])


def listen(host: str, port: int, allowed: Sequence[Network], key: Secret) -> WSGIServer:
    """Answer GET /metrics in threads of this process; raises OSError.

    Clients need an allowed address or the key. Port 0 takes any free one.
    """
    server = (_IPv6Server if ":" in host else _Server)((host, port), _Handler)
    server.set_app(_application(allowed, key))
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


def _application(allowed: Sequence[Network], key: Secret) -> Callable[..., list[bytes]]:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if not has_key(environ, key) and not _is_allowed(environ.get("REMOTE_ADDR", ""), allowed):
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"Not allowed.\n"]
        if environ["PATH_INFO"] != "/metrics" or environ["REQUEST_METHOD"] != "GET":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"GET /metrics\n"]
        encode, content_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        start_response("200 OK", [("Content-Type", content_type)])
        return [encode(families)]

    return application


def _is_allowed(peer: str, allowed: Sequence[Network]) -> bool:
    address = ipaddress.ip_address(peer.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in allowed)
