"""Replies other than streams, shaped byte for byte like the real server's."""

from http import HTTPStatus
from typing import Any

import orjson

from sandbox.llama.http import CLOSED, KEPT

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n"
    b"X-Accel-Buffering: no\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\n" + KEPT + b"\r\n\r\n"
)
STREAM_END = b"0\r\n\r\n"


class BadRequest(Exception):
    """A request to be answered with an error object."""

    def __init__(
        self,
        message: str,
        kind: str = "invalid_request_error",
        status: int = 400,
        **details: int,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.status = status
        self.details = details

    def body(self) -> bytes:
        """Return the error object as JSON."""
        error = {"code": self.status, "message": self.message, "type": self.kind}
        return orjson.dumps({"error": error | self.details})


def reply(status: int, body: bytes, content_type: str = "application/json; charset=utf-8") -> bytes:
    """Return a complete response; like the real server, errors close the connection."""
    connection = (KEPT if status < 400 else CLOSED).decode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nServer: llama.cpp\r\n"
        f"Access-Control-Allow-Origin: \r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n{connection}\r\n\r\n"
    )
    return head.encode() + body


def json_reply(value: Any, status: int = 200) -> bytes:
    """Return a complete response with a JSON body."""
    return reply(status, orjson.dumps(value))


def _fixed_error(status: int, kind: str, message: str) -> bytes:
    # The real server builds these elsewhere, hence the different order of keys.
    return json_reply({"error": {"message": message, "type": kind, "code": status}}, status)


NOT_FOUND = _fixed_error(404, "not_found_error", "File Not Found")
LOADING = _fixed_error(503, "unavailable_error", "Loading model")
WRONG_KEY = _fixed_error(401, "authentication_error", "Invalid API Key")


def not_supported(message: str) -> BadRequest:
    """Return the error of an endpoint that the server was not started with."""
    return BadRequest(message, "not_supported_error", 501)


def too_large(tokens: int, batch: int) -> BadRequest:
    """Return the error of a text that does not fit the physical batch."""
    return BadRequest(
        f"input ({tokens} tokens) is too large to process. increase the physical batch size "
        f"(current batch size: {batch})",
        "server_error",
        500,
    )


def too_long(prompt_tokens: int, ctx: int) -> BadRequest:
    """Return the error of a prompt that does not fit into a slot."""
    return BadRequest(
        f"request ({prompt_tokens} tokens) exceeds the available context size ({ctx} tokens), "
        "try increasing it",
        "exceed_context_size_error",
        n_prompt_tokens=prompt_tokens,
        n_ctx=ctx,
    )
