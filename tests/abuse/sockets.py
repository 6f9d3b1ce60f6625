"""Raw HTTP for attackers: what no client library would send, and what came back."""

import socket
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

READ_SECONDS = 30.0


def at_once(count: int, call: Callable[[], T]) -> list[T]:
    """Call a function in `count` threads at a time; return all results."""
    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(call) for _ in range(count)]]


def head(method: str, target: str, headers: Mapping[str, object] | None = None) -> bytes:
    """Return a request's head; `Host` is added."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def connect(port: int, seconds: float = READ_SECONDS) -> socket.socket:
    """Connect to a server on this machine, with a time limit for each operation."""
    return socket.create_connection(("127.0.0.1", port), timeout=seconds)


def status_of(answer: bytes) -> int | None:
    """Return the status of an answer; None if there was none."""
    line = answer.partition(b"\r\n")[0].split(b" ")
    return int(line[1]) if len(line) > 1 and line[1].isdigit() else None


def read_all(connection: socket.socket, limit: int = 1 << 20) -> bytes:
    """Read until the server closes; what came before a reset or the time limit counts."""
    answer = bytearray()
    with suppress(OSError):
        while len(answer) < limit and (data := connection.recv(65536)):
            answer += data
    return bytes(answer)


def pour(port: int, request: bytes, data: Iterable[bytes], seconds: float) -> bytes:
    """Send a head and then data as long as the server takes it, up to `seconds`.

    Return what was answered, also if the connection broke.
    """
    deadline = time.monotonic() + seconds
    with connect(port, seconds) as connection:
        with suppress(OSError):
            connection.sendall(request)
            for piece in data:
                if time.monotonic() > deadline:
                    break
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
        return read_all(connection)


def hold_open(port: int, requests: Iterable[bytes]) -> list[socket.socket]:
    """Open a connection for each unfinished request, and leave it at that."""
    held = []
    for request in requests:
        connection = connect(port)
        connection.sendall(request)
        held.append(connection)
    return held
