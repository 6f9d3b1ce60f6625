"""The part of HTTP/1.1 that llama-server speaks, on a bare asyncio protocol for speed."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

KEEP_ALIVE_SECONDS = 5.0
KEEP_ALIVE_REQUESTS = 100
KEPT = b"Keep-Alive: timeout=5, max=100"
CLOSED = b"Connection: close"
STRAY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + KEPT + b"\r\n\r\n{}"
MAX_HEAD_BYTES = 64 * 1024


@dataclass(slots=True)
class Request:
    """One complete request. Header names are in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


Handler = Callable[[Request, "Connection"], Awaitable[None]]


class Connection(asyncio.Protocol):
    """One client connection; its requests are handled one after the other.

    ``gone`` turns true as soon as the client closes, even if only its writing side: from then on
    nothing may be written, and every wait on this connection ends at once.
    """

    def __init__(self, handler: Handler, open_connections: "set[Connection]") -> None:
        self.gone = False
        self._handler = handler
        self._open = open_connections
        self._buffer = bytearray()
        self._served = 0
        self._is_last = False
        self._misconduct: tuple[str, float] | None = None
        self._drops_next = False
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._writable = True
        self._continued = False
        self._loop = asyncio.get_running_loop()

    @property
    def is_idle(self) -> bool:
        """Whether no request is being handled."""
        return self._task is None

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        # Bytes that the kernel does not accept at once cause backpressure immediately.
        transport.set_write_buffer_limits(high=0)
        self._open.add(self)
        self._rest()

    def data_received(self, data: bytes) -> None:
        if self._drops_next:
            self.reset()
            return
        self._buffer += data
        if self._task is None:
            self._next()

    def eof_received(self) -> bool:
        self._leave()
        return False  # close after flushing what was written

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self._leave()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self.wake()

    # Called by handlers.

    def write(self, data: bytes) -> None:
        """Send bytes; the caller must have checked ``gone`` since its last await."""
        self.transport.write(data)

    def begin(self, response: bytes) -> None:
        """Send the start of a response, with ``Connection: close`` if it is the last one."""
        if self._is_last:
            response = response.replace(KEPT, CLOSED, 1)
        self.transport.write(response)

    async def drain(self) -> None:
        """Wait until the kernel has accepted everything, or the client is gone."""
        while not self._writable and not self.gone:
            await self._wait()

    async def pause(self, seconds: float) -> None:
        """Wait until the time is up or the client is gone; zero lets the loop poll its sockets."""
        if seconds <= 0 or self.gone:
            await asyncio.sleep(0)
            return
        timer = self._loop.call_later(seconds, self.wake)
        try:
            await self._wait()
        finally:
            timer.cancel()

    def wait_for_turn(self) -> asyncio.Future[None]:
        """Return a future that completes when another request wakes it or the client is gone."""
        self._waiter = self._loop.create_future()
        return self._waiter

    def close(self) -> None:
        """Close after flushing what was written."""
        self.transport.close()

    def reset(self) -> None:
        """Close with a TCP reset: the client sees an error, not an end of file."""
        raw: socket.socket | None = self.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def misbehave(self, how: str, seconds: float) -> None:
        """Break the promise to keep the connection so many seconds after the present answer.

        `how` is close, reset, half_close, stray (an answer that nobody asked for) or drop (a reset
        when the next request comes).
        """
        self._misconduct = (how, seconds)

    # Internal.

    def _break_promise(self, how: str) -> None:
        if not self.is_idle or self.transport.is_closing():
            return
        if how == "close":
            self.transport.close()
        elif how == "reset":
            self.reset()
        elif how == "half_close":
            self.transport.write_eof()
        elif how == "stray":
            self.transport.write(STRAY)
        elif how == "drop":
            self._drops_next = True

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        await self._waiter
        self._waiter = None

    def wake(self) -> None:
        """End the wait of the request being handled."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _leave(self) -> None:
        self.gone = True
        if self._idle is not None:
            self._idle.cancel()
        self.wake()

    def _rest(self) -> None:
        self._idle = self._loop.call_later(KEEP_ALIVE_SECONDS, self.transport.close)

    def _next(self) -> None:
        request = self._parse()
        if request is None:
            return
        if self._idle is not None:
            self._idle.cancel()
        self._served += 1
        asked = request.headers.get("connection", "").lower() == "close"
        self._is_last = asked or self._served >= KEEP_ALIVE_REQUESTS
        self._task = self._loop.create_task(self._serve(request))

    async def _serve(self, request: Request) -> None:
        try:
            await self._handler(request, self)
        except Exception:
            self.transport.abort()
            raise
        finally:
            self._task = None
            if self.gone or self._is_last:
                self.transport.close()
            elif not self.transport.is_closing():
                self._rest()
                if self._misconduct is not None:
                    how, seconds = self._misconduct
                    self._misconduct = None
                    if seconds:
                        self._loop.call_later(seconds, self._break_promise, how)
                    else:
                        self._break_promise(how)
                self._next()

    def _parse(self) -> Request | None:
        """Take one complete request from the buffer, or return None."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return None
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        try:
            method, target, _ = lines[0].split(" ")
            pairs = (line.split(":", 1) for line in lines[1:])
            headers = {name.strip().lower(): value.strip() for name, value in pairs}
            taken = self._body(headers, end + 4)
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return None
        if taken is None:
            self._continue(headers)
            return None
        body, used = taken
        del self._buffer[:used]
        self._continued = False
        url = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        return Request(method, url.path, query, headers, body)

    def _body(self, headers: dict[str, str], start: int) -> tuple[bytes, int] | None:
        """Return the body and its end offset, or None while it is incomplete."""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunked_body(start)
        length = int(headers.get("content-length", "0"))
        if len(self._buffer) < start + length:
            return None
        return bytes(self._buffer[start : start + length]), start + length

    def _chunked_body(self, start: int) -> tuple[bytes, int] | None:
        body = bytearray()
        while (line_end := self._buffer.find(b"\r\n", start)) >= 0:
            size = int(self._buffer[start:line_end].split(b";")[0], 16)
            chunk = line_end + 2
            start = chunk + size + 2
            if len(self._buffer) < start:
                return None
            if size == 0:
                return bytes(body), start
            body += self._buffer[chunk : chunk + size]
        return None

    def _continue(self, headers: dict[str, str]) -> None:
        if headers.get("expect", "").lower() == "100-continue" and not self._continued:
            self._continued = True
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _refuse(self, status: HTTPStatus) -> None:
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Length: 0\r\n"
        self.transport.write(head.encode() + b"Connection: close\r\n\r\n")
        self.transport.close()
