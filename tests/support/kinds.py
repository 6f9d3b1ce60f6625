"""Every kind of request that the simulated llama-server can answer, and how each answer ends."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """One kind of request; an answer is complete if it contains `ending`."""

    name: str
    path: str
    body: Callable[[str], dict[str, Any]]
    ending: bytes
    is_charged: bool = True


def _chat(text: str, **others: Any) -> dict[str, Any]:
    return {"model": "any", "messages": [{"role": "user", "content": text}], **others}


KINDS = (
    Kind("plain", "/v1/chat/completions", _chat, b'"usage"'),
    Kind("streamed", "/v1/chat/completions", lambda text: _chat(text, stream=True), b"[DONE]"),
    Kind("texts", "/v1/completions", lambda text: {"prompt": text, "stream": True}, b"[DONE]"),
    Kind(
        "messages",
        "/v1/messages",
        lambda text: _chat(text, stream=True, max_tokens=100),
        b"message_stop",
    ),
    Kind(
        "responses",
        "/v1/responses",
        lambda text: {"model": "any", "input": text, "stream": True},
        b"response.completed",
    ),
    Kind("embeddings", "/v1/embeddings", lambda text: {"model": "any", "input": text}, b'"usage"'),
    Kind("counts", "/v1/messages/count_tokens", _chat, b"input_tokens", is_charged=False),
)
PLAIN, STREAMED = KINDS[:2]
