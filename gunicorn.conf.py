"""gunicorn: gevent workers that stream, and drain on SIGTERM."""

# First of all: whatever is imported after this waits cooperatively.
from gevent import monkey

monkey.patch_all()

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from promptly.runtime import psycopg_gevent
from promptly.settings import SettingsError, from_environment

try:
    settings = from_environment()
except SettingsError as problem:
    raise SystemExit(str(problem)) from None

psycopg_gevent.install(settings.database_timeout_seconds)

if settings.takes_stripe:
    # Once, before the workers: it takes a second and 30 MB that they then share.
    import_module("promptly.clients.stripe")

bind = f"{settings.gateway_bind}:{settings.gateway_port}"
workers = settings.web_concurrency
worker_class = "promptly.runtime.gunicorn_worker.Worker"
worker_connections = 4000
# The one in C where it is installed, which on Linux takes a compiler; else gunicorn's own.
http_parser = "auto"
control_socket_disable = True
# Longer than a proxy in front keeps its connections, so that none is closed under a request.
keepalive = 75
# A worker that is silent for so long hangs; streams keep their worker alive, not silent.
timeout = 60
graceful_timeout = settings.graceful_timeout_seconds
# Headers only; bodies are bounded by the application.
limit_request_line = 8190
limit_request_field_size = 16380
# promptly writes one line of its own for each request; gunicorn's would hold the query.
accesslog = None
errorlog = "-"
loglevel = "warning"
proc_name = "promptly"


def on_starting(server: Any) -> None:
    """Say once what requests cost more for."""
    if find_spec("gunicorn_h1c") is None:
        server.log.warning("gunicorn_h1c is not installed: requests are parsed in Python")


def post_worker_init(worker: Any) -> None:
    """Settle in for a long run, and drain when told to go."""
    import gc

    import gevent

    # What is loaded stays: the collector need not look at it again, nor come by so often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gevent.spawn(worker.drain_when_told)
