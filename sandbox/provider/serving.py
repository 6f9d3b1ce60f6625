"""The command line of a stand-in, and its main loop until SIGTERM."""

import argparse
import select
import signal
import socket
from pathlib import Path

from sandbox.files import write_atomically
from sandbox.provider.http import Server
from sandbox.provider.service import Service

TICK_SECONDS = 0.5


def parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the shared options. Keys are in the environment, hidden from others."""
    made = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    made.add_argument("--port", type=int, default=0, help="0 takes a free one")
    made.add_argument("--host", default="127.0.0.1", help="address to listen on")
    made.add_argument("--port-file", type=Path, help="where to write the port once it listens")
    made.add_argument("--state-file", type=Path, help="where to keep the state over a restart")
    made.add_argument("--webhook-url", default="", help="where events are delivered")
    made.add_argument(
        "--retry-seconds",
        type=lambda text: [float(item) for item in text.split(",") if item],
        default=[0.2, 0.5, 1.0, 2.0],
        help="waits before the further attempts to deliver an event",
    )
    return made


def serve(service: Service, title: str, arguments: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT; `arguments` are those of `parser`."""
    asked_to_stop = _stop_signals()
    server = Server(arguments.port, arguments.host)
    server.handler = service.handler(server.url)
    server.start()
    if arguments.port_file is not None:
        write_atomically(arguments.port_file, f"{server.port}\n")
    print(f"{title} on {server.url}", flush=True)
    while not select.select([asked_to_stop], [], [], TICK_SECONDS)[0]:
        service.tick()
    service.stopping.set()
    server.stop()
    service.tick()


def _stop_signals() -> socket.socket:
    """Return a socket that becomes readable on SIGTERM or SIGINT.

    A signal handler that sets an Event could run while the event's own lock is held (deadlock).
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return reader
