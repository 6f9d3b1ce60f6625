"""Generated requests over raw sockets: no answer is a 5xx, nothing hangs, nothing grows."""

import gzip
import socket
import zlib
from contextlib import suppress
from dataclasses import dataclass

import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.abuse.arena import MIB, Arena
from tests.abuse.sockets import connect
from tests.run import EXHAUSTIVE
from tests.support.books import Account

pytestmark = [pytest.mark.alone, pytest.mark.timeout(1500)]

CASES = 2000 if EXHAUSTIVE else 150
# Above every time limit of a request that sends nothing more: 10 s for the rest of a body, twice.
HANG_SECONDS = 30.0
MOST_GROWTH = 16 * MIB
CHAT = b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":2}'

# Stands for the account's key, which the strategies do not know.
KEY = b"@key@"

FORM = b"email=a%40example.com&key=%ff&pack=%00"
MULTIPART = b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--\r\n"

ENDPOINTS = st.sampled_from(
    [
        *[(b"POST", b"/v1/chat/completions", CHAT)] * 4,
        (b"POST", b"/v1/chat/completions/input_tokens", CHAT),
        (b"POST", b"/v1/responses", b'{"input":"hi","max_output_tokens":16}'),
        (b"POST", b"/v1/messages", CHAT),
        (b"POST", b"/v1/embeddings", b'{"input":"hi"}'),
        (b"POST", b"//v1//chat/completions", CHAT),
        (b"GET", b"/v1/usage?start=\xff", b""),
        (b"GET", b"/v1/models/%00", b""),
        (b"GET", b"/v1/balance", b""),
        (b"POST", b"/register", FORM),
        (b"POST", b"/session", FORM),
        (b"POST", b"/session", MULTIPART),
        (b"POST", b"/checkout?key=" + KEY, FORM),
        (b"GET", b"/dashboard?key=" + KEY, b""),
        (b"GET", b"/dashboard?key=\xe9", b""),
        (b"GET", b"/dashboard/usage.csv?key=" + KEY, b""),
        (b"GET", b"/dashboard?endpoint=x&_method=y&_external=1&_scheme=z", b""),
        (b"POST", b"/dashboard/keys?key=" + KEY, FORM),
        (b"GET", b"/admin?key=\xe9", b""),
        (b"POST", b"/admin/adjust", FORM),
        (b"GET", b"/admin/user/99999999999999999999", b""),
        (b"POST", b"/stripe/webhook", b'{"object":"event"}'),
        (b"POST", b"/btcpay/webhook", b"{}"),
        (b"GET", b"/", b""),
        (b"GET", b"/health", b""),
        (b"GET", b"/docs/%2e%2e/%2e%2e/etc/passwd", b""),
        (b"GET", b"/static/../wsgi.py", b""),
    ]
)
METHODS = st.sampled_from(
    [b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE", b"CONNECT", b"PRI", b"get"]
)
TARGETS = st.one_of(
    st.sampled_from([b"*", b"//", b"/%ff%fe", b"http://evil.example/v1/models", b"http://[::1/"]),
    st.binary(max_size=40).map(lambda text: b"/" + text),
)
VERSIONS = st.sampled_from([b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.9", b"", b"HTTP/1.1 "])
LENGTHS = st.sampled_from(
    [b"0", b"1", b"-1", b"+5", b"0x10", b"5, 5", b"99999999", b"1e3", b"", b" 7 "]
)
HEADERS = st.one_of(
    st.tuples(st.just(b"Authorization"), st.sampled_from([b"Bearer " + KEY, b"Bearer \xff", b""])),
    st.tuples(st.just(b"x-api-key"), st.sampled_from([KEY, b"\x80", b"a" * 5000])),
    st.tuples(st.just(b"Content-Length"), LENGTHS),
    st.tuples(
        st.just(b"Transfer-Encoding"),
        st.sampled_from(
            [b"chunked", b"chunked, chunked", b"gzip", b"xchunked", b"identity", b"\x0b"]
        ),
    ),
    st.tuples(
        st.just(b"Content-Encoding"),
        st.sampled_from([b"gzip", b"deflate", b"zstd", b"br", b"gzip, gzip", b"identity"]),
    ),
    st.tuples(
        st.just(b"Content-Type"),
        st.sampled_from(
            [
                b"application/json",
                b"application/x-www-form-urlencoded",
                b"multipart/form-data; boundary=x",
                b"multipart/form-data",
                b"text/plain; charset=\xff",
            ]
        ),
    ),
    st.tuples(st.just(b"Expect"), st.sampled_from([b"100-continue", b"200-ok", b"\xff"])),
    st.tuples(st.just(b"Connection"), st.sampled_from([b"close", b"keep-alive", b"upgrade"])),
    st.tuples(st.just(b"Upgrade"), st.sampled_from([b"websocket", b"h2c"])),
    st.tuples(
        st.just(b"Host"), st.sampled_from([b"evil.example", b"", b"\xff", b"[::1", b"a:b:c"])
    ),
    st.tuples(
        st.sampled_from([b"X-Forwarded-For", b"Forwarded", b"Via", b"SCRIPT_NAME", b"Script-Name"]),
        st.sampled_from([b"1.2.3.4:567", b"[::1]:1", b"for=\xff", b"/x", b","]),
    ),
    st.tuples(
        st.sampled_from(
            [b"Cookie", b"Stripe-Signature", b"BTCPay-Sig", b"If-None-Match", b"Range"]
        ),
        st.binary(max_size=60).map(lambda text: text.replace(b"\r", b"").replace(b"\n", b"")),
    ),
    st.tuples(st.binary(max_size=12), st.binary(max_size=30)),
)
BODIES = st.one_of(
    st.just(b"\xef\xbb\xbf" + CHAT),
    st.just(gzip.compress(CHAT)),
    st.just(zlib.compress(CHAT)),
    st.sampled_from([b"ffffffffffffffff\r\n", b"-1\r\n", b"5;a=b\r\nabc", b"0\r\nA: b\r\n\r\n"]),
    st.binary(max_size=200),
    st.integers(0, 300_000).map(lambda size: b"a" * size),
)


@dataclass(frozen=True)
class Case:
    """One or several requests on one connection; `pieces` is into how many writes they are cut."""

    requests: tuple[bytes, ...]
    pieces: int
    half_close: bool
    vanish: bool


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Draw a request in which most is as it should be: otherwise the parser refuses nearly all."""

    def odd(one_in: int) -> bool:
        return draw(st.integers(1, one_in)) == 1

    method, target, body = draw(ENDPOINTS)
    method = draw(METHODS) if odd(8) else method
    target = draw(TARGETS) if odd(8) else target
    body = draw(BODIES) if odd(5) else body
    headers = [] if odd(20) else [(b"Host", b"127.0.0.1")]
    headers += [] if odd(8) else [(b"Authorization", b"Bearer " + KEY)]
    content_type = b"application/x-www-form-urlencoded" if body == FORM else b"application/json"
    if body == MULTIPART:
        content_type = b"multipart/form-data; boundary=x"
    headers += [] if odd(8) else [(b"Content-Type", content_type)]
    if body and odd(6):
        headers.append((b"Transfer-Encoding", b"chunked"))
        if not odd(3):
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    elif body:
        headers.append((b"Content-Length", draw(LENGTHS) if odd(8) else b"%d" % len(body)))
    headers += draw(st.lists(HEADERS, max_size=2)) if odd(2) else []
    version = draw(VERSIONS) if odd(20) else b"HTTP/1.1"
    lines = [b" ".join((method, target, version))]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"", b""]) + body


CONNECTIONS = st.builds(
    Case,
    requests=st.lists(requests(), min_size=1, max_size=3).map(tuple),
    pieces=st.sampled_from([1, 1, 2, 7]),
    half_close=st.booleans(),
    vanish=st.integers(0, 9).map(lambda number: number == 0),
)


@pytest.fixture(scope="module")
def account(arena: Arena) -> Account:
    return arena.trial_account(1_000_000)


def test_the_edge_of_http(arena: Arena, account: Account) -> None:
    workers = sorted(arena.gateway.worker_pids())
    sizes: list[int] = []

    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        derandomize=not EXHAUSTIVE,
        suppress_health_check=list(HealthCheck),
        # A smaller case is not worth the minutes that finding it takes.
        phases=[Phase.generate],
    )
    @given(case=CONNECTIONS)
    def attack(case: Case) -> None:
        answer = exchange(arena.port, case, account.key.encode())
        assert all(status < 500 for status in statuses(answer)), (case.requests, answer[:200])
        sizes.append(max(psutil.Process(pid).memory_info().rss for pid in workers))

    attack()
    assert sorted(arena.gateway.worker_pids()) == workers
    # The first tenth loads what is loaded once.
    assert max(sizes) - max(sizes[: len(sizes) // 10]) < MOST_GROWTH
    assert arena.stack.books.open_holds(account) == 0


def exchange(port: int, case: Case, key: bytes) -> bytes:
    """Send a case, and return all that is answered until the server closes the connection.

    A server that waits for more closes only after its own time limits, so this side ends its half
    of the connection as soon as something was answered. Fails with the case if the server hangs.
    """
    data = b"".join(case.requests).replace(KEY, key)
    size = -(-len(data) // case.pieces) or 1
    with connect(port, HANG_SECONDS) as connection:
        answer = bytearray()
        try:
            for start in range(0, len(data), size):
                connection.sendall(data[start : start + size])
            if case.vanish:
                return b""
            if case.half_close:
                end_writing(connection)
            while piece := connection.recv(65536):
                answer += piece
                end_writing(connection)
        except ConnectionError:
            pass
        except TimeoutError:
            pytest.fail(f"no end within {HANG_SECONDS:g} s: {case.requests}")
        return bytes(answer)


def end_writing(connection: socket.socket) -> None:
    """End this side's half of a connection, unless the server has closed it already."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


def statuses(answer: bytes) -> list[int]:
    """Return the statuses of the answers of a connection."""
    found = []
    for line in answer.split(b"\r\n"):
        if line.startswith(b"HTTP/1.") and line[9:12].isdigit():
            found.append(int(line[9:12]))
    return found
