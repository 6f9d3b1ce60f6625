"""Answers that are not streamed, and the logprobs that both kinds contain."""

import zlib
from typing import Any

import orjson

from sandbox.llama import stops
from sandbox.llama.answers import Answer
from sandbox.llama.chunks import FINGERPRINT, ChatChunks, TextChunks
from sandbox.llama.prompt import Body

MAX_TOP_LOGPROBS = 20


def render_whole(
    body: Body,
    answer: Answer,
    chunks: ChatChunks | TextChunks,
    model: str,
    usage: bytes,
    timings: bytes,
) -> bytes:
    """Return the whole answer as JSON; ``usage`` and ``timings`` are JSON already."""
    text = isinstance(chunks, TextChunks)
    tail = orjson.dumps(
        {
            "created": chunks.created,
            "model": model,
            "system_fingerprint": FINGERPRINT,
            "object": "text_completion" if text else "chat.completion",
        }
    )[1:-1]
    choice = _text_choice(answer) if text else _chat_choice(body, answer)
    verbose = b"" if text else stops.report(body, answer.stop_type, answer.stop)
    return b'{"choices":[%b],%b,"usage":%b,"id":"%b"%b,"timings":%b}' % (
        orjson.dumps(choice),
        tail,
        usage,
        chunks.id.encode(),
        verbose,
        timings,
    )


def _text_choice(answer: Answer) -> dict[str, Any]:
    return {
        "text": answer.text("content"),
        "index": 0,
        "logprobs": None,
        "finish_reason": answer.finish.value,
    }


def _chat_choice(body: Body, answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text("content")}
    if thought := answer.text("reasoning"):
        message["reasoning_content"] = thought
    if answer.tool_calls:
        message["tool_calls"] = answer.tool_calls
    choice: dict[str, Any] = {
        "finish_reason": answer.finish.value,
        "index": 0,
        "message": message,
    }
    if alternatives := alternatives_of(body, chat=True):
        entries = [
            logprob_entry(delta.text, alternatives)
            for delta in answer.tokens
            if delta and delta.text
        ]
        choice["logprobs"] = {"content": entries}
    return choice


def alternatives_of(body: Body, *, chat: bool) -> int:
    """Return how many alternatives each logprob has; with 0 the real server sends none."""
    wanted = body.get("logprobs") or 0
    if wanted and chat:
        wanted = body.get("top_logprobs", MAX_TOP_LOGPROBS)
    return min(int(wanted), MAX_TOP_LOGPROBS)


def logprob_entry(text: str, alternatives: int) -> dict[str, Any]:
    """Return one entry of ``logprobs.content``."""
    encoded = text.encode()
    entry: dict[str, Any] = {
        "id": zlib.crc32(encoded) % 32000,
        "token": text,
        "bytes": list(encoded),
        "logprob": -0.25,
    }
    entry["top_logprobs"] = [entry | {"logprob": -0.25 - rank} for rank in range(alternatives)]
    return entry
