"""Translates upstream's errors into our own; its own texts may contain paths and templates."""

import logging
import re
from collections.abc import Callable

from promptly.clients.llama import LlamaStream
from promptly.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    PromptlyError,
    UnsupportedEndpoint,
    UpstreamError,
    UpstreamUnavailable,
)
from promptly.gateway import routers
from promptly.gateway.counts import count_of
from promptly.gateway.generation import Input

logger = logging.getLogger(__name__)


class NoAnswer(Exception):
    """An upstream did not answer: another one may be tried, unless a subclass says otherwise.

    `make_error` makes the client's error if none is. Each exception refers to the one before it, so
    one made in advance would refer to itself, and keep the whole request in memory.
    """

    make_error: Callable[[], PromptlyError] = UpstreamUnavailable


class NotServed(NoAnswer):
    """An upstream lacks the endpoint altogether."""

    make_error = UnsupportedEndpoint


class NotConnected(NoAnswer):
    """An upstream could not be reached."""


class BrokeOff(NoAnswer):
    """An upstream's connection failed after the request was sent, perhaps by the request's fault.

    Once its answer has `begun`, no other one may be tried. If the connection `is_stale`, that is
    kept since an earlier request, the same upstream may be tried again.
    """

    make_error = UpstreamError

    def __init__(self, *, begun: bool, is_stale: bool = False) -> None:
        super().__init__()
        self.begun = begun
        self.is_stale = is_stale


# llama-server's error when it was started for vectors of tokens, not of texts.
_NO_VECTORS = "Pooling type 'none'"
# Its error for an input that it has to process in one batch, but that exceeds the batch size.
_TOO_LARGE = re.compile(r"input (?:\((\d+) tokens\) )?is too large to process")
_BATCH = re.compile(r"current batch size: (\d+)")


def refusal(stream: LlamaStream, data: bytes | None, sent: Input) -> Exception:
    """Return the error to raise for an answer to `sent` that is not 200 and began with `data`."""
    if sent.optional and stream.status in (404, 501):
        return NotServed()
    error = stream.read_error(data or b"")
    if error.get("type") == "exceed_context_size_error":
        prompt_tokens, n_ctx = count_of(error.get("n_prompt_tokens")), count_of(error.get("n_ctx"))
        return context_exceeded(prompt_tokens, n_ctx, sent.param)
    message = str(error.get("message"))
    if sent.optional and message.startswith(_NO_VECTORS):
        return NotServed()
    too_large = _TOO_LARGE.match(message)
    if too_large:
        batch = _BATCH.search(message)
        return _too_long(too_large[1], batch[1] if batch else None, sent.param)
    if stream.status == 503 or routers.is_missing({"error": error}):
        return NoAnswer()
    logger.warning("upstream refused", extra={"status": stream.status})
    if stream.status == 400:
        return InvalidRequest(f"The model server refused the request. {sent.advice}")
    return UpstreamError()


def context_exceeded(
    prompt_tokens: int, n_ctx: int, param: str, *, at_least: bool = False
) -> ContextLengthExceeded:
    """Return the error for a prompt that does not fit the model.

    Both sizes are in tokens, 0 if unknown; the prompt has `at_least` as many, or exactly. Agents
    recognize these words, and then shorten the conversation: "prompt is too long", "maximum context
    length is … tokens".
    """
    if not prompt_tokens or not n_ctx:
        return ContextLengthExceeded(
            "The prompt is too long: it exceeds this model's maximum context length.", param=param
        )
    tokens = f"at least {prompt_tokens}" if at_least else prompt_tokens
    problem = ContextLengthExceeded(
        f"The prompt is too long: {tokens} tokens > {n_ctx} maximum. "
        f"This model's maximum context length is {n_ctx} tokens.",
        param=param,
    )
    problem.prompt_tokens, problem.n_ctx = prompt_tokens, n_ctx
    return problem


def _too_long(tokens: str | None, batch: str | None, param: str) -> ContextLengthExceeded:
    figures = f": {tokens} tokens > {batch} maximum" if tokens and batch else ""
    return ContextLengthExceeded(
        f"An input is too long{figures}. It exceeds what the model server accepts in one piece.",
        param=param,
    )
