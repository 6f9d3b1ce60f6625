"""Bodies of forms and webhooks that arrive slowly or never, sent to a gateway with two workers."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
import urllib3

from tests.plugins.stacks import MakeStack
from tests.support.books import Account
from tests.support.servers import Gateway
from tests.support.signing import STRIPE_SECRET, encode, snapshot, stripe_headers
from tests.support.stack import Stack

# More than a worker's connections to PostgreSQL, for each of two workers.
STALLED = 46
SECONDS = 3


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack("forms") as stack:
        yield stack


@pytest.fixture(scope="module")
def gateway(stack: Stack) -> Gateway:
    return stack.gateway(
        workers=2,
        FORM_TIMEOUT_SECONDS=SECONDS,
        DATABASE_TIMEOUT_SECONDS=2,
        BASE_URL="https://api.example.com",
        STRIPE_SECRET_KEY="sk_test_0123456789",
        STRIPE_WEBHOOK_SECRET=STRIPE_SECRET,
        STRIPE_API_BASE="http://127.0.0.1:1",
    )


@pytest.fixture(scope="module")
def account(stack: Stack) -> Account:
    return stack.books.account()


def begin(gateway: Gateway, path: str, length: str = "Content-Length: 20") -> socket.socket:
    """Send the head of a form and the first bytes of its body."""
    connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=30)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}\r\n"
    form = "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    connection.sendall(f"{head}{form}".encode())
    return connection


def answer(connection: socket.socket) -> bytes:
    """Return the first bytes of the answer, at least its status line."""
    found = b""
    while b"\r\n" not in found:
        found += connection.recv(4096)
    return found


def test_a_body_that_never_comes_holds_nothing_but_its_socket(
    gateway: Gateway, account: Account
) -> None:
    with ExitStack() as ends:
        paths = (f"/dashboard/keys?key={account.key}", "/stripe/webhook", "/register")
        stalled = [
            ends.enter_context(begin(gateway, paths[number % len(paths)]))
            for number in range(STALLED)
        ]
        in_chunks = ends.enter_context(begin(gateway, "/register", "Transfer-Encoding: chunked"))
        in_chunks.sendall(b"20\r\nname=")
        page = urllib3.request("GET", f"{gateway.url}/dashboard?key={account.key}", timeout=20)
        assert page.status == 200
        body = encode(snapshot())
        webhook = urllib3.request(
            "POST", f"{gateway.url}/stripe/webhook", body=body, headers=stripe_headers(body)
        )
        assert (webhook.status, webhook.data) == (200, b"stored\n")
        headers = {"Authorization": f"Bearer {account.key}"}
        balance = urllib3.request("GET", f"{gateway.url}/v1/balance", headers=headers)
        assert json.loads(balance.data)["paid_tokens"] == 1_000_000
        ready = urllib3.request("GET", f"{gateway.url}/health/ready").data.decode()
        assert "exhausted" not in ready
        for connection in stalled:
            assert answer(connection).startswith(b"HTTP/1.1 408 ")
        # The rest of the interrupted chunk is not taken for the next request.
        assert answer(in_chunks).startswith(b"HTTP/1.1 408 ")
        in_chunks.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        later = b""
        with suppress(ConnectionResetError):
            while received := in_chunks.recv(65_536):
                later += received
        assert b"HTTP/1.1 " not in later


def test_a_proxy_that_is_not_configured_is_a_warning(gateway: Gateway) -> None:
    assert gateway.log_text().count("TRUSTED_PROXY_HOPS is 0") == 1
