"""gunicorn: gevent workers that stream responses and drain on SIGTERM."""

# Must come first: modules imported after this wait cooperatively.
from gevent import monkey

monkey.patch_all()

import os
import signal
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gevent
from gunicorn.arbiter import Arbiter

from promptly.runtime import (
    address_counts,
    listener,
    logs,
    memory,
    psycopg_gevent,
    request_metrics,  # noqa: F401  (defines the metrics before their memory is shared)
    shared_metrics,
)
from promptly.setting_fields import SettingsError
from promptly.settings import END_SECONDS, from_environment

try:
    settings = from_environment()
except SettingsError as problem:
    logs.fail(problem.summary, problems=problem.problems)

logs.configure(settings.log_level)
logs.capture_uncaught()
psycopg_gevent.install(settings.database_timeout_seconds)

if settings.takes_stripe:
    # Import once before forking: it takes a second and 30 MB, which the workers then share.
    import_module("promptly.clients.stripe")

# Before workers are forked, which inherit it.
address_counts.share(settings.web_concurrency)
shared_metrics.cells.share(address_counts.columns_for(settings.web_concurrency))

bind = [f"{settings.gateway_bind}:{settings.gateway_port}"]
if settings.listener_socket:
    try:
        descriptor, listener_connection = listener.receive(settings.listener_socket)
    except OSError as problem:
        logs.fail(f"no listener at {settings.listener_socket}: {problem}")
    bind = [f"fd://{descriptor}"]
    if settings.gateway_private_socket:
        # As a descriptor as well: with one of them, gunicorn ignores every other address.
        private = listener.private_socket(Path(settings.gateway_private_socket))
        bind.append(f"fd://{private.detach()}")
workers = settings.web_concurrency
worker_class = "promptly.runtime.gunicorn_worker.Worker"
# Of each worker; with few places left, it closes those that are idle (CROWDED_PLACES).
worker_connections = 4000
# The parser in C if installed (on Linux that needs a compiler), otherwise gunicorn's own.
http_parser = "auto"
control_socket_disable = True
# Longer than a proxy in front keeps idle connections, so that none closes during a request.
keepalive = 75
# A worker silent for this long is hung; streams do not silence their worker.
timeout = 60
graceful_timeout = settings.drain_seconds + END_SECONDS
# For headers only, which promptly.runtime.client_reader bounds in total; the application bounds
# bodies.
limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 16380
# No peer is a proxy to gunicorn itself, not even on loopback: promptly.proxies reads what proxies
# forward. A SCRIPT_NAME from a header would start every link, and rendered documents are kept.
forwarder_headers = ""
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
proxy_protocol = "off"
# promptly logs its own line per request; gunicorn's would contain the query.
accesslog = None
logger_class = "promptly.runtime.gunicorn_logger.Logger"
loglevel = "warning"
proc_name = "promptly"


def on_starting(server: Any) -> None:
    """Warn of the slower parser, a variable's older name, an unknown proxy."""
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


def pre_fork(server: Any, worker: Any) -> None:
    """Let the worker count connections and requests where no living worker does."""
    used = {other.column for other in server.WORKERS.values()}
    worker.column = address_counts.counts.use_free_column(used)
    shared_metrics.cells.use(worker.column)


def child_exit(server: Any, worker: Any) -> None:
    """Take what a dead worker had open out of the metrics."""
    shared_metrics.cells.clear_gauges(worker.column)


def post_worker_init(worker: Any) -> None:
    """Check the pepper, apply PRICES, tune memory management, start the greenlet that drains."""
    import gc

    check_peppers(worker)
    apply_prices(worker)
    memory.return_large_blocks()

    # Loaded objects stay for good: exclude them from collection, and collect less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gevent.spawn(worker.drain_when_told)


def check_peppers(worker: Any) -> None:
    """End the gateway, before it serves, if the key of mailboxes' hashes has changed.

    In the workers, which have loaded the application anyway: with one worker, a master that loads
    it too takes 25 MB.
    Replacements of workers check nothing, because a failure would end the requests of the others.
    """
    if worker.age > worker.cfg.workers:
        return
    import psycopg2

    from promptly.errors import ServiceUnavailable
    from promptly.services.accounts import peppers

    try:
        peppers.register(worker.wsgi.extensions["hot_path_database"], settings)
    except SettingsError as problem:
        worker.log.error(problem.summary, extra={"problems": problem.problems})
        # With any other code gunicorn would start the next worker.
        sys.exit(Arbiter.WORKER_BOOT_ERROR)
    except (ServiceUnavailable, psycopg2.Error) as problem:
        # The first registration checks again.
        worker.log.warning("the pepper is checked later: %s", type(problem).__name__)


def apply_prices(worker: Any) -> None:
    """Put PRICES in force, if they have changed since the last start of a gateway.

    Replacements of workers do not: another gateway, with other PRICES, may have started since.
    """
    if worker.age <= worker.cfg.workers:
        worker.wsgi.extensions["gateway"].price_list.put_in_force()
