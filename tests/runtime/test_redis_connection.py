"""One connection to Redis: replies in time and of the right command, or none."""

import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent.os
import gevent.socket
import gevent.ssl
import pytest
import redis
from hiredis import pack_command

from promptly.runtime.redis_connection import READ_BYTES, RedisConnection
from tests.proxies.nginx import Certificate
from tests.support.scripted_redis import ScriptedRedis

Answer = Callable[[list[bytes]], bytes | None]


@pytest.fixture(params=["plain", "gevent"])
def sockets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have redis-py open sockets of this kind."""
    kind: str = request.param
    if kind == "gevent":
        monkeypatch.setattr(redis.connection, "socket", gevent.socket)
        monkeypatch.setattr(redis.connection, "ssl", gevent.ssl)
    return kind


Connect = Callable[..., RedisConnection]


@pytest.fixture
def connect(sockets: str) -> Iterator[Connect]:
    """Factory of connections to a URL."""
    opened: list[RedisConnection] = []

    def connect(url: str, **options: Any) -> RedisConnection:
        pool = redis.ConnectionPool.from_url(url, socket_timeout=0.5, **options)
        opened.append(RedisConnection(pool))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


def exchange(connection: RedisConnection, *command: Any) -> Any:
    return connection.exchange(pack_command(command))


def echo(command: list[bytes]) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(command[-1]), command[-1])


def test_one_connection_carries_many_commands(connect: Connect) -> None:
    with ScriptedRedis(echo) as server:
        connection = connect(server.url)
        for size in (0, 1, READ_BYTES, 3_000_000, 5):
            text = b"x" * size
            assert exchange(connection, "ECHO", text) == text
        assert len(server.connections) == 1


def test_a_reply_in_pieces(connect: Connect) -> None:
    pieces = iter([b"", b"$5\r", b"\nhe", b"llo\r\n+n", b"ext\r\n"])
    with ScriptedRedis(lambda command: next(pieces)) as server:
        connection = connect(server.url)
        # The server sends one piece for each of these at once.
        commands = pack_command(("PING",)) * 5
        assert connection.exchange(commands) == b"hello"


def test_a_cut_reply_is_asked_for_again_on_a_new_connection(connect: Connect) -> None:
    replies = iter([b"+one\r\n", b"$5\r\nhel", None, b"+two\r\n", b""])
    with ScriptedRedis(lambda command: next(replies)) as server:
        connection = connect(server.url)
        assert exchange(connection, "PING") == b"one"
        # The second of these two closes the connection in the middle of the reply to the first.
        assert connection.exchange(pack_command(("PING",)) * 2) == b"two"
        assert len(server.connections) == 2


def test_a_new_connection_that_breaks_is_an_error(connect: Connect) -> None:
    with ScriptedRedis(lambda command: None) as server:
        connection = connect(server.url)
        with pytest.raises(redis.ConnectionError):
            exchange(connection, "PING")
        assert len(server.connections) == 1


@pytest.mark.parametrize("beginning", [b"", b"$5\r\nhel"], ids=["silence", "a part"])
def test_a_late_reply_answers_no_other_command(connect: Connect, beginning: bytes) -> None:
    def answer(command: list[bytes]) -> bytes:
        return beginning if command[-1] == b"lost" else echo(command)

    with ScriptedRedis(answer) as server:
        connection = connect(server.url)
        assert exchange(connection, "ECHO", "first") == b"first"
        with pytest.raises(redis.TimeoutError):
            exchange(connection, "ECHO", "lost")
        assert exchange(connection, "ECHO", "second") == b"second"
        assert len(server.connections) == 2


def test_a_killed_greenlet_leaves_no_reply_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis.connection, "socket", gevent.socket)

    def answer(command: list[bytes]) -> bytes:
        return b"" if command[-1] == b"lost" else echo(command)

    with ScriptedRedis(answer) as server:
        connection = RedisConnection(redis.ConnectionPool.from_url(server.url, socket_timeout=30))
        assert exchange(connection, "ECHO", "first") == b"first"
        waiting = gevent.spawn(exchange, connection, "ECHO", "lost")
        gevent.sleep(0)
        waiting.kill()
        assert exchange(connection, "ECHO", "second") == b"second"
        connection.close()
        assert len(server.connections) == 2


def test_greenlets_wait_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis.connection, "socket", gevent.socket)
    sent: list[str] = []
    with ScriptedRedis(echo) as server:
        pool = redis.ConnectionPool.from_url(server.url, socket_timeout=30)
        connections = [RedisConnection(pool) for _ in range(5)]

        def ask(number: int) -> None:
            for turn in range(20):
                text = f"{number} {turn}"
                sent.append(text)
                assert exchange(connections[number], "ECHO", text) == text.encode()

        gevent.joinall([gevent.spawn(ask, number) for number in range(5)], raise_error=True)
        for connection in connections:
            connection.close()
    # No greenlet keeps the others waiting until its last reply.
    assert {text.split()[0] for text in sent[:5]} == {"0", "1", "2", "3", "4"}


ERRORS = {
    b"-NOSCRIPT No matching script.": redis.exceptions.NoScriptError,
    b"-OOM command not allowed when used memory > 'maxmemory'.": redis.OutOfMemoryError,
    b"-READONLY You can't write against a read only replica.": redis.ReadOnlyError,
    b"-BUSY Redis is busy running a script.": redis.ResponseError,
    b"-ERR unknown command": redis.ResponseError,
}


@pytest.mark.parametrize(("reply", "kind"), ERRORS.items(), ids=str)
def test_error_replies_leave_the_connection_open(
    connect: Connect, reply: bytes, kind: type[redis.ResponseError]
) -> None:
    replies = iter([reply + b"\r\n", b"+after\r\n"])
    with ScriptedRedis(lambda command: next(replies)) as server:
        connection = connect(server.url)
        with pytest.raises(kind):
            exchange(connection, "PING")
        assert exchange(connection, "PING") == b"after"
        assert len(server.connections) == 1


def test_a_redis_that_loads_its_data_is_away(connect: Connect) -> None:
    with ScriptedRedis(lambda command: b"-LOADING Redis is loading\r\n") as server:
        with pytest.raises(redis.BusyLoadingError) as caught:
            exchange(connect(server.url), "PING")
        assert not isinstance(caught.value, redis.ResponseError)


def test_a_reply_that_is_none_closes_the_connection(connect: Connect) -> None:
    replies = iter([b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+after\r\n"])
    with ScriptedRedis(lambda command: next(replies)) as server:
        connection = connect(server.url)
        with pytest.raises(redis.InvalidResponse):
            exchange(connection, "PING")
        assert exchange(connection, "PING") == b"after"


def test_a_push_is_no_reply(connect: Connect) -> None:
    push = b">2\r\n+invalidate\r\n+key\r\n"
    with ScriptedRedis(lambda command: push + push + echo(command)) as server:
        connection = connect(server.url)
        assert [exchange(connection, "ECHO", text) for text in "ab"] == [b"a", b"b"]


def test_a_closed_connection_opens_again(connect: Connect) -> None:
    with ScriptedRedis(echo) as server:
        connection = connect(server.url)
        connection.close()
        for text in "ab":
            assert exchange(connection, "ECHO", text) == text.encode()
            connection.close()
        assert len(server.connections) == 2


def test_a_fork_does_not_share_its_parents_connection(connect: Connect, sockets: str) -> None:
    fork = gevent.os.fork if sockets == "gevent" else os.fork
    with ScriptedRedis(echo) as server:
        connection = connect(server.url)
        assert exchange(connection, "ECHO", "before") == b"before"
        child = fork()
        if child == 0:
            try:
                os._exit(exchange(connection, "ECHO", "child") != b"child")
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert exchange(connection, "ECHO", "after") == b"after"
        # One of the parent's, one of the child's.
        assert len(server.connections) == 2


@pytest.mark.nginx  # whose tests need openssl as well
def test_connections_with_tls(connect: Connect, tmp_path: Path) -> None:
    certificate = Certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate.file, certificate.key)
    with ScriptedRedis(echo, tls=tls) as server:
        connection = connect(server.url, ssl_ca_certs=str(certificate.file))
        for size in (3, 100_000, 5):
            assert exchange(connection, "ECHO", b"x" * size) == b"x" * size
        assert len(server.connections) == 1
