"""Bodies at their bounds: codings, structure, and the memory that they take together."""

import gzip
import json
import socket
import zlib
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import zstandard

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import CHAT, Client, Json, OpenStream, sim
from tests.support.books import Account, BooksReader
from tests.support.servers import Gateway

MIB = 1024 * 1024
BODY = json.dumps({"messages": sim("tokens=3"), "user": "ann"}).encode()

ENCODED = {
    "identity": BODY,
    "gzip": gzip.compress(BODY),
    "deflate": zlib.compress(BODY),
    "zstd": zstandard.compress(BODY),
}


@pytest.mark.parametrize("coding", ENCODED)
def test_encoded_bodies(client: Client, coding: str) -> None:
    answer = client.call("POST", CHAT, ENCODED[coding], {"Content-Encoding": coding})
    assert answer.status == 200
    assert answer.headers["x-promptly-ignored"] == "user"


def test_a_byte_order_mark_is_ignored(client: Client) -> None:
    assert client.call("POST", CHAT, b"\xef\xbb\xbf" + BODY).status == 200


@pytest.mark.parametrize(
    ("path", "sent", "received"),
    [
        (CHAT, {"messages": sim(text="half \ud83d")}, "messages"),
        ("/v1/messages", {"messages": sim(text="half \ud83d"), "max_tokens": 5}, "messages"),
        ("/v1/responses", {"input": "half \ud83d", "metadata": {"\udc00": "\ud800"}}, "messages"),
        ("/v1/completions", {"prompt": "half \ud83d"}, "prompt"),
    ],
)
def test_half_of_a_surrogate_pair_is_replaced(
    client: Client, llama: SimulatedLlama, path: str, sent: Json, received: str
) -> None:
    # Chat and its kin name what they ignore; with half a pair in its name there is nothing to name.
    ignored = {} if path == "/v1/responses" else {"\ud800": 1}
    assert client.call("POST", path, {**sent, **ignored}).status == 200
    [record] = llama.requests()
    assert "half \ufffd" in str(record["body"][received])


@pytest.mark.parametrize("coding", ["br", "gzip, gzip"])
def test_other_codings(client: Client, llama: SimulatedLlama, coding: str) -> None:
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 1000\r\n"
    )
    head += f"Authorization: Bearer {client.key}\r\nContent-Encoding: {coding}\r\n\r\n"
    # Refused before anything of the body arrives.
    with client.raw(head.encode()) as stream:
        answer = stream.answer()
    assert answer.status == 415
    assert answer.error["code"] == "unsupported_content_encoding"
    assert answer.headers["accept-encoding"] == "gzip, deflate, zstd"
    assert llama.requests() == []


