"""An honest client beside an attack: `python -m tests.abuse.neighbour PORT KEY`.

It streams answers of 20 tokens a second, asks for /health every 100 ms, and sends a signed Stripe
event every second, until its standard input ends. Then it prints what it saw as JSON. A process of
its own, since attackers in the same one would slow its clock.
"""

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from tests.support.load import messages, new_tag
from tests.support.signing import encode, snapshot, stripe_headers

STREAM_TOKENS = 40
STREAM = f"tokens={STREAM_TOKENS} delay_ms=50"
TIMEOUT_SECONDS = 60.0


@dataclass
class Seen:
    """Observations of the neighbour; times are seconds."""

    streams: int = 0
    health_checks: int = 0
    webhooks: int = 0
    largest_gap: float = 0.0
    slowest_health: float = 0.0
    slowest_webhook: float = 0.0
    problems: list[str] = field(default_factory=list)


class Neighbour:
    """Three clients, each in a thread of its own."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key
        self._over = threading.Event()
        self.seen = Seen()

    def run(self, until: Callable[[], object]) -> Seen:
        """Be a client until `until` returns."""
        rounds = ((self._stream, 0.0), (self._check_health, 0.1), (self._send_webhook, 1.0))
        threads = [threading.Thread(target=self._repeat, args=each) for each in rounds]
        for thread in threads:
            thread.start()
        until()
        self._over.set()
        for thread in threads:
            thread.join()
        return self.seen

    def _repeat(self, do: Callable[[http.client.HTTPConnection], None], pause: float) -> None:
        while not self._over.is_set():
            # A new connection each time: it may reach either worker.
            connection = http.client.HTTPConnection(
                "127.0.0.1", self._port, timeout=TIMEOUT_SECONDS
            )
            try:
                do(connection)
            except (OSError, http.client.HTTPException) as problem:
                self.seen.problems.append(f"{do.__name__}: {problem!r}")
            finally:
                connection.close()
            self._over.wait(pause)

    def _stream(self, connection: http.client.HTTPConnection) -> None:
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        body = {"messages": messages(new_tag(), STREAM), "stream": True}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            self.seen.problems.append(f"stream: {answer.status} {answer.read()[:300]!r}")
            return
        chunks, ended = 0, False
        last = time.monotonic()
        while line := answer.readline():
            if not line.startswith(b"data: "):
                continue
            now = time.monotonic()
            self.seen.largest_gap = max(self.seen.largest_gap, now - last)
            last = now
            ended = ended or line.startswith(b"data: [DONE]")
            chunks += b'"content"' in line
        # The first chunk carries the role, and several tokens may share a chunk's bytes.
        if not ended or chunks < STREAM_TOKENS // 2:
            self.seen.problems.append(f"stream: {chunks} chunks, ended: {ended}")
        self.seen.streams += 1

    def _check_health(self, connection: http.client.HTTPConnection) -> None:
        started = time.monotonic()
        connection.request("GET", "/health")
        answer = connection.getresponse()
        answer.read()
        self.seen.slowest_health = max(self.seen.slowest_health, time.monotonic() - started)
        self.seen.health_checks += 1
        if answer.status != 200:
            self.seen.problems.append(f"health: {answer.status}")

    def _send_webhook(self, connection: http.client.HTTPConnection) -> None:
        body = encode(snapshot(f"evt_{time.monotonic_ns()}"))
        started = time.monotonic()
        connection.request("POST", "/stripe/webhook", body, stripe_headers(body))
        answer = connection.getresponse()
        answer.read()
        self.seen.slowest_webhook = max(self.seen.slowest_webhook, time.monotonic() - started)
        self.seen.webhooks += 1
        if answer.status != 200:
            self.seen.problems.append(f"webhook: {answer.status}")


if __name__ == "__main__":
    found = Neighbour(int(sys.argv[1]), sys.argv[2]).run(sys.stdin.read)
    sys.stdout.write(json.dumps(asdict(found)))
