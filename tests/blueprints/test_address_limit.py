"""Behind a proxy, the requests that one client's address has in flight are bounded."""

from collections.abc import Iterator
from contextlib import ExitStack

import orjson
import pytest

from tests.plugins.stacks import MakeStack
from tests.support.books import wait_for
from tests.support.raw_http import RawClient, ask
from tests.support.servers import Gateway

LIMIT = 3


@pytest.fixture(scope="module")
def gateway(make_stack: MakeStack) -> Iterator[Gateway]:
    with make_stack("addresses") as stack:
        yield stack.gateway(workers=2, TRUSTED_PROXY_HOPS=1, MAX_CONNECTIONS_PER_ADDRESS=LIMIT)


def status(gateway: Gateway, path: str, address: str) -> int:
    return int(get(gateway, path, address).split()[1])


def get(gateway: Gateway, path: str, address: str) -> bytes:
    head = (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Forwarded-For: {address}"
    )
    return ask(gateway.port, head.encode() + b"\r\n\r\n")


def hold(gateway: Gateway, address: str, stack: ExitStack) -> RawClient:
    """Start a request whose form the gateway waits for, and return once it does.

    Tries again while it is refused: a worker counts a request a moment longer than its client.
    """
    held: list[RawClient] = []

    def is_held() -> bool:
        client = stack.enter_context(RawClient(gateway.port))
        client.send(request)
        held.append(client)
        return client.answer()[0] == 100

    head = f"POST /session HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {address}\r\n"
    form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 10\r\n"
    request = f"{head}{form}Expect: 100-continue\r\n\r\n".encode()
    wait_for(is_held, "a request that is admitted", 30)
    return held[-1]


def test_requests_in_flight_are_counted_over_all_workers(gateway: Gateway) -> None:
    with ExitStack() as stack:
        held = [hold(gateway, "198.51.100.7", stack) for _ in range(LIMIT)]
        answer = get(gateway, "/v1/models", "198.51.100.7")
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"\r\nretry-after: 1\r\n" in answer.lower()
        error = orjson.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert error["code"] == "rate_limit_exceeded"
        # Pages alike; the refused ones are not counted.
        assert [status(gateway, "/docs/", "198.51.100.7") for _ in range(3)] == [429] * 3
        # Not the neighbour, nor the same spelled by an earlier hop.
        assert status(gateway, "/docs/", "198.51.100.8") == 200
        assert status(gateway, "/docs/", "198.51.100.7, 198.51.100.9") == 200
        # One of them ends: another may start, once its worker has seen the end.
        held[0].send(b"key=sk-abc")
        assert held[0].answer()[0] < 500
        wait_for(lambda: status(gateway, "/docs/", "198.51.100.7") == 200, "room for another", 30)
    # Those that are cut off leave as well: as many can run again.
    with ExitStack() as stack:
        for _ in range(LIMIT):
            hold(gateway, "198.51.100.7", stack)


def test_private_addresses_are_not_counted(gateway: Gateway) -> None:
    with ExitStack() as stack:
        for _ in range(LIMIT):
            hold(gateway, "10.1.2.3", stack)
        assert status(gateway, "/docs/", "10.1.2.3") == 200
