"""Connections to one server that wait for their next request, if the server announces to keep them.

Reuse must never lose a request to a server that is just closing the connection: a request may be
fatal to servers, so it is not simply sent again. See ADR 37.
"""

import re
import ssl
import time
import weakref
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from promptly.clients.connections import Address, Connection

# Per process and server, or model of a router. An idle connection occupies a thread of llama-server
# for up to 5 s.
MAX_IDLE = 2
# Of the announced time, from when the last request was sent: the server cannot have begun to count
# any earlier, however late its answer was read here.
USABLE_PART = 0.5

_TIMEOUT = re.compile(rb"\btimeout=(\d+)")
_MAX = re.compile(rb"\bmax=(\d+)")


@lru_cache(maxsize=16)
def announced(keep_alive: bytes) -> tuple[int, int]:
    """Parse a Keep-Alive header: idle seconds, and answers of one connection.

    Zero seconds, that is no reuse, if it does not say how long.
    """
    seconds, answers = _TIMEOUT.search(keep_alive), _MAX.search(keep_alive)
    return int(seconds[1]) if seconds else 0, int(answers[1]) if answers else 1_000_000


@dataclass(frozen=True, slots=True)
class KeptConnection:
    """A connection and the number of `answers` that it has had; unused after `usable_until`.

    That time is monotonic.
    """

    connection: Connection
    answers: int
    usable_until: float


class KeptConnections:
    """At most MAX_IDLE idle connections; the last one kept is the first one reused."""

    def __init__(self) -> None:
        self._idle: list[KeptConnection] = []
        weakref.finalize(self, _close_all, self._idle)

    def keep(self, kept: KeptConnection) -> None:
        """Keep a connection that has no answer to receive."""
        self._idle.append(kept)
        if len(self._idle) > MAX_IDLE:
            self._idle.pop(0).connection.socket.close()

    def take(self, addresses: Collection[Address]) -> KeptConnection | None:
        """Return a usable connection to one of the server's `addresses`, if there is one."""
        while self._idle:
            kept = self._idle.pop()
            if (
                kept.usable_until > time.monotonic()
                and kept.connection.address in addresses
                and _is_silent(kept.connection)
            ):
                return kept
            kept.connection.socket.close()
        return None


class Exchange:
    """One request and its answer on a connection that may be kept; takes part in the parsing.

    `answers` is how many the connection has had before, `sent_at` when the request was sent
    (monotonic).
    """

    __slots__ = (
        "_answers",
        "_connection",
        "_ends",
        "_has_length",
        "_kept",
        "_max_answers",
        "_messages",
        "_seconds",
        "_sent_at",
    )

    def __init__(
        self, connection: Connection, kept: KeptConnections, answers: int, sent_at: float
    ) -> None:
        self._connection = connection
        self._kept = kept
        self._answers = answers
        self._sent_at = sent_at
        self._seconds = self._max_answers = 0
        self._messages = 0
        self._has_length = self._ends = False

    @property
    def is_reused(self) -> bool:
        """Whether the connection has had other answers before."""
        return self._answers > 0

    # Callbacks of httptools.

    def on_message_begin(self) -> None:
        self._messages += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"keep-alive":
            self._seconds, self._max_answers = announced(value)
        elif name == b"content-length":
            self._has_length = True
        elif name == b"connection" and value.lower() != b"keep-alive":
            self._ends = True

    def end(self, *, is_complete: bool) -> None:
        """Keep the connection if the server does, else close it.

        A streamed answer has no length: llama-server announces to keep its connection as well, but
        closes it.
        """
        usable_until = self._sent_at + self._seconds * USABLE_PART
        answers = self._answers + 1
        if (
            is_complete
            and self._has_length
            and not self._ends
            # Otherwise there is more than the answer.
            and self._messages == 1
            # The server ends a connection with the last answer.
            and answers + 1 < self._max_answers
            and usable_until > time.monotonic()
        ):
            self._kept.keep(KeptConnection(self._connection, answers, usable_until))
        else:
            self._connection.socket.close()


def _is_silent(connection: Connection) -> bool:
    """Return whether the server has neither closed the connection nor sent anything unasked."""
    opened = connection.socket
    try:
        if isinstance(opened, ssl.SSLSocket):
            opened.setblocking(False)
        opened.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False
    return False


def _close_all(idle: list[KeptConnection]) -> None:
    for kept in idle:
        kept.connection.socket.close()
