"""Holds an unproven caller's request and authenticates the key, in one statement."""

import uuid

from promptly.gateway import Gateway
from promptly.gateway.context_lengths import doubtful_sizes
from promptly.gateway.generation import GenerationRequest
from promptly.gateway.hold_placement import PlacedHold, first_output, max_open_holds
from promptly.gateway.prompt_counting import refuse_too_long
from promptly.services import metering
from promptly.services.accounts.authentication import Caller


def place(
    gateway: Gateway,
    caller: Caller,
    request_id: uuid.UUID,
    endpoint: str,
    request: GenerationRequest,
) -> PlacedHold | None:
    """Hold the most that one prompt and a first quantum of output can cost.

    The caller is proven then. Returns None if the caller is proven already, or if the request has
    to go step by step: authenticated first, then placed by `hold_placement`. Raises what shows
    without either: ContextLengthExceeded, and the errors of `ModelNames.resolve`.
    """
    key_hash = caller.unproven_key_hash
    if key_hash is None or len(request.prompts) > 1:
        return None
    [prompt] = request.prompts
    model = gateway.model_names.resolve(request.model, prompt.path)
    upstreams = gateway.pool.ready(prompt.path, model)
    if not upstreams:
        return None
    n_ctx = max(upstream.n_ctx for upstream in upstreams)
    refuse_too_long(prompt, n_ctx)
    most = min(prompt.prompt_bound, n_ctx)
    if doubtful_sizes(upstreams, [most], request.max_tokens):
        return None
    price = gateway.price_list.of(model)
    output = first_output(request.max_tokens, 1, gateway.settings.hold_quantum_tokens)
    hold = metering.admit_hold(
        gateway.database,
        caller,
        request_id=request_id,
        endpoint=endpoint,
        model=model,
        tokens=price.bound(most, output),
        max_open_holds=max_open_holds(gateway, caller),
        price=price,
    )
    if hold is None:
        gateway.known_callers.avoid(key_hash)
        return None
    return PlacedHold(hold, model, [most], counted=False)
