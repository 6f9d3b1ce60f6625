"""Counts prompts in tokens, at upstream: free of charge, and so within bounds.

Nothing is counted for an account without a token to spend, nor for a client that has gone. An
account counts a few prompts at a time, and a request for MAX_SECONDS in all.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from promptly.clients.llama import ConnectFailed, LlamaError
from promptly.errors import InvalidRequest, RequestRejected, UpstreamError, UpstreamTimeout
from promptly.gateway import Gateway, routers
from promptly.gateway.counts import MOST_TOKENS
from promptly.gateway.fatal_bodies import MAX_RESENDS
from promptly.gateway.generation import Input, Prompt
from promptly.gateway.upstream import Upstream
from promptly.gateway.upstream_errors import context_exceeded
from promptly.services import metering
from promptly.services.accounts.authentication import Caller

COUNT_TIMEOUT_SECONDS = 60
MAX_SECONDS = 120


def require_tokens(gateway: Gateway, caller: Caller, tokens: int = 1) -> None:
    """Raise InsufficientQuota or TokensReserved unless the account has `tokens` to spend.

    Counting would be in vain, and costs the model server time.
    """
    if caller.available_tokens < tokens:
        # Its requests may have ended since the key was looked up.
        metering.require_tokens(gateway.database, caller.user_id, tokens, gateway.top_up_url)


def refuse_too_long(prompt: Prompt, n_ctx: int) -> None:
    """Raise ContextLengthExceeded if the bytes alone show that the prompt cannot fit."""
    if prompt.fewest_tokens >= n_ctx:
        raise context_exceeded(prompt.fewest_tokens, n_ctx, prompt.param, at_least=True)


class PromptCounter:
    """Counts the prompts of one request.

    `raise_if_ended` is called before each count; it raises if nobody waits for the result.
    """

    __slots__ = ("_caller", "_gateway", "_raise_if_ended", "_started_at")

    def __init__(
        self, gateway: Gateway, caller: Caller, raise_if_ended: Callable[[], None]
    ) -> None:
        self._gateway = gateway
        self._caller = caller
        self._raise_if_ended = raise_if_ended
        self._started_at = time.monotonic()

    def pause(self, seconds: float) -> None:
        """Wait, unless nobody waits for the result any more."""
        self._raise_if_ended()
        time.sleep(seconds)

    def count(self, prompt: Input, model: str) -> int:
        """Return the prompt's size in tokens, as servers of the model will count it.

        Raises RateLimited, UpstreamTimeout, UpstreamUnavailable, UpstreamError,
        UnsupportedEndpoint, RequestRejected, or InvalidRequest when upstream refuses the prompt.
        """
        with self._gateway.count_turns.turn(self._caller.user_id):
            self._raise_if_ended()
            if time.monotonic() - self._started_at > MAX_SECONDS:
                raise UpstreamTimeout(
                    f"Counting the tokens of the prompts took longer than {MAX_SECONDS} s."
                )
            return _count(self._gateway, prompt, model)


def _count(gateway: Gateway, prompt: Input, model: str) -> int:
    resends = 0
    for upstream in gateway.pool.ready(prompt.path, model):
        try:
            tokens = prompt.count(partial(_ask, gateway, upstream, prompt.advice))
        except ConnectFailed:
            gateway.pool.failed(upstream)
        except _Busy:
            gateway.pool.doubt(upstream)
        except LlamaError:
            if resends == MAX_RESENDS:
                raise UpstreamError from None
            resends += 1
        except (KeyError, TypeError, ValueError, OverflowError):
            raise UpstreamError from None
        else:
            if tokens < 0:
                raise UpstreamError
            return min(tokens, MOST_TOKENS)
    raise gateway.pool.refusal(prompt.path, model)


class _Busy(Exception):
    """The upstream cannot count at the moment: it loads its model, or has lost it."""


def _ask(gateway: Gateway, upstream: Upstream, advice: str, path: str, body: bytes) -> Any:
    fatal_bodies = gateway.fatal_bodies
    with fatal_bodies.admitted_anew(body):
        sent_at = time.time()
        try:
            status, answer = upstream.client.call(
                "POST", path, body, timeout_seconds=COUNT_TIMEOUT_SECONDS
            )
        except ConnectFailed:
            raise
        except LlamaError:
            if gateway.pool.doubt(upstream):
                raise
            if fatal_bodies.add_death(fatal_bodies.digest(body), upstream.name, sent_at):
                raise RequestRejected from None
            raise
        if fatal_bodies.any_known:
            fatal_bodies.forgive(fatal_bodies.digest(body))
    if status == 200:
        return answer
    if status == 503 or routers.is_missing(answer):
        raise _Busy
    if status == 400:
        raise InvalidRequest(f"The model server refused the request. {advice}")
    raise UpstreamError
