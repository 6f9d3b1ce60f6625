"""A chat request in the form that upstream gets, whatever dialect the client speaks."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from msgspec import Raw

from promptly.gateway import json_body, prefix_chain
from promptly.gateway.chat_texts import content_texts, role_of
from promptly.gateway.generation import Call, fewest_tokens
from promptly.gateway.prefix_chain import Prefix

HEADER_SAFE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
MAX_IGNORED = 20

# Always stream: only then do we notice a lost client and know the count during the answer.
STREAMED = (
    b',"stream":true,"stream_options":{"include_usage":true}'
    b',"timings_per_token":true,"return_progress":true}'
)

# Upper bounds for what a chat template adds to the request's bytes: fixed, and per message.
_TEMPLATE_TOKENS = 512
_TOKENS_PER_MESSAGE = 16
# Smaller ones fit into the context of any model.
_LARGE_BYTES = 512 * 1024


@dataclass(slots=True)
class ChatRequest:
    """A checked request, which is its own only prompt.

    `model` is the client's name for it. `encoded` is upstream's JSON without model, limits and
    streaming options; `prompt_bound` is an upper bound of the prompt in tokens, since a token is at
    least one byte. `without_alternatives` asks for the logprobs of the generated tokens only, where
    upstream always adds an alternative. `stop_sequences` are those that the answer has to name,
    `prefix` the prompt's beginnings.
    """

    path: ClassVar[str] = "/v1/chat/completions"
    optional: ClassVar[bool] = False
    advice: ClassVar[str] = "Check 'tools', 'response_format' and the order of 'messages'."
    param: ClassVar[str] = "messages"

    encoded: bytes
    model: str
    stream: bool
    include_usage: bool
    max_tokens: int | None
    prompt_bound: int
    fewest_tokens: int
    ignored: tuple[str, ...]
    prefix: Prefix = prefix_chain.EMPTY
    without_alternatives: bool = False
    stop_sequences: tuple[str, ...] = ()

    @property
    def prompts(self) -> tuple["ChatRequest"]:
        """The chat itself, as its only prompt."""
        return (self,)

    def upstream_body(self, max_tokens: int | None, slot: bytes = b"") -> bytes:
        """Build the body for a streamed upstream answer of at most `max_tokens`."""
        limit = b"" if max_tokens is None else b',"max_tokens":%d' % max_tokens
        return b"".join((memoryview(self.encoded)[:-1], limit, slot, STREAMED))

    def counting_body(self) -> bytes:
        """Build the body for upstream's `input_tokens`."""
        return self.encoded

    def drop_text(self) -> None:
        """Free the memory of the text, which upstream has now."""
        self.encoded = b""

    def count(self, call: Call) -> int:
        """Return the prompt's size in tokens; upstream needs no slot for this."""
        return int(call("/v1/chat/completions/input_tokens", self.counting_body())["input_tokens"])


def make_chat_request(
    fields: dict[str, Any],
    *,
    model: str | None,
    stream: bool,
    include_usage: bool,
    max_tokens: int | None,
    ignored: tuple[str, ...],
    session: str | None = None,
) -> ChatRequest:
    """Build a request from checked fields, which include `messages` but no limits or streaming.

    `session` is the client's name for the conversation. Raises InvalidRequest for values that JSON
    cannot represent.
    """
    tools = b""
    if fields.get("tools"):
        tools = json_body.encode({"tools": fields["tools"]})
        # Encoded once, for the prefix and for upstream.
        fields = {**fields, "tools": Raw(tools[len(b'{"tools":') : -1])}
    encoded = json_body.encode(fields)
    template = _TEMPLATE_TOKENS + _TOKENS_PER_MESSAGE * len(fields["messages"])
    return ChatRequest(
        encoded=encoded,
        model=model or "",
        stream=stream,
        include_usage=include_usage,
        max_tokens=max_tokens,
        prompt_bound=len(encoded) + template,
        fewest_tokens=_fewest_tokens(fields["messages"]) if len(encoded) > _LARGE_BYTES else 0,
        ignored=ignored,
        prefix=prefix_chain.of_chat(tools, fields["messages"], session or ""),
    )


def _fewest_tokens(messages: Iterable[Any]) -> int:
    """Return a lower bound of the prompt in tokens.

    Only the user's text is sure to be in it: a template may leave out anything else.
    """
    return sum(
        fewest_tokens(text)
        for message in messages
        if role_of(message) == "user"
        for text in content_texts(message)
    )


def ignored_fields(value: dict[str, Any], known: Collection[str]) -> tuple[str, ...]:
    """Return the names of unknown fields that are not null, as far as a header can carry them."""
    names = [name for name in value if name not in known and value[name] is not None]
    return tuple(name for name in names if HEADER_SAFE.fullmatch(name))[:MAX_IGNORED]
