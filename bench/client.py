"""The engine of the load generator: connections on one epoll loop, checking every answer."""

import select
import socket
import time
from collections import Counter
from dataclasses import dataclass, field

from bench import bodies
from bench.checks import Answer, Expectation
from promptly.services.accounts import key_format

_READ_BYTES = 1 << 18
_CONNECT_SECONDS = 10.0


@dataclass
class Plan:
    """A load plan: the requests, their timing, and the expected answers."""

    port: int
    key: str
    body: str
    connections: int
    status: int = 200
    streamed: bool = False
    tokens: int = 16
    bare_proxy: bool = False
    seconds: float = 3.0
    """How long requests are sent; with ``once``, the length of the measured window."""
    once: bool = False
    """Every connection sends one request, spread over ``ramp_seconds``: paced streams."""
    ramp_seconds: float = 1.0
    rate: float = 0.0
    """Requests per second over all connections; 0: each sends as soon as it is answered."""
    keys: list[str] = field(default_factory=list)
    """Keys of several accounts, used in turn instead of ``key``."""
    unknown_keys: int = 0
    """Number of well-formed but unknown keys, used in turn instead of ``key``."""
    headers: list[str] = field(default_factory=list)
    """More header lines for each request."""
    side_body: str = ""
    """A second body, posted once a second on its own connection."""
    cpu: int | None = None


class Line:
    """One connection and its current exchange, if any."""

    __slots__ = ("answer", "expect", "outbox", "request", "sock", "started")

    def __init__(self, request: bytes, expect: Expectation) -> None:
        self.request = request
        self.expect = expect
        self.sock: socket.socket
        self.outbox = memoryview(b"")
        self.answer: Answer | None = None
        self.started = 0.0


@dataclass
class Result:
    """Measurements of a run; times in seconds."""

    requests: int = 0
    chunks: int = 0
    reconnects: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    side_latencies: list[float] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)


class Client:
    """Opens connections, sends requests, and turns the answers into a ``Result``."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.warming = False
        self.result = Result()
        self.expect = Expectation(plan.status, plan.streamed, plan.tokens, plan.bare_proxy)
        self._epoll = select.epoll()
        self._lines: dict[int, Line] = {}
        unknown = [key_format.generate() for _ in range(plan.unknown_keys)]
        self._requests = [
            bodies.request(plan.body.encode(), key, plan.port, plan.headers)
            for key in unknown or plan.keys or [plan.key]
        ]
        self._serial = 0

    def main_line(self) -> Line:
        """Open a connection for the plan's main requests."""
        return self._connect(Line(b"", self.expect))

    def side_line(self) -> Line:
        """Open the connection for the plan's second body."""
        plan = self.plan
        request = bodies.request(plan.side_body.encode(), plan.key, plan.port, plan.headers)
        return self._connect(Line(request, Expectation(200, bare_proxy=plan.bare_proxy)))

    def send(self, line: Line) -> None:
        """Start an exchange."""
        if line.expect is self.expect:
            line.request = self._requests[self._serial % len(self._requests)]
            self._serial += 1
        line.answer = Answer()
        line.started = time.monotonic()
        line.outbox = memoryview(line.request)
        self._flush(line)

    def give_up(self, line: Line) -> None:
        """Drop an exchange: its late bytes would be taken for the next answer."""
        line.answer = None
        line.outbox = memoryview(b"")
        self._reconnect(line)

    def turn(self, until: float) -> list[Line]:
        """Wait for events, at most until ``until``; return the lines whose exchange ended.

        ``select`` does the waiting, because its timeout is finer than epoll's millisecond.
        """
        wait = max(0.0, until - time.monotonic())
        if not select.select([self._epoll.fileno()], [], [], wait)[0]:
            return []
        free = []
        for handle, event in self._epoll.poll(0):
            line = self._lines.get(handle)
            if line is None:
                continue
            if event & select.EPOLLOUT:
                self._flush(line)
            if event & ~select.EPOLLOUT and self._read(line):
                free.append(line)
        return free

    def _connect(self, line: Line) -> Line:
        line.sock = socket.create_connection(("127.0.0.1", self.plan.port), _CONNECT_SECONDS)
        line.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.sock.setblocking(False)
        self._lines[line.sock.fileno()] = line
        self._epoll.register(line.sock.fileno(), select.EPOLLIN)
        return line

    def _reconnect(self, line: Line) -> None:
        self.result.reconnects += 1
        del self._lines[line.sock.fileno()]
        line.sock.close()
        self._connect(line)

    def _flush(self, line: Line) -> None:
        was_waiting = bool(line.outbox) and line.outbox.nbytes < len(line.request)
        try:
            line.outbox = line.outbox[line.sock.send(line.outbox) :]
        except BlockingIOError:
            pass
        except OSError:  # the next read fails too, and counts the error
            line.outbox = memoryview(b"")
        if line.outbox or was_waiting:
            waiting = select.EPOLLOUT if line.outbox else 0
            self._epoll.modify(line.sock.fileno(), select.EPOLLIN | waiting)

    def _read(self, line: Line) -> bool:
        """Read what arrived; True if that ended the line's exchange."""
        try:
            data = line.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        answer = line.answer
        if answer is None:  # an idle connection was closed or sent bytes
            self.result.errors["bytes without a request"] += bool(data)
            self._reconnect(line)
            return False
        if not data:
            if answer.ends_at_eof():
                self._finish(line, answer)
            else:
                self.result.errors["connection closed before the end of the answer"] += 1
                line.answer = None
            self._reconnect(line)
            return True
        complete = answer.feed(data)
        if self.plan.once and line.expect is self.expect:
            self._note_lateness(answer)
        if not complete:
            return False
        self._finish(line, answer)
        if answer.closes:
            self._reconnect(line)
        return True

    def _note_lateness(self, answer: Answer) -> None:
        now = time.monotonic() * 1e6
        for stamp in answer.stamps():
            self.result.lateness.append((now - stamp) / 1e6)

    def _finish(self, line: Line, answer: Answer) -> None:
        line.answer = None
        elapsed = time.monotonic() - line.started
        result = self.result
        wrong = line.expect.wrong(answer)
        if wrong:
            result.errors[wrong] += 1
        elif line.expect is not self.expect:
            result.side_latencies.append(elapsed)
        elif not self.warming:
            result.requests += 1
            result.chunks += self.plan.tokens if self.plan.streamed else 0
            result.latencies.append(elapsed)