def test_other_codings_in_anthropics_shape(client: Client) -> None:
    answer = client.call("POST", "/v1/messages", b"x", {"Content-Encoding": "br"})
    assert answer.status == 415
    assert answer.json["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_bomb(client: Client, coding: str) -> None:
    compress = gzip.compress if coding == "gzip" else zstandard.compress
    answer = client.call("POST", CHAT, compress(bytes(40 * MIB)), {"Content-Encoding": coding})
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")


def test_broken_data(client: Client) -> None:
    answer = client.call("POST", CHAT, BODY, {"Content-Encoding": "gzip"})
    assert answer.status == 400
    assert "gzip" in answer.error["message"]


def peak_mib(pid: int) -> float:
    """Return the most memory that a process has had since `forget_peak`."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [peak] = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(peak) / 1024


def forget_peak(pid: int) -> float:
    """Start measuring a process's peak anew; return its memory now, in MiB."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return psutil.Process(pid).memory_info().rss / MIB


def test_values_without_number_take_no_memory(
    narrow_gateway: Gateway, narrow_llama: SimulatedLlama, account: Account
) -> None:
    client = Client(narrow_gateway.url, account.key)
    [worker] = narrow_gateway.worker_pids()
    assert client.call("POST", CHAT, BODY).status == 200
    before = forget_peak(worker)
    body = b'{"messages":[],"zz":[' + b"{}," * (5 * MIB) + b"0]}"
    answer = client.call("POST", CHAT, body)
    assert answer.status == 400
    assert "200000 JSON values" in answer.error["message"]
    assert peak_mib(worker) - before < 50


def test_wide_text(narrow_gateway: Gateway, account: Account) -> None:
    client = Client(narrow_gateway.url, account.key)
    body = b'{"messages":[{"role":"user","content":"\\ud83d\\ude00' + b"a" * (6 * MIB) + b'"}]}'
    answer = client.call("POST", CHAT, body)
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")


class Upload:
    """A request of 16 MiB, of which only a part is sent."""

    def __init__(self, client: Client) -> None:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {client.key}\r\n"
        self.stream: OpenStream = client.raw(
            f"{head}Content-Length: {16 * MIB}\r\n\r\n".encode() + b" " * (8 * MIB)
        )

    def is_refused(self) -> bool:
        """Return whether there is an answer, at once if the server reads the upload no more."""
        self.stream.socket.settimeout(0.2)
        try:
            self.stream.read_until(b"}}")
        except TimeoutError:
            return False
        return True


def test_unfinished_uploads_of_one_account(
    narrow_gateway: Gateway, books: BooksReader, account: Account
) -> None:
    client = Client(narrow_gateway.url, account.key)
    [worker] = narrow_gateway.worker_pids()
    before = forget_peak(worker)
    uploads: list[Upload] = []
    try:
        for _ in range(10):
            uploads.append(Upload(client))
        refused = [upload for upload in uploads if upload.is_refused()]
        # 24 MiB are three of them.
        assert len(refused) >= 7
        for upload in refused:
            assert upload.stream.received.startswith(b"HTTP/1.1 429 ")
            assert b"\r\nretry-after: " in upload.stream.received.lower()
            assert b'"code":"rate_limit_exceeded"' in upload.stream.received
        assert peak_mib(worker) - before < 64
        other = Client(narrow_gateway.url, books.account().key)
        assert other.call("POST", CHAT, BODY).status == 200
    finally:
        for upload in uploads:
            upload.stream.close()
    # Their memory is given back.
    body = BODY[:-1] + b" " * (16 * MIB - len(BODY)) + b"}"
    for _ in range(2):
        assert client.call("POST", CHAT, body).status == 200


def test_stalled_uploads_of_a_crowd_make_room(
    narrow_gateway: Gateway, books: BooksReader, account: Account
) -> None:
    with ExitStack() as uploads:
        for address in ("127.0.0.2", "127.0.0.3"):
            for _ in range(2):
                head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {16 * MIB}\r\n"
                head += f"Authorization: Bearer {books.account().key}\r\n\r\n"
                upload = socket.create_connection(
                    ("127.0.0.1", narrow_gateway.port), 20, source_address=(address, 0)
                )
                uploads.enter_context(upload).sendall(head.encode() + b" " * (15 * MIB))
        body = BODY[:-1] + b" " * (12 * MIB - len(BODY)) + b"}"
        assert Client(narrow_gateway.url, account.key).call("POST", CHAT, body).status == 200


@pytest.mark.parametrize("length", [None, 16 * MIB])
def test_bodies_that_end_badly_give_their_memory_back(
    narrow_gateway: Gateway, account: Account, length: int | None
) -> None:
    client = Client(narrow_gateway.url, account.key)
    lines = f"Content-Length: {length}" if length else "Transfer-Encoding: chunked"
    lines += f"\r\nAuthorization: Bearer {client.key}"
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n\r\n"
    for _ in range(3):
        with client.raw(head.encode() + b"900000\r\n" + b" " * 9 * MIB) as stream:
            stream.socket.shutdown(socket.SHUT_WR)
            stream.read_until(b"}}")
        assert stream.received.startswith(b"HTTP/1.1 400 ")
    assert client.call("POST", CHAT, b'{"messages":' + b" " * 9 * MIB + b"}").status == 400
    body = BODY[:-1] + b" " * (16 * MIB - len(BODY)) + b"}"
    assert client.call("POST", CHAT, body).status == 200


def test_parallel_requests_of_an_agent(narrow_gateway: Gateway, account: Account) -> None:
    client = Client(narrow_gateway.url, account.key)
    messages = [{"role": "assistant", "content": "a" * 2_000_000}, *sim("tokens=50 delay_ms=20")]
    streams = [client.open(messages=messages) for _ in range(8)]
    for stream in streams:
        with stream:
            stream.read_until(b"\r\n\r\n")
            assert stream.received.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 "))


PADDED = 9 * MIB


def open_padded(client: Client, steering: str) -> OpenStream:
    """Start a streamed request with a large body, most of which is not forwarded."""
    body = json.dumps({"messages": sim(steering), "stream": True}).encode()
    body = body[:-1] + b" " * (PADDED - len(body)) + b"}"
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {client.key}\r\n"
    return client.raw(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def test_a_body_counts_until_the_model_has_it(
    narrow_gateway: Gateway, books: BooksReader, account: Account
) -> None:
    client = Client(narrow_gateway.url, account.key)
    other = Client(narrow_gateway.url, books.account().key)
    with ExitStack() as streams:
        # Those that run have given their memory back.
        for _ in range(4):
            stream = streams.enter_context(open_padded(client, "tokens=5000 delay_ms=20"))
            stream.read_until(b"data: ")
        # These wait for a slot.
        for _ in range(2):
            stream = streams.enter_context(open_padded(client, "tokens=3"))
            stream.read_until(b": queue")
        with open_padded(client, "tokens=3") as refused:
            refused.read_until(b"}}")
        assert refused.received.startswith(b"HTTP/1.1 429 ")
        streams.enter_context(open_padded(other, "tokens=3")).read_until(b": queue")
    with open_padded(client, "tokens=3") as stream:
        stream.read_until(b"[DONE]")


@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"])
def test_a_large_body_ends_where_the_next_request_begins(client: Client, expect: str) -> None:
    body = BODY[:-1] + b" " * MIB + b"}"
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {client.key}\r\n"
    head += f"{expect}Content-Length: {len(body)}\r\n\r\n"
    after = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with client.raw(head.encode() + body + after) as stream:
        stream.read_to_end()
    assert stream.received.count(b"HTTP/1.1 200 ") == 2
    assert stream.received.count(b"HTTP/1.1 100 ") == bool(expect)
