"""Translates upstream's errors into our own; its own texts may contain paths and templates."""

import logging
import re

from promptly.clients.llama import LlamaStream
from promptly.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    PromptlyError,
    UnsupportedEndpoint,
    UpstreamError,
    UpstreamUnavailable,
)
from promptly.gateway.generation import Input

logger = logging.getLogger(__name__)


class NoAnswer(Exception):
    """An upstream did not answer: another one may be tried, unless a subclass says otherwise."""

    def __init__(self, error: PromptlyError) -> None:
        self.error = error
        super().__init__(error.message)


class NotServed(NoAnswer):
    """An upstream lacks the endpoint altogether."""

    def __init__(self) -> None:
        super().__init__(UnsupportedEndpoint())


class NotConnected(NoAnswer):
    """An upstream could not be reached."""

    def __init__(self) -> None:
        super().__init__(UpstreamUnavailable())


class BrokeOff(NoAnswer):
    """An upstream's connection failed after the request was sent, perhaps by the request's fault.

    Once its answer has `begun`, no other one may be tried.
    """

    def __init__(self, *, begun: bool) -> None:
        super().__init__(UpstreamError())
        self.begun = begun


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
        return context_exceeded(error.get("n_prompt_tokens"), error.get("n_ctx"), sent.param)
    message = str(error.get("message"))
    if sent.optional and message.startswith(_NO_VECTORS):
        return NotServed()
    too_large = _TOO_LARGE.match(message)
    if too_large:
        batch = _BATCH.search(message)
        return _too_long(too_large[1], batch[1] if batch else None, sent.param)
    if stream.status == 503:
        return NoAnswer(UpstreamUnavailable())
    logger.warning("upstream refused", extra={"status": stream.status})
    if stream.status == 400:
        return InvalidRequest(f"The model server refused the request. {sent.advice}")
    return UpstreamError()


def context_exceeded(
    prompt_tokens: int | None, n_ctx: int | None, param: str
) -> ContextLengthExceeded:
    """Return the error for a prompt that does not fit the model; both sizes in tokens."""
    figures = ""
    if prompt_tokens is not None and n_ctx is not None:
        figures = f": {prompt_tokens} tokens, but at most {n_ctx} fit"
    problem = ContextLengthExceeded(
        f"The prompt is longer than the model's context{figures}.", param=param
    )
    problem.prompt_tokens, problem.n_ctx = prompt_tokens, n_ctx
    return problem


def _too_long(tokens: str | None, batch: str | None, param: str) -> ContextLengthExceeded:
    figures = f": {tokens} tokens, but at most {batch} fit" if tokens and batch else ""
    return ContextLengthExceeded(
        f"An input is longer than the model server accepts in one piece{figures}.", param=param
    )
