"""flask upstreams: the model servers, and taking one out of service for a restart."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click
from flask.cli import AppGroup

from promptly.cli.operators import operator
from promptly.cli.output import json_option, reports_errors, show_object, show_rows
from promptly.clock import utcnow
from promptly.gateway import Gateway, current_gateway, server_states
from promptly.gateway.drained_servers import TRUSTED_SECONDS
from promptly.services import drains
from promptly.transactions import transaction

group = AppGroup("upstreams", help="Model servers: list, drain, resume.")

WAIT_SECONDS = 600
# Until every process has read that a server is drained, and what it began before is on its way.
KNOWN_SECONDS = TRUSTED_SECONDS + 1
POLL_SECONDS = 0.5

url_argument = click.argument("url")


@group.command("list")
@json_option
def list_upstreams(as_json: bool) -> None:
    """List the model servers, as they and Redis answer now."""
    gateway = current_gateway()
    server_states.probe_all(gateway)
    with transaction():
        servers = server_states.model_servers(
            gateway, drains.drained(), server_states.read_slots(gateway)
        )
        rows = [
            (
                server.upstream.url,
                server.upstream.model or None,
                server.state.value,
                server.running,
                server.upstream.slots or None,
                server.upstream.n_ctx or None,
                server.probe,
                server.drain and server.drain.since,
                server.drain and server.drain.by,
                server.drain and server.drain.note,
            )
            for server in servers
        ]
    columns = ("url", "model", "state", "slots_used", "slots_total", "n_ctx", "probe")
    drain_columns = ("drained_since", "drained_by", "note")
    if not as_json and all(row[7] is None for row in rows):
        show_rows(columns, [row[:7] for row in rows], as_json)
    else:
        show_rows((*columns, *drain_columns), rows, as_json)


@group.command("drain")
@url_argument
@click.option(
    "--wait",
    "wait_seconds",
    is_flag=False,
    flag_value=str(WAIT_SECONDS),
    type=click.IntRange(1, 86_400),
    metavar="[SECONDS]",
    help=f"Wait until it runs no request, {WAIT_SECONDS} s unless you say how long;"
    " the exit code is 1 if some still run then. Give it after the URL.",
)
@click.option("--note", help="Why; shown in the list and in the panel.")
@json_option
@reports_errors
def drain(url: str, wait_seconds: int | None, note: str | None, as_json: bool) -> None:
    """Send a model server no new request; those that it runs go on.

    URL is a configured one, its host:port, or how only this one begins.
    """
    gateway = current_gateway()
    found = _find(gateway, url)
    with transaction():
        is_new = drains.drain(found, operator(), note) is not None
        since = drains.drained()[found].since
    running = None
    if wait_seconds is not None:
        known_in = KNOWN_SECONDS - min((utcnow() - since) / timedelta(seconds=1), KNOWN_SECONDS)
        running = _wait(lambda: server_states.count_running(gateway, found), known_in, wait_seconds)
    values: dict[str, Any] = {"url": found, "drained": True, "changed": is_new}
    if wait_seconds is not None:
        values["running"] = running
    show_object(values, as_json)
    if wait_seconds is not None and running != 0:
        still = "it is not known how many requests run" if running is None else f"{running} run"
        click.echo(f"Not idle after {wait_seconds} s: {still}.", err=True)
        raise SystemExit(1)


@group.command("resume")
@url_argument
@json_option
@reports_errors
def resume(url: str, as_json: bool) -> None:
    """Send a drained model server requests again.

    URL is a configured one, its host:port, or how only this one begins.
    """
    with transaction():
        # One that is not configured any more can be resumed too, or it would stay in the table.
        known = [*_urls(current_gateway()), *drains.drained()]
        found = drains.find(url, known)
        changed = drains.resume(found, operator()) is not None
    show_object({"url": found, "drained": False, "changed": changed}, as_json)


def _urls(gateway: Gateway) -> list[str]:
    return [server.url for server in gateway.pool.servers]


def _find(gateway: Gateway, url: str) -> str:
    return drains.find(url, _urls(gateway))


def _wait(count: Callable[[], int | None], known_in: float, limit_seconds: float) -> int | None:
    """Wait until nothing runs, at least for `known_in` seconds; return how many run at the end."""
    began_at = time.monotonic()
    shown: int | None = None
    while True:
        running = count()
        elapsed = time.monotonic() - began_at
        if (running == 0 and elapsed >= known_in) or elapsed >= limit_seconds:
            # Before that some process may not know yet, and send it one more.
            return running if elapsed >= known_in else None
        if running != shown and running:
            shown = running
            requests = "1 request" if running == 1 else f"{running} requests"
            click.echo(f"{requests} running", err=True)
        time.sleep(min(POLL_SECONDS, max(limit_seconds - elapsed, 0.01)))
