"""Malformed bodies: a 4xx in OpenAI's shape names the field, and nothing reaches upstream."""

import json
import socket

import pytest

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import CHAT, Client
from tests.gateway.malformed import HELLO, MALFORMED, WRONG_TYPES

HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
GOOD = json.dumps({"messages": HELLO}).encode()


def refused(client: Client, llama: SimulatedLlama, body: bytes, param: str | None) -> None:
    answer = client.call("POST", CHAT, body)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["param"] == param
    assert llama.requests() == []


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_bodies(client: Client, llama: SimulatedLlama, name: str) -> None:
    refused(client, llama, *MALFORMED[name])


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_wrong_types(client: Client, llama: SimulatedLlama, name: str) -> None:
    param = "logit_bias[...]" if name == "logit_bias" else name
    refused(client, llama, WRONG_TYPES[name], param)


def test_nothing_was_charged_or_held(client: Client) -> None:
    for body, _ in MALFORMED.values():
        client.call("POST", CHAT, body)
    balance = client.get("/v1/balance").json
    assert (balance["paid_tokens"], balance["reserved_tokens"]) == (1_000_000, 0)
    assert client.get("/v1/usage").json["data"] == []


def head(client: Client, *lines: str) -> bytes:
    text = HEAD + f"Authorization: Bearer {client.key}\r\n" + "".join(f"{x}\r\n" for x in lines)
    return f"{text}\r\n".encode()


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def test_a_chunked_body_is_taken(client: Client) -> None:
    data = head(client, "Transfer-Encoding: chunked") + chunked(GOOD[:10], GOOD[10:])
    with client.raw(data) as stream:
        assert stream.answer().status == 200


@pytest.mark.parametrize(
    "body", [b"zz\r\n{}\r\n0\r\n\r\n", b"5\r\n{}\r\n", b"-5\r\n{}\r\n0\r\n\r\n", chunked(b'{"x":')]
)
def test_broken_chunks(client: Client, llama: SimulatedLlama, body: bytes) -> None:
    with client.raw(head(client, "Transfer-Encoding: chunked") + body) as stream:
        stream.socket.shutdown(socket.SHUT_WR)
        answer = stream.answer()
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert llama.requests() == []


@pytest.mark.parametrize("sent", [0, 1, len(GOOD) - 1, len(GOOD)])
def test_a_truncated_body(client: Client, llama: SimulatedLlama, sent: int) -> None:
    length = len(GOOD) + 1
    data = head(client, f"Content-Length: {length}") + GOOD[:sent]
    with client.raw(data) as stream:
        stream.socket.shutdown(socket.SHUT_WR)
        answer = stream.answer()
    assert answer.status == 400
    assert "body" in answer.error["message"]
    assert llama.requests() == []


def test_a_body_that_breaks_off_leaves_nothing(client: Client, llama: SimulatedLlama) -> None:
    for lines in (["Content-Length: 1000"], ["Transfer-Encoding: chunked"]):
        with client.raw(head(client, *lines) + b"5\r\n{"):
            pass
    assert client.get("/v1/balance").json["reserved_tokens"] == 0
    assert llama.requests() == []


@pytest.mark.parametrize("lines", [["Content-Length: 500"], ["Transfer-Encoding: chunked"]])
def test_a_slow_body(client: Client, llama: SimulatedLlama, lines: list[str]) -> None:
    with client.raw(head(client, *lines) + b"5\r\n{") as stream:
        answer = stream.answer()
    assert answer.status == 408
    assert answer.error["code"] == "body_timeout"
    assert answer.headers["x-should-retry"] == "false"
    assert llama.requests() == []


def test_a_body_of_17_megabytes_is_not_even_read(client: Client, llama: SimulatedLlama) -> None:
    with client.raw(head(client, f"Content-Length: {17 * 1024 * 1024}") + b"{") as stream:
        answer = stream.answer()
    assert answer.status == 413
    assert answer.error["code"] == "request_too_large"
    assert llama.requests() == []


def test_a_chunked_body_of_17_megabytes_is_read_no_further(
    client: Client, llama: SimulatedLlama
) -> None:
    part = b"%x\r\n%b\r\n" % (1024 * 1024, b" " * 1024 * 1024)
    # Keep-alive, so that the server does not reset the connection while we still send.
    kept = head(client, "Transfer-Encoding: chunked").replace(b"Connection: close\r\n", b"")
    with client.raw(kept) as stream:
        for _ in range(17):
            stream.socket.sendall(part)
        stream.socket.sendall(b"0\r\n\r\n")
        stream.read_until(b"}}")
    assert stream.received.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"request_too_large"' in stream.received
    assert llama.requests() == []


def test_a_body_just_within_the_bound(client: Client) -> None:
    body = GOOD[:-1] + b" " * (16 * 1024 * 1024 - len(GOOD)) + b"}"
    assert len(body) == 16 * 1024 * 1024
    assert client.call("POST", CHAT, body).status == 200
