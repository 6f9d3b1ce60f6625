"""Holds a request's cost before upstream sees the request.

With an ample balance the prompt's bytes bound its tokens, since a token is at least one byte.
Otherwise upstream counts the prompt, which needs no slot, so that the last token of the balance
can be spent.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from promptly.clients.llama import ConnectFailed, LlamaError
from promptly.errors import (
    InsufficientQuota,
    InvalidRequest,
    RequestRejected,
    TokensReserved,
    UpstreamError,
)
from promptly.gateway import Gateway
from promptly.gateway.counts import MOST_TOKENS
from promptly.gateway.fatal_bodies import MAX_RESENDS
from promptly.gateway.generation import GenerationRequest, Input, Prompt
from promptly.gateway.upstream_errors import context_exceeded
from promptly.gateway.upstreams import Upstream
from promptly.services import metering
from promptly.services.accounts.authentication import Caller

COUNT_TIMEOUT_SECONDS = 60

# Called with (wanted, minimum): holds the wanted tokens, or what is left if at least the minimum.
_Hold = Callable[[int, int], metering.Hold]


@dataclass(slots=True)
class PlacedHold:
    """A placed hold and the tokens of each prompt: exact if `counted`, else upper bounds."""

    hold: metering.Hold
    prompt_tokens: list[int]
    counted: bool


def place(
    gateway: Gateway,
    caller: Caller,
    request_id: uuid.UUID,
    endpoint: str,
    request: GenerationRequest,
) -> PlacedHold:
    """Hold the prompts and a first quantum of output.

    Raises InsufficientQuota, TokensReserved, RateLimited, ContextLengthExceeded,
    UpstreamUnavailable, UnsupportedEndpoint, and the errors of `count_prompt`.
    """
    prompts = request.prompts
    quantum = gateway.settings.hold_quantum_tokens
    output = first_output(request.max_tokens, len(prompts), quantum)
    upstreams = _upstreams(gateway, prompts[0].path)
    n_ctx = max(upstream.n_ctx for upstream in upstreams)
    for prompt in prompts:
        _refuse_too_long(prompt, n_ctx)
    # Nothing below is counted for an account that has nothing to spend.
    require_tokens(gateway, caller)
    hold = _holder(gateway, caller, request_id, endpoint, upstreams[0].model)
    if len(prompts) == 1:
        sizes = [min(prompts[0].prompt_bound, n_ctx)]
    else:
        # Refuse too long prompts now, not after others have been answered and charged.
        sizes = [
            prompt.prompt_bound
            if prompt.prompt_bound < n_ctx
            else _count(gateway, caller, prompt, n_ctx)
            for prompt in prompts
        ]
    bound = sum(sizes) + output
    held = _hold_ample(hold, caller, bound)
    if held is not None:
        return PlacedHold(held, sizes, counted=False)
    sizes = [_count(gateway, caller, prompt, n_ctx) for prompt in prompts]
    total = sum(sizes)
    return PlacedHold(hold(total + output, total + 1), sizes, counted=True)


def place_exactly(
    gateway: Gateway,
    caller: Caller,
    request_id: uuid.UUID,
    endpoint: str,
    inputs: Input,
    bounds: list[int],
) -> metering.Hold:
    """Hold inputs that have no output; `bounds` are upper bounds in tokens, one for each input.

    Raises the same errors as `place`.
    """
    upstreams = _upstreams(gateway, inputs.path)
    n_ctx = max(upstream.n_ctx for upstream in upstreams)
    hold = _holder(gateway, caller, request_id, endpoint, upstreams[0].model)
    held = _hold_ample(hold, caller, sum(min(bound, n_ctx) for bound in bounds))
    if held is not None:
        return held
    require_tokens(gateway, caller)
    with gateway.count_turns.turn(caller.user_id):
        total = count_prompt(gateway, inputs)
    return hold(total, total)


def first_output(max_tokens: int | None, prompts: int, quantum: int) -> int:
    """Return the tokens to hold for the output of `prompts` prompts before they run."""
    return quantum if max_tokens is None else min(quantum, max_tokens * prompts)


def _upstreams(gateway: Gateway, path: str) -> list[Upstream]:
    found = gateway.pool.ready(path)
    if not found:
        raise gateway.pool.refusal(path)
    return found


def _holder(
    gateway: Gateway, caller: Caller, request_id: uuid.UUID, endpoint: str, model: str
) -> _Hold:
    terms = partial(
        metering.place_hold,
        gateway.database,
        request_id=request_id,
        user_id=caller.user_id,
        key_id=caller.key_id,
        endpoint=endpoint,
        model=model,
        max_open_holds=_max_open_holds(gateway, caller),
        top_up_url=gateway.top_up_url,
    )
    return lambda wanted, minimum: terms(wanted_tokens=wanted, minimum_tokens=minimum)


def _max_open_holds(gateway: Gateway, caller: Caller) -> int:
    settings = gateway.settings
    if caller.pays:
        return settings.max_concurrent_requests
    return min(settings.max_concurrent_requests, settings.trial_concurrent_requests)


def _hold_ample(hold: _Hold, caller: Caller, bound: int) -> metering.Hold | None:
    """Hold an upper bound if the balance covers it; otherwise return None."""
    if caller.available_tokens < bound:
        return None
    try:
        return hold(bound, bound)
    except (InsufficientQuota, TokensReserved):
        # Another request has spent it since the key was looked up: count exactly.
        return None


def require_tokens(gateway: Gateway, caller: Caller) -> None:
    """Raise InsufficientQuota or TokensReserved if the account has no token left to spend.

    Counting would be in vain, and costs the model server time.
    """
    if caller.available_tokens <= 0:
        # Its requests may have ended since the key was looked up.
        metering.require_tokens(gateway.database, caller.user_id, gateway.top_up_url)


def count_for(gateway: Gateway, caller: Caller, prompt: Prompt) -> int:
    """Return the prompt's size in tokens, within the account's bound of counts at a time.

    Raises RateLimited, ContextLengthExceeded if the bytes alone show that the prompt cannot fit,
    and the errors of `count_prompt`.
    """
    _refuse_too_long(prompt, max(upstream.n_ctx for upstream in _upstreams(gateway, prompt.path)))
    with gateway.count_turns.turn(caller.user_id):
        return count_prompt(gateway, prompt)


def _refuse_too_long(prompt: Prompt, n_ctx: int) -> None:
    if prompt.fewest_tokens >= n_ctx:
        raise context_exceeded(None, None, prompt.param)


def _count(gateway: Gateway, caller: Caller, prompt: Prompt, n_ctx: int) -> int:
    with gateway.count_turns.turn(caller.user_id):
        tokens = count_prompt(gateway, prompt)
    if tokens >= n_ctx:
        raise context_exceeded(tokens, n_ctx, prompt.param)
    return tokens


def count_prompt(gateway: Gateway, prompt: Input) -> int:
    """Return the prompt's size in tokens, as upstream will count it.

    Raises UpstreamUnavailable, UpstreamError, UnsupportedEndpoint, RequestRejected, or
    InvalidRequest when upstream refuses the prompt.
    """
    resends = 0
    for upstream in gateway.pool.ready(prompt.path):
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
    raise gateway.pool.refusal(prompt.path)


class _Busy(Exception):
    """The upstream cannot count at the moment (503)."""


def _ask(gateway: Gateway, upstream: Upstream, advice: str, path: str, body: bytes) -> Any:
    fatal_bodies = gateway.fatal_bodies
    fatal_bodies.check_anew(body)
    try:
        status, answer = upstream.client.call(
            "POST", path, body, timeout_seconds=COUNT_TIMEOUT_SECONDS
        )
    except ConnectFailed:
        raise
    except LlamaError:
        if not gateway.pool.doubt(upstream) and fatal_bodies.add_death(fatal_bodies.digest(body)):
            raise RequestRejected from None
        raise
    if status == 200:
        return answer
    if status == 503:
        raise _Busy
    if status == 400:
        raise InvalidRequest(f"The model server refused the request. {advice}")
    raise UpstreamError
