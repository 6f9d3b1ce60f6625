"""One connection to Redis for the hot path: a packed command out, its reply in.

redis-py connects, signs in, chooses the database and speaks TLS. Around each exchange it does more
than the exchange itself costs, so that part is done here, under gevent with a socket that stays
registered with the event loop (promptly.runtime.readiness).
"""

import os
from typing import Any

from gevent.socket import socket as GeventSocket
from hiredis import PushNotification, Reader
from redis.connection import DefaultParser
from redis.exceptions import ConnectionError as BrokenConnection
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as LateReply

from promptly.runtime.readiness import Readiness

# redis-py's default of 64 KiB for each connection is more than the replies need.
READ_BYTES = 8 * 1024

_INCOMPLETE = object()


class RedisConnection:
    """A connection that opens on demand, and closes if a command ends without its reply.

    For one greenlet or thread at a time; under gevent, always of the same event loop.
    """

    __slots__ = ("_connection", "_pid", "_pool", "_reader", "_readiness", "_socket")

    def __init__(self, pool: Any) -> None:
        """Take the address and the credentials from a pool of redis-py's."""
        self._pool = pool
        self._connection: Any = None
        self._socket: Any = None
        self._reader: Any = None
        self._readiness: Readiness | None = None
        self._pid = 0

    def exchange(self, command: bytes) -> Any:
        """Send a packed command and return its reply.

        Raises redis.ResponseError if the reply is an error, other kinds of redis.RedisError if
        there is none.
        """
        # A fork leaves both processes with the same connection.
        if self._connection is not None and self._pid == os.getpid():
            try:
                return self._exchange(command)
            except BrokenConnection:
                # It was stale: a new one shows whether Redis is down.
                pass
        self._open()
        return self._exchange(command)

    def close(self) -> None:
        """Close the connection; the next command opens it again."""
        if self._readiness is not None:
            self._readiness.close()
            self._readiness = None
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = self._socket = self._reader = None

    def _open(self) -> None:
        self.close()
        # The pool's own method counts all it ever made, and refuses after the hundredth.
        connection = self._pool.connection_class(**self._pool.connection_kwargs)
        connection.connect()
        self._connection = connection
        self._pid = os.getpid()
        self._socket = connection._get_socket()
        self._reader = Reader(
            protocolError=InvalidResponse,
            replyError=DefaultParser.parse_error,
            notEnoughData=_INCOMPLETE,
        )
        # Neither without gevent nor under TLS, where the library may hold bytes that epoll does
        # not see: there the socket's own timeout limits each wait.
        if type(self._socket) is GeventSocket:
            self._readiness = Readiness(self._socket.fileno())
            self._readiness.wait_at_most(connection.socket_timeout)

    def _exchange(self, command: bytes) -> Any:
        try:
            sent = self._socket.send(command)
            if sent < len(command):
                self._socket.sendall(command[sent:])
            reply = self._read()
        except BaseException as problem:
            # Also when the greenlet is killed: the next command must not read this reply.
            self.close()
            if isinstance(problem, TimeoutError):
                raise LateReply from problem
            if isinstance(problem, OSError):
                raise BrokenConnection from problem
            raise
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _read(self) -> Any:
        while True:
            if self._readiness is not None and not self._readiness.wait():
                raise TimeoutError
            data = self._socket.recv(READ_BYTES)
            if not data:
                raise ConnectionResetError
            self._reader.feed(data)
            reply = self._reader.gets()
            while type(reply) is PushNotification:
                # Sent by Redis of its own accord.
                reply = self._reader.gets()
            if reply is not _INCOMPLETE:
                return reply
