"""Answers of /v1 through nginx as shipped: slow and streamed ones, large and refused bodies.

Every time limit of its files but that of an answer is one second here.
"""

import http.client
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from promptly.settings import Settings
from tests.proxies.conftest import INSIDE, Site
from tests.proxies.shipped import ShippedNginx
from tests.support.books import Account
from tests.support.load import CHAT, messages, new_tag
from tests.support.servers import make_settings

pytestmark = [pytest.mark.nginx, pytest.mark.slow]

MEGABYTE = 1_000_000


@pytest.fixture
def account(site: Site) -> Account:
    return site.books.account(paid_tokens=10_000_000)


@pytest.fixture
def connection(site: Site) -> Iterator[http.client.HTTPSConnection]:
    context = ssl.create_default_context(cafile=str(site.certificate.file))
    port = site.nginx.ports.https
    connection = http.client.HTTPSConnection(INSIDE, port, timeout=20, context=context)
    yield connection
    connection.close()


def chat(directives: str, *, tag: str = "", **body: Any) -> bytes:
    return json.dumps({"messages": messages(tag or new_tag(), directives), **body}).encode()


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_an_answer_that_is_not_streamed_may_take_long(
    site: Site, account: Account, version: str
) -> None:
    """Nothing is sent for several times as long as any other limit; the answer is paid once."""
    ended = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--cacert", str(site.certificate.file)),
            *(f"--http{version}", "--write-out", "\n%{http_version} %{http_code}"),
            *("--header", f"Authorization: Bearer {account.key}"),
            *("--header", "Content-Type: application/json"),
            *("--data", chat("prefill_ms=2500 tokens=3").decode()),
            f"https://{INSIDE}:{site.nginx.ports.https}{CHAT}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    answer, _, end = ended.stdout.rpartition("\n")
    assert (end, ended.stderr) == (f"{version} 200", "")
    assert json.loads(answer)["choices"][0]["finish_reason"] == "stop"
    [event] = site.books.wait_for_events(account, 1)
    assert event["outcome"] == "completed"


def test_a_stream_arrives_as_it_is_written(
    site: Site, account: Account, connection: http.client.HTTPSConnection
) -> None:
    """The first chunk arrives while the model server is silent, and so does the client's end."""
    tag = new_tag()
    body = chat("tokens=9 stall_after=1 stall_s=120", tag=tag, stream=True)
    connection.request("POST", CHAT, body, {**account.headers, "Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.headers["Content-Encoding"] is None
    assert answer.readline().startswith(b"data: ")
    assert site.llama.request(tag)["ended_at"] is None
    answer.close()
    connection.close()
    [event] = site.books.wait_for_events(account, 1)
    assert event["outcome"] == "client_disconnected"
    assert site.llama.wait_for_end(tag)["outcome"] == "client_closed"


def test_a_stream_arrives_whole(
    site: Site, account: Account, connection: http.client.HTTPSConnection
) -> None:
    connection.request("POST", CHAT, chat("tokens=300", stream=True), account.headers)
    assert connection.getresponse().read().endswith(b"data: [DONE]\n\n")
    [event] = site.books.wait_for_events(account, 1)
    assert (event["outcome"], event["completion_tokens"]) == ("completed", 300)


def test_a_body_of_ten_megabytes(
    site: Site, account: Account, connection: http.client.HTTPSConnection
) -> None:
    long = {"role": "user", "content": "word " * (10 * MEGABYTE // 5)}
    body = json.dumps({"messages": [long, *messages(new_tag(), "tokens=3")]}).encode()
    assert len(body) > 10 * MEGABYTE
    connection.request("POST", CHAT, body, account.headers)
    answer = connection.getresponse()
    assert (answer.status, answer.read()[:1]) == (200, b"{")
    [event] = site.books.wait_for_events(account, 1)
    assert event["prompt_tokens"] > 10 * MEGABYTE // 4


def test_a_refusal_does_not_wait_for_the_body(connection: http.client.HTTPSConnection) -> None:
    connection.putrequest("POST", CHAT)
    connection.putheader("Authorization", "Bearer sk-wrong")
    connection.putheader("Content-Length", str(10 * MEGABYTE))
    connection.endheaders(b'{"messages": [')
    answer = connection.getresponse()
    assert answer.status == 401
    assert json.loads(answer.read())["error"]["code"] == "invalid_api_key"


def test_a_connection_can_be_used_again_after_a_refusal(
    site: Site, connection: http.client.HTTPSConnection
) -> None:
    """Even if the gateway could refuse a request before nginx has its body."""
    body = chat("tokens=3")
    for _ in range(3):
        connection.putrequest("POST", CHAT)
        connection.putheader("Authorization", "Bearer sk-wrong")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        # By the time these are answered, the gateway has the headers.
        for _ in range(5):
            other = http.client.HTTPConnection(INSIDE, site.nginx.ports.private, timeout=20)
            other.request("GET", "/health")
            assert other.getresponse().status == 200
            other.close()
        connection.send(body)
        answer = connection.getresponse()
        assert (answer.status, answer.read()[:1]) == (401, b"{")


def test_a_body_above_the_limit_is_refused_by_the_gateway(
    account: Account, connection: http.client.HTTPSConnection
) -> None:
    settings: Settings = make_settings()
    connection.putrequest("POST", CHAT)
    connection.putheader("Authorization", f"Bearer {account.key}")
    connection.putheader("Content-Length", str(settings.max_body_bytes + 1))
    connection.endheaders(b"{")
    answer = connection.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["error"]["code"] == "request_too_large"


class DyingGateway(ThreadingHTTPServer):
    """Answers every GET, and closes the connection of a POST as soon as it has read it."""

    def __init__(self) -> None:
        self.posts: list[bytes] = []
        super().__init__((INSIDE, 0), DyingHandler)


class DyingHandler(BaseHTTPRequestHandler):
    server: DyingGateway
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.server.posts.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def test_no_request_is_sent_twice(site: Site, tmp_path: Path) -> None:
    """A POST that breaks off is not repeated, not even when its connection was a kept one."""
    with DyingGateway() as gateway:
        threading.Thread(target=gateway.serve_forever, daemon=True).start()
        address = f"{INSIDE}:{gateway.server_port}"
        nginx = ShippedNginx(tmp_path / "nginx", site.certificate, gateway=address, staging=address)
        client = http.client.HTTPConnection(INSIDE, nginx.ports.private, timeout=20)
        for number in range(1, 4):
            client.request("GET", "/health")
            assert client.getresponse().read() == b""
            client.request("POST", CHAT, f"body {number}")
            answer = client.getresponse()
            assert (answer.status, b"nginx" in answer.read()) == (502, True)
            assert gateway.posts == [f"body {sent}".encode() for sent in range(1, number + 1)]
        client.close()
        nginx.stop()
        gateway.shutdown()
