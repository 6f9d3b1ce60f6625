"""Bodies without end, without sense and without measure, with a free key or with none."""

import gzip
import itertools
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import pytest

from tests.abuse.arena import MIB, Arena
from tests.abuse.sockets import at_once, connect, head, pour, read_all, status_of

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]

PATH = "/v1/chat/completions"
ENDLESS = 10**12
POUR_SECONDS = 4.0
PIECE = b" " * 65536
BODY_BYTES = 15 * MIB


def bearer(key: str, **headers: object) -> dict[str, object]:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **given}


def refused_while_pouring(arena: Arena, request: bytes, status: int) -> None:
    """Four clients send without end; each receives the refusal."""
    answers = at_once(4, partial(pour, arena.port, request, itertools.repeat(PIECE), POUR_SECONDS))
    assert [status_of(answer) for answer in answers] == [status] * 4


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("POST", PATH, 401),
        pytest.param("POST", "/v1/nothing", 404, marks=pytest.mark.exhaustive),
        pytest.param("PUT", PATH, 405, marks=pytest.mark.exhaustive),
        pytest.param("POST", "/register", 413, marks=pytest.mark.exhaustive),
        pytest.param("POST", "/stripe/webhook", 413, marks=pytest.mark.exhaustive),
        pytest.param("POST", "/nothing", 404, marks=pytest.mark.exhaustive),
        pytest.param("GET", "/", 200, marks=pytest.mark.exhaustive),
    ],
)
@pytest.mark.parametrize(
    "connection", ["keep-alive", pytest.param("close", marks=pytest.mark.exhaustive)]
)
def test_a_body_without_end(
    arena: Arena, method: str, target: str, status: int, connection: str
) -> None:
    headers = {"Content-Length": ENDLESS, "Connection": connection}
    arena.withstand(partial(refused_while_pouring, arena, head(method, target, headers), status))


@pytest.mark.exhaustive
def test_chunks_without_end(arena: Arena) -> None:
    chunk = b"10000\r\n" + PIECE + b"\r\n"
    request = head("POST", PATH, {"Transfer-Encoding": "chunked"})

    def attack() -> None:
        answers = at_once(
            4, partial(pour, arena.port, request, itertools.repeat(chunk), POUR_SECONDS)
        )
        assert {status_of(answer) for answer in answers} == {401}

    arena.withstand(attack)


def many_objects() -> bytes:
    start, each, end = b'{"messages":[],"zz":[{}', b",{}", b"]}"
    return start + each * ((BODY_BYTES - len(start) - len(end)) // len(each)) + end


def many_numbers() -> bytes:
    start, each, end = b'{"messages":[],"zz":[0', b",0", b"]}"
    return start + each * ((BODY_BYTES - len(start) - len(end)) // len(each)) + end


def deeply_nested() -> bytes:
    depth = BODY_BYTES // 2 - 20
    return b'{"messages":' + b"[" * depth + b"]" * depth + b"}"


def many_keys() -> Iterator[bytes]:
    yield b'{"messages":[]'
    size = 0
    for number in itertools.count():
        piece = b',"k%d":1' % number
        size += len(piece)
        if size > BODY_BYTES:
            break
        yield piece
    yield b"}"


def one_long_key() -> bytes:
    return b'{"messages":[],"' + b"k" * BODY_BYTES + b'":1}'


@pytest.mark.parametrize(
    "make",
    [
        many_objects,
        pytest.param(many_numbers, marks=pytest.mark.exhaustive),
        pytest.param(deeply_nested, marks=pytest.mark.exhaustive),
        pytest.param(lambda: b"".join(many_keys()), id="many_keys", marks=pytest.mark.exhaustive),
        pytest.param(one_long_key, marks=pytest.mark.exhaustive),
    ],
)
def test_values_without_number(arena: Arena, make: Callable[[], bytes]) -> None:
    body = make()
    key = arena.trial_account().key
    request = head("POST", PATH, bearer(key, Content_Length=len(body), Connection="close"))

    def attack() -> None:
        answers = at_once(4, partial(pour, arena.port, request, [body], 60))
        # Some are refused for the bytes that their account has in hand already.
        assert {status_of(answer) for answer in answers} <= {400, 429}
        assert 400 in map(status_of, answers)

    arena.withstand(attack)


def test_uploads_that_never_end(arena: Arena) -> None:
    key = arena.trial_account().key
    request = head("POST", PATH, bearer(key, Content_Length=BODY_BYTES + 1))

    def attack() -> None:
        statuses = at_once(10, partial(upload_all_but_the_end, arena.port, request))
        # At least one is read, or the attack proves nothing.
        assert None in statuses
        assert set(statuses) <= {None, 429}

    arena.withstand(attack)


def upload_all_but_the_end(port: int, request: bytes) -> int | None:
    """Send nearly all of a body; return the status if it was refused, else wait for two seconds."""
    with connect(port, 2) as connection:
        with suppress(OSError):
            connection.sendall(request)
            connection.sendall(b" " * BODY_BYTES)
        return status_of(read_all(connection))


BOMB = b" " * (256 * MIB)


@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        ("gzip", lambda: gzip.compress(BOMB, 9)),
        pytest.param("deflate", lambda: zlib.compress(BOMB, 9), marks=pytest.mark.exhaustive),
    ],
    ids=["gzip", "deflate"],
)
def test_bombs(arena: Arena, coding: str, compress: Callable[[], bytes]) -> None:
    body = compress()
    key = arena.trial_account().key
    headers = bearer(key, Content_Encoding=coding, Content_Length=len(body), Connection="close")
    request = head("POST", PATH, headers) + body

    def attack() -> None:
        answers = at_once(4, partial(pour, arena.port, request, [], 60))
        assert {status_of(answer) for answer in answers} <= {413, 429}
        assert 413 in map(status_of, answers)

    arena.withstand(attack)


def test_no_100_before_a_refusal(arena: Arena) -> None:
    headers = {"Expect": "100-continue", "Content-Length": ENDLESS, "Connection": "close"}
    request = head("POST", PATH, headers)

    def attack() -> None:
        for _ in range(20):
            with connect(arena.port) as connection:
                connection.sendall(request)
                assert status_of(read_all(connection)) == 401

    arena.withstand(attack)
