"""The requests of one connection, read by gunicorn's parser in C or its own in Python.

Both parse heads only; bodies are read as the application asks for them. Here a client that waits
for `100 Continue` gets it when the application first reads, so that a refusal is not preceded by
it, and the part of a body that the application did not read is discarded after the response.
"""

from typing import Any

from gevent.socket import socket
from gunicorn.http import body, message
from gunicorn.http.errors import InvalidChunkSize, ParseException

from promptly.runtime.client_reader import (
    DISCARD_BYTES,
    HEAD_BYTES,
    PIECE_BYTES,
    ClientReader,
    linger,
)
from promptly.runtime.idle_connections import IdleConnections

# Decoding a chunk costs the same whatever its size: an average of 256 bytes for the largest body.
MOST_CHUNKS = 65_536


class ParserSettings:
    """gunicorn's settings as they are when this is created, as plain attributes.

    gunicorn's parsers look at a dozen of them for each request, and its own object computes each.
    """

    def __init__(self, configuration: Any) -> None:
        self.is_ssl = configuration.is_ssl
        for name, setting in configuration.settings.items():
            setattr(self, name, setting.get())
        # Peers' addresses are read from headers instead (promptly/proxies.py).
        self.proxy_protocol = "off"


class ChunkedReader(body.ChunkedReader):  # type: ignore[misc]
    """A chunked body, with a bound on the number of its chunks and on its trailers."""

    def __init__(self, request: "Request", reader: ClientReader) -> None:
        super().__init__(request, reader)
        self.limit_trailer_section = HEAD_BYTES
        self._chunks = 0

    def parse_chunk_size(self, unreader: ClientReader, data: bytes | None = None) -> Any:
        self._chunks += 1
        if self._chunks > MOST_CHUNKS:
            raise InvalidChunkSize(b"too many chunks")
        return super().parse_chunk_size(unreader, data)


class Body(body.Body):  # type: ignore[misc]
    """A body of which nothing more is read once a time limit has interrupted a read.

    gunicorn's goes on after exceptions that are not errors, such as gevent's timeouts. But the
    interrupted parser of chunks has then lost its place: what follows would be read as a request.
    """

    def _read_reader(self, size: int) -> bytes:
        try:
            received: bytes = self.reader.read(size)
        except BaseException:
            self.failed = True
            raise
        return received

    @property
    def has_arrived(self) -> bool:
        """Whether the body is small and came with its headers, so that reading it does not wait."""
        reader = self.reader
        return (
            isinstance(reader, body.LengthReader)
            and reader.length <= PIECE_BYTES
            and reader.unreader.has_received(reader.length)
        )

    def read_onto(self, whole: bytearray) -> int:
        """Append what has arrived to a body, after waiting for it; return 0 at the end.

        A body of known length is not copied on its way, and arrives in pieces as large as possible.
        """
        if isinstance(self.reader, ContinueFirst):
            self.reader.send()
        if not isinstance(self.reader, body.LengthReader):
            received = self.read(PIECE_BYTES)
            whole += received
            return len(received)
        if not self.reader.length:
            return 0
        try:
            size: int = self.reader.unreader.receive_onto(whole, self.reader.length)
        except BaseException:
            self.failed = True
            raise
        self.reader.length -= size
        return size


class ContinueFirst:
    """A body whose client waits for `100 Continue`, which the first read sends."""

    def __init__(self, whole: Body, client: socket) -> None:
        self._body = whole
        self._reader = whole.reader
        self._client = client

    def send(self) -> None:
        self._body.reader = self._reader
        self._client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def read(self, size: int) -> bytes:
        self.send()
        received: bytes = self._reader.read(size)
        return received


class Request(message.Request):  # type: ignore[misc]
    """A request whose connection can only be used again if its body's end can be found."""

    unreader: ClientReader
    body: Body
    _expected_100_continue: bool

    def _peer_trusted_for_forwarded(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """Trust no peer, as gunicorn.conf.py says, without parsing its address each time."""
        return {}, ()

    def set_body_reader(self) -> None:
        super().set_body_reader()
        self.body = Body(self.body.reader)
        if isinstance(self.body.reader, body.ChunkedReader):
            self.body.reader = ChunkedReader(self, self.unreader)
        if self._expected_100_continue:
            # gunicorn would send it before the application has seen the request.
            self._expected_100_continue = False
            if self.unread_bytes:
                self.body.reader = ContinueFirst(self.body, self.unreader.sock)

    @property
    def unread_bytes(self) -> int:
        """How much of the body is still to be read; 1 if that is unknown."""
        reader = self.body.reader
        if isinstance(reader, body.LengthReader):
            return int(reader.length)
        return int(not isinstance(reader, ChunkedReader) or reader.parser is not None)

    def should_close(self) -> bool:
        """Return whether no other request may follow; also asked for the response's headers."""
        return (
            # The client may never send a body that it was not told to send.
            isinstance(self.body.reader, ContinueFirst)
            or self.body.failed
            or self.unread_bytes > DISCARD_BYTES
            or super().should_close()
        )


class ClientConnection:
    """Reads one request after the other; `close` it before the socket."""

    def __init__(
        self, settings: ParserSettings, client: socket, peer: Any, idle: IdleConnections
    ) -> None:
        self._settings = settings
        self._client = client
        self._peer = peer
        self._idle = idle
        self._reader = ClientReader(client)

    @property
    def is_pipelined(self) -> bool:
        """Whether the client sent more before it had a response."""
        return self._reader.buffered_bytes > 0

    def next_request(self) -> Request | None:
        """Return the next request; None if there is none until the connection ends.

        Raises a ParseException, or OSError if the connection breaks within a head.
        """
        self._reader.start_head()
        self._idle.add(self._client)
        try:
            return Request(self._settings, self._reader, self._peer)
        except StopIteration:
            return None
        finally:
            self._idle.remove(self._client)
            self._reader.end_head()

    def discard_body(self, request: Request) -> bool:
        """Read the rest of a body and drop it; return whether another request can follow."""
        if not request.unread_bytes:
            return True
        remaining = DISCARD_BYTES
        try:
            with self._reader.discarding():
                while received := request.body.read(PIECE_BYTES):
                    remaining -= len(received)
                    if remaining < 0:
                        return False
        except (ParseException, OSError):
            return False
        return True

    def end(self, request: Request | None) -> None:
        """Let the client receive the last response, then leave the socket to be closed."""
        if request is None or request.unread_bytes or self.is_pipelined:
            linger(self._client)

    def close(self) -> None:
        """Stop waiting for the client; leaves the socket open."""
        self._reader.close()
