"""The bytes the stub upstream sends, in llama-server's shape and key order, built once.

One ``Script`` holds the chunks of one kind of stream (with or without per-token timings). Each
piece is a complete HTTP chunk, because llama-server sends every token as a chunk of its own.
"""

import json
from collections.abc import Sequence
from functools import cache

PROMPT_TOKENS = 20
SLOTS = 2048
CONTEXT_TOKENS = 262_144
STAMP_DIGITS = 16
_CREATED = 1_700_000_000
_ID = "chatcmpl-benchbenchbenchbenchbenchbench01"
_FINGERPRINT = "b1-bench"
_HOLE = "0" * STAMP_DIGITS

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\nConnection: %s\r\n\r\n"
)
JSON_HEAD = (
    b"HTTP/1.1 %s\r\nServer: llama.cpp\r\nContent-Type: application/json; charset=utf-8\r\n"
    b"Content-Length: %d\r\nConnection: %s\r\n\r\n"
)


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _timings(predicted: int) -> dict[str, float]:
    """Return the nine numbers that llama-server repeats in each chunk, with plausible digits."""
    return {
        "cache_n": 0,
        "prompt_n": PROMPT_TOKENS,
        "prompt_ms": 12.734,
        "prompt_per_token_ms": 0.6367,
        "prompt_per_second": 1570.5983979896,
        "predicted_n": predicted,
        "predicted_ms": round(predicted * 9.871, 3),
        "predicted_per_token_ms": 9.871,
        "predicted_per_second": 101.3068584743,
    }


def _usage(completion: int) -> dict[str, object]:
    return {
        "completion_tokens": completion,
        "prompt_tokens": PROMPT_TOKENS,
        "total_tokens": PROMPT_TOKENS + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def _event(choices: Sequence[object], **more: object) -> bytes:
    body = {
        "choices": choices,
        "created": _CREATED,
        "id": _ID,
        "model": "bench",
        "system_fingerprint": _FINGERPRINT,
        "object": "chat.completion.chunk",
        **more,
    }
    return b"data: " + _dump(body) + b"\n\n"


def _choice(delta: dict[str, object], reason: str | None = None) -> dict[str, object]:
    return {"finish_reason": reason, "index": 0, "delta": delta}


def http_chunk(payload: bytes) -> bytes:
    """Return one chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(payload), payload)


ROLE = _event([_choice({"role": "assistant", "content": None})])
PROGRESS = http_chunk(
    _event(
        [_choice({"role": "assistant", "content": None})],
        prompt_progress={
            "total": PROMPT_TOKENS,
            "cache": 0,
            "processed": PROMPT_TOKENS,
            "time_ms": 12,
        },
    )
)
DONE = (http_chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n")


class Script:
    """Chunks of one kind of stream, by token index; grown on demand and cached."""

    def __init__(self, *, timings: bool) -> None:
        self.timings = timings
        self.plain: list[bytes] = []
        self.stamped: list[tuple[bytes, bytes]] = []

    def grow(self, tokens: int) -> None:
        """Ensure that the chunks of ``tokens`` tokens exist."""
        for index in range(len(self.plain), tokens):
            more: dict[str, object] = {"timings": _timings(index + 1)} if self.timings else {}
            lead = ROLE if index == 0 else b""
            self.plain.append(http_chunk(lead + _event([_choice({"content": " token"})], **more)))
            stamped = http_chunk(lead + _event([_choice({"content": _HOLE})], **more))
            before, _, after = stamped.rpartition(_HOLE.encode())
            self.stamped.append((before, after))


@cache
def ending(tokens: int, *, usage: bool) -> tuple[bytes, ...]:
    """Return the writes that end a stream: finish (and usage) chunk, ``[DONE]``, end of body."""
    finish = [_choice({}, "length")]
    if not usage:
        return (http_chunk(_event(finish, timings=_timings(tokens))), *DONE)
    last = _event([], usage=_usage(tokens), timings=_timings(tokens))
    return (http_chunk(_event(finish) + last), *DONE)


@cache
def completion(tokens: int) -> bytes:
    """Return the JSON body of a non-streamed answer."""
    message = {"role": "assistant", "content": " token" * tokens}
    return _dump(
        {
            "choices": [{"finish_reason": "length", "index": 0, "message": message}],
            "created": _CREATED,
            "model": "bench",
            "system_fingerprint": _FINGERPRINT,
            "object": "chat.completion",
            "usage": _usage(tokens),
            "id": _ID,
            "timings": _timings(tokens),
        }
    )


_MODEL = {
    "id": "bench",
    "object": "model",
    "created": _CREATED,
    "owned_by": "llamacpp",
    "aliases": ["bench"],
    "meta": {"n_vocab": 32_000, "n_ctx": CONTEXT_TOKENS, "n_ctx_train": CONTEXT_TOKENS},
}


@cache
def small(path: str) -> bytes | None:
    """Return the JSON body of a GET route, or None where llama-server answers 404."""
    if path in {"/health", "/v1/health"}:
        return _dump({"status": "ok"})
    if path == "/props":
        return _dump(
            {
                "default_generation_settings": {"n_ctx": CONTEXT_TOKENS},
                "total_slots": SLOTS,
                "model_alias": "bench",
                "chat_template_caps": {},
            }
        )
    if path == "/slots":
        next_token = [{"n_decoded": 0, "n_remain": -1}]
        slot = {
            "n_ctx": CONTEXT_TOKENS,
            "is_processing": False,
            "id_task": -1,
            "n_prompt_tokens": 0,
        }
        return _dump([{"id": index, **slot, "next_token": next_token} for index in range(SLOTS)])
    if path in {"/v1/models", "/models"}:
        return _dump({"object": "list", "data": [_MODEL]})
    return None


NOT_FOUND = _dump({"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}})
INPUT_TOKENS = _dump({"input_tokens": PROMPT_TOKENS, "object": "response.input_tokens"})
