"""The requests of the benchmark: chat bodies of several kinds."""

import json
from collections.abc import Sequence

_SHORT_ANSWER = 16

# The gateway sends these flags to llama-server. Requests through nginx carry them too, so that both
# relay the same bytes.
_UPSTREAM_FLAGS = {
    "stream_options": {"include_usage": True},
    "timings_per_token": True,
    "return_progress": True,
}


def _chat(tokens: int, last_message: str, **more: object) -> dict[str, object]:
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": last_message},
    ]
    return {"model": "bench", "messages": messages, "max_tokens": tokens, **more}


def plain() -> bytes:
    """Return a short question with a non-streamed answer of 16 tokens."""
    return json.dumps(_chat(_SHORT_ANSWER, "Why is the sky blue? pace=0")).encode()


def streamed(tokens: int, pace: int, *, bare_proxy: bool) -> bytes:
    """Return a request for ``tokens`` streamed chunks, ``pace`` per second; 0 is back to back."""
    more: dict[str, object] = {"stream": True}
    if bare_proxy:
        more |= _UPSTREAM_FLAGS
    return json.dumps(_chat(tokens, f"Tell me a story. pace={pace}", **more)).encode()


def megabyte() -> bytes:
    """Return a coding agent's request: long history, a hundred tools, 1 MB, not streamed."""
    text = (
        'def handler(event):\n    return {"status": event[\'status\'] or "ok"}  # \u00e9t\u00e9\n'
        * 24
    )
    body = _chat(_SHORT_ANSWER, "Now fix the failing test. pace=0")
    names = {"path": {"type": "string"}, "first": {"type": "integer"}, "last": {"type": "integer"}}
    parameters = {"type": "object", "properties": names, "required": ["path"]}
    about = "Reads a range of lines of a file and returns them."
    body["tools"] = [
        {
            "type": "function",
            "function": {"name": f"tool_{index}", "description": about, "parameters": parameters},
        }
        for index in range(100)
    ]
    messages = body["messages"]
    assert isinstance(messages, list)
    turn = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
    room = 1_000_000 - len(json.dumps(body))
    messages[1:1] = turn * (room // len(json.dumps(turn)))
    return json.dumps(body).encode()


def request(body: bytes, key: str, port: int, headers: Sequence[str] = ()) -> bytes:
    """Return a complete HTTP request, with the headers that the OpenAI client sends."""
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Accept: application/json",
        "Content-Type: application/json",
        "User-Agent: OpenAI/Python 3.54.0",
        f"Authorization: Bearer {key}",
        *headers,
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
