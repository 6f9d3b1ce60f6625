"""Honest clients of every kind of request, one connection each, and a record of all they saw."""

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from sandbox.process import wait_until
from tests.support.kinds import KINDS, Kind

TIMEOUT_SECONDS = 60.0
# About half a second of answer.
SHORT = "tokens=20 delay_ms=25"
PAUSE_SECONDS = 0.1

_numbers = itertools.count(1)


@dataclass
class Call:
    """One request and its outcome; `problem` is empty if the answer was complete."""

    kind: str
    user_id: int
    tag: str
    is_charged: bool
    request_id: str = ""
    problem: str = "not answered"
    started_at: float = 0.0
    ended_at: float = 0.0


def call(port: int, key: str, user_id: int, kind: Kind, directives: str = SHORT) -> Call:
    """Send one request, read its answer to the end, and return the record."""
    made = Call(kind.name, user_id, f"u{next(_numbers):06d}", kind.is_charged)
    send(port, key, kind, made, directives)
    return made


def send(port: int, key: str, kind: Kind, made: Call, directives: str) -> None:
    """Send the request of a record, and fill the record in."""
    body = kind.body(f"hello [[sim tag={made.tag} {directives}]]")
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    made.started_at = time.monotonic()
    try:
        connection.request("POST", kind.path, json.dumps(body), headers)
        answer = connection.getresponse()
        made.request_id = answer.getheader("x-promptly-request-id") or ""
        text = answer.read()
        complete = answer.status == 200 and kind.ending in text
        made.problem = "" if complete else f"{answer.status} {text[-300:]!r}"
    except (OSError, http.client.HTTPException) as problem:
        made.problem = repr(problem)
    finally:
        connection.close()
        made.ended_at = time.monotonic()


class Traffic:
    """Clients in threads, each with one account and one kind; a context manager ends them."""

    def __init__(self, port: int, clients: int) -> None:
        self._port = port
        self._pool = ThreadPoolExecutor(clients)
        self._futures: list[Future[object]] = []
        self._over = threading.Event()
        self.calls: list[Call] = []

    def __enter__(self) -> "Traffic":
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()

    def repeat(self, key: str, user_id: int, kind: Kind) -> None:
        """Start a client that sends one request after another until the end."""

        def run() -> None:
            while not self._over.is_set():
                self.calls.append(call(self._port, key, user_id, kind))
                self._over.wait(PAUSE_SECONDS)

        self._futures.append(self._pool.submit(run))

    def start(self, key: str, user_id: int, kind: Kind, directives: str) -> Call:
        """Send one long request; its record is filled in while it runs."""
        made = Call(kind.name, user_id, f"u{next(_numbers):06d}", kind.is_charged)
        self.calls.append(made)
        self._futures.append(self._pool.submit(send, self._port, key, kind, made, directives))
        return made

    def go_on(self, seconds: float, each: int) -> None:
        """Let the clients run for some time, and until each kind had so many more answers."""
        started, before = time.monotonic(), self._answers()

        def is_enough() -> bool:
            now = self._answers()
            enough = all(now[kind.name] >= before[kind.name] + each for kind in KINDS)
            return enough and time.monotonic() - started >= seconds

        wait_until(is_enough, seconds + 60, f"{each} more answers of each kind")

    def finish(self) -> list[Call]:
        """Send no more requests, wait for those that run, and return all records."""
        self._over.set()
        for future in self._futures:
            future.result()
        return self.calls

    def failed(self) -> list[Call]:
        """Return the calls that ended without a complete answer, so far."""
        return [made for made in list(self.calls) if made.ended_at and made.problem]

    def _answers(self) -> Counter[str]:
        return Counter(made.kind for made in list(self.calls) if not made.problem)
