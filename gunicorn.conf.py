"""gunicorn: gevent workers that stream responses and drain on SIGTERM."""

# Must come first: modules imported after this wait cooperatively.
from gevent import monkey

monkey.patch_all()

import os
import signal
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gevent

from promptly.runtime import listener, psycopg_gevent
from promptly.settings import END_SECONDS, SettingsError, from_environment

try:
    settings = from_environment()
except SettingsError as problem:
    raise SystemExit(str(problem)) from None

psycopg_gevent.install(settings.database_timeout_seconds)

if settings.takes_stripe:
    # Import once before forking: it takes a second and 30 MB, which the workers then share.
    import_module("promptly.clients.stripe")

bind = [f"{settings.gateway_bind}:{settings.gateway_port}"]
if settings.listener_socket:
    try:
        descriptor, listener_connection = listener.receive(settings.listener_socket)
    except OSError as problem:
        raise SystemExit(f"no listener at {settings.listener_socket}: {problem}") from None
    bind = [f"fd://{descriptor}"]
    if settings.gateway_private_socket:
        # As a descriptor as well: with one of them, gunicorn ignores every other address.
        private = listener.private_socket(Path(settings.gateway_private_socket))
        bind.append(f"fd://{private.detach()}")
workers = settings.web_concurrency
worker_class = "promptly.runtime.gunicorn_worker.Worker"
worker_connections = 4000
# The parser in C if installed (on Linux that needs a compiler), otherwise gunicorn's own.
http_parser = "auto"
control_socket_disable = True
# Longer than a proxy in front keeps idle connections, so that none closes during a request.
keepalive = 75
# A worker silent for this long is hung; streams do not silence their worker.
timeout = 60
graceful_timeout = settings.drain_seconds + END_SECONDS
# For headers only; the application bounds bodies.
limit_request_line = 8190
limit_request_field_size = 16380
# No header may set SCRIPT_NAME: links start with it, and rendered documents are kept for everybody.
forwarder_headers = ""
# promptly logs its own line per request; gunicorn's would contain the query.
accesslog = None
errorlog = "-"
loglevel = "warning"
proc_name = "promptly"


def on_starting(server: Any) -> None:
    """Warn once of the slower HTTP parser, a variable's older name and an unknown proxy."""
    if find_spec("gunicorn_h1c") is None:
        server.log.warning("gunicorn_h1c is not installed: requests are parsed in Python")
    if settings.graceful_timeout_seconds:
        server.log.warning(
            "GRACEFUL_TIMEOUT_SECONDS is an older name: set DRAIN_SECONDS=%s instead",
            settings.drain_seconds,
        )
    if settings.base_url.startswith("https:") and settings.trusted_proxy_hops == 0:
        server.log.warning(
            "BASE_URL is https, but TRUSTED_PROXY_HOPS is 0: set it to the number of proxies, "
            "otherwise all clients share one limit, and the panel refuses them"
        )


def when_ready(server: Any) -> None:
    """Watch the listener: without it the socket we have is, or soon will be, reached by nobody."""

    def stop_without_listener() -> None:
        listener_connection.recv(1)
        # The workers inherit this greenlet; a master that drains has closed its sockets.
        if os.getpid() == server.pid and server.LISTENERS:
            server.log.error("the listener has ended: restart to use its successor's socket")
            os.kill(server.pid, signal.SIGQUIT)

    if settings.listener_socket:
        gevent.spawn(stop_without_listener)


def post_worker_init(worker: Any) -> None:
    """Tune garbage collection for a long run, and start the greenlet that drains on shutdown."""
    import gc

    # Loaded objects stay for good: exclude them from collection, and collect less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gevent.spawn(worker.drain_when_told)
