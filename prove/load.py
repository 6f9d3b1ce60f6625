"""The clients: requests of every kind, one after another, some of which leave before the end."""

import http.client
import itertools
import json
import random
import socket
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

from tests.support.books import Account
from tests.support.kinds import KINDS, Kind

TIMEOUT_SECONDS = 90.0
CHARGED_KINDS = tuple(kind for kind in KINDS if kind.is_charged)
LEAVING_SHARE = 0.25
LONGEST_STAY_SECONDS = 2.5
MOST_TOKENS = 100
# Milliseconds between two tokens.
PACES = (5, 15, 40)
SLOW_PROMPT = " prefill_ms=1500 progress=6"
SLOW_PROMPT_SHARE = 0.1

_numbers = itertools.count(1)


@dataclass
class Request:
    """One request as its client saw it; times are Unix times in seconds.

    `end` is "whole" (a complete answer), "left" (the client closed the connection), "refused" (an
    error with a status) or "broken" (everything else). `request_id` is empty if no headers arrived.
    """

    tag: str
    user_id: int
    key_id: int
    started_at: float
    ended_at: float = 0.0
    status: int = 0
    request_id: str = ""
    end: str = "broken"


def send(
    port: int,
    account: Account,
    kind: Kind,
    directives: str,
    *,
    stay_seconds: float | None = None,
    record: list[Request] | None = None,
) -> Request:
    """Send one request and read its answer to the end, or for `stay_seconds`.

    `record` gets the request before it is sent. No failure is raised: all are in the result.
    """
    request = Request(f"p{next(_numbers):06d}", account.user_id, account.key_id, time.time())
    if record is not None:
        record.append(request)
    leaves_at = None if stay_seconds is None else time.monotonic() + stay_seconds
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.connect()
        body = kind.body(f"hello [[sim tag={request.tag} {directives}]]")
        headers = {**account.headers, "Content-Type": "application/json"}
        connection.request("POST", kind.path, json.dumps(body).encode(), headers)
        sock = connection.sock
        _stay_until(sock, leaves_at)
        with connection.getresponse() as response:
            request.status = response.status
            request.request_id = response.getheader("x-request-id") or ""
            text = b""
            while part := response.read1():
                text += part
                _stay_until(sock, leaves_at)
        if response.status != 200:
            request.end = "refused"
        elif kind.ending in text:
            request.end = "whole"
    except TimeoutError:
        request.end = "broken" if leaves_at is None else "left"
    except (OSError, http.client.HTTPException):
        pass
    finally:
        connection.close()
        request.ended_at = time.time()
    return request


def _stay_until(sock: socket.socket, leaves_at: float | None) -> None:
    """Let the next read last until then at most; raise TimeoutError if that is past."""
    if leaves_at is None:
        return
    remaining = leaves_at - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    sock.settimeout(remaining)


class Load:
    """Clients in threads, each with a key of its own; a context manager ends them.

    `requests` holds all requests, those that still run included.
    """

    def __init__(self, port: int, clients: list[Account], seed: int) -> None:
        self._port = port
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(len(clients), thread_name_prefix="client")
        self.requests: list[Request] = []
        self._futures: list[Future[None]] = [
            self._pool.submit(self._run, account, random.Random(f"{seed} client {number}"))
            for number, account in enumerate(clients)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()

    def ends(self) -> Counter[str]:
        """Return the number of ended requests by their end."""
        return Counter(request.end for request in list(self.requests) if request.ended_at)

    def check(self) -> None:
        """Raise the exception of a client that has failed; no client ends by itself."""
        for future in self._futures:
            if future.done():
                future.result()

    def finish(self) -> list[Request]:
        """Send no more requests, wait for running ones, and return all of them."""
        self._over.set()
        for future in self._futures:
            future.result()
        return self.requests

    def _run(self, account: Account, chance: random.Random) -> None:
        while not self._over.is_set():
            kind = chance.choice(CHARGED_KINDS)
            directives = f"tokens={chance.randint(1, MOST_TOKENS)} delay_ms={chance.choice(PACES)}"
            if chance.random() < SLOW_PROMPT_SHARE:
                directives += SLOW_PROMPT
            leaves = chance.random() < LEAVING_SHARE
            stay = chance.uniform(0.0, LONGEST_STAY_SECONDS)
            # An embedding has no output, so its client could only leave while nothing is counted.
            may_leave = leaves and kind.name != "embeddings"
            request = send(
                self._port,
                account,
                kind,
                directives,
                stay_seconds=stay if may_leave else None,
                record=self.requests,
            )
            pause = chance.uniform(0.0, 0.2)
            self._over.wait(pause if request.end in ("whole", "left") else pause + 0.3)
