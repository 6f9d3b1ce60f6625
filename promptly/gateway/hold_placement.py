"""Holds a request's cost before upstream sees the request.

With an ample balance the prompt's bytes bound its tokens, since a token is at least one byte.
Otherwise upstream counts the prompt, which needs no slot, so that the last token of the balance
can be spent.
"""

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from promptly.errors import InsufficientQuota, KeyLimitReached, Limit, RateLimited, TokensReserved
from promptly.gateway import Gateway
from promptly.gateway.context_lengths import doubtful_sizes
from promptly.gateway.counts import MOST_TOKENS
from promptly.gateway.generation import GenerationRequest, Input, Prompt
from promptly.gateway.model_loading import LOOK_SECONDS
from promptly.gateway.prompt_counting import PromptCounter, refuse_too_long, require_tokens
from promptly.gateway.upstream import Upstream
from promptly.gateway.upstream_errors import context_exceeded
from promptly.prices import Price
from promptly.services import metering
from promptly.services.accounts.authentication import Caller

# Called with (wanted, minimum): holds the wanted tokens, or what is left if at least the minimum.
_Hold = Callable[[int, int], metering.Hold]


@dataclass(slots=True)
class PlacedHold:
    """A placed hold and the tokens of each prompt: exact if `counted`, else upper bounds.

    `model` is the one that answers.
    """

    hold: metering.Hold
    model: str
    prompt_tokens: list[int]
    counted: bool


def place(
    gateway: Gateway,
    caller: Caller,
    request_id: uuid.UUID,
    endpoint: str,
    request: GenerationRequest,
    counter: PromptCounter,
) -> PlacedHold:
    """Hold the prompts and a first quantum of output.

    Raises InsufficientQuota, KeyLimitReached, TokensReserved, RateLimited, ModelNotAllowed,
    ContextLengthExceeded, and the errors of `PromptCounter.count`.
    """
    prompts = request.prompts
    quantum = gateway.settings.hold_quantum_tokens
    output = first_output(request.max_tokens, len(prompts), quantum)
    path = prompts[0].path
    model = gateway.model_names.resolve_for(caller, request.model, path)
    upstreams = gateway.pool.ready(path, model)
    if not upstreams and not (len(prompts) == 1 and gateway.model_loading.may_load(path, model)):
        upstreams = ready_servers(gateway, path, model, counter)
    # Unknown as long as the model is not loaded.
    n_ctx = max((upstream.n_ctx for upstream in upstreams), default=MOST_TOKENS)
    for prompt in prompts:
        refuse_too_long(prompt, n_ctx)
    price = gateway.price_list.of(model)
    sizes = _Sizes(gateway, caller, prompts, n_ctx, model, price)
    sizes.require_tokens()
    hold = _holder(gateway, caller, request_id, endpoint, model, price)
    doubtful = doubtful_sizes(upstreams, sizes.most, request.max_tokens)
    if doubtful:
        # Servers of this model differ, and the bounds do not say which of them have room.
        _count_if_possible(sizes, doubtful, counter)
    if len(prompts) > 1:
        # Refuse too long prompts now, not after others have been answered and charged.
        too_long = [n for n, prompt in enumerate(prompts) if prompt.prompt_bound >= n_ctx]
        sizes.count(too_long, counter)
    held = _hold_ample(hold, caller, price.bound(sum(sizes.most), output), sizes.least)
    if held is not None:
        return PlacedHold(held, model, sizes.most, counted=sizes.are_counted)
    if not upstreams:
        ready_servers(gateway, path, model, counter)
    sizes.count(range(len(prompts)), counter)
    total = sum(sizes.most)
    wanted, minimum = price.bound(total, output), price.bound(total, 1)
    return PlacedHold(hold(wanted, minimum), model, sizes.most, counted=True)


def place_exactly(
    gateway: Gateway,
    caller: Caller,
    request_id: uuid.UUID,
    endpoint: str,
    inputs: Input,
    bounds: list[int],
    model: str,
    counter: PromptCounter,
) -> metering.Hold:
    """Hold inputs that have no output; `bounds` are upper bounds in tokens, one for each input.

    Raises the same errors as `place`.
    """
    upstreams = ready_servers(gateway, inputs.path, model, counter)
    n_ctx = max(upstream.n_ctx for upstream in upstreams)
    price = gateway.price_list.of(model)
    hold = _holder(gateway, caller, request_id, endpoint, model, price)
    most = sum(min(bound, n_ctx) for bound in bounds)
    least = price.cost(len(bounds), 0, 0)
    held = _hold_ample(hold, caller, price.cost(most, 0, 0), least)
    if held is not None:
        return held
    require_tokens(gateway, caller, least)
    total = price.cost(counter.count(inputs, model), 0, 0)
    return hold(total, total)


def ready_servers(
    gateway: Gateway, path: str, model: str, counter: PromptCounter
) -> list[Upstream]:
    """Return the servers that can take a request; waits for a router that loads their model.

    Raises UpstreamUnavailable or UnsupportedEndpoint if there are none, UpstreamTimeout if loading
    takes too long, and what the counter raises if the client leaves.
    """
    for _ in gateway.model_loading.waits(path, model):
        counter.pause(LOOK_SECONDS)
    return gateway.pool.require(path, model)


class _Sizes:
    """Sizes of prompts in tokens: bounds, equal once counted.

    Counting ends with the first prompt that the account cannot afford.
    """

    def __init__(
        self,
        gateway: Gateway,
        caller: Caller,
        prompts: Sequence[Prompt],
        n_ctx: int,
        model: str,
        price: Price,
    ) -> None:
        self._gateway = gateway
        self._caller = caller
        self._prompts = prompts
        self._n_ctx = n_ctx
        self._model = model
        self._counted: set[int] = set()
        self._price = price
        self._fewest = [max(prompt.fewest_tokens, 1) for prompt in prompts]
        self.most = [min(prompt.prompt_bound, n_ctx) for prompt in prompts]

    @property
    def are_counted(self) -> bool:
        """Whether every prompt was counted, so that its size is exact."""
        return len(self._counted) == len(self._prompts)

    @property
    def least(self) -> int:
        """The least that the prompts and one token of output can cost."""
        return self._price.bound(sum(self._fewest), 1)

    def require_tokens(self) -> None:
        """Raise InsufficientQuota or TokensReserved if prompts and a token cannot be covered."""
        require_tokens(self._gateway, self._caller, self.least)

    def count(self, numbers: Iterable[int], counter: PromptCounter) -> None:
        """Count the prompts with these numbers, unless they are counted already.

        Raises ContextLengthExceeded, and the errors of `require_tokens` and `PromptCounter.count`.
        """
        for number in numbers:
            if self._fewest[number] == self.most[number]:
                continue
            prompt = self._prompts[number]
            tokens = counter.count(prompt, self._model)
            if tokens >= self._n_ctx:
                raise context_exceeded(tokens, self._n_ctx, prompt.param)
            self._fewest[number] = self.most[number] = tokens
            self._counted.add(number)
            self.require_tokens()


def _count_if_possible(sizes: _Sizes, numbers: list[int], counter: PromptCounter) -> None:
    """Count prompts, unless the account has too many counts running: the bounds do as well."""
    try:
        sizes.count(numbers, counter)
    except RateLimited as problem:
        if problem.limit != Limit.COUNTING:
            raise


def first_output(max_tokens: int | None, prompts: int, quantum: int) -> int:
    """Return the tokens to hold for the output of `prompts` prompts before they run."""
    return quantum if max_tokens is None else min(quantum, max_tokens * prompts)


def _holder(
    gateway: Gateway,
    caller: Caller,
    request_id: uuid.UUID,
    endpoint: str,
    model: str,
    price: Price,
) -> _Hold:
    terms = partial(
        metering.place_hold,
        gateway.database,
        request_id=request_id,
        user_id=caller.user_id,
        key_id=caller.key_id,
        endpoint=endpoint,
        model=model,
        price=price,
        max_open_holds=max_open_holds(gateway, caller),
        top_up_url=gateway.top_up_url,
    )
    return lambda wanted, minimum: terms(wanted_tokens=wanted, minimum_tokens=minimum)


def max_open_holds(gateway: Gateway, caller: Caller) -> int:
    if caller.concurrent_requests is not None:
        return caller.concurrent_requests
    settings = gateway.settings
    if caller.pays:
        return settings.max_concurrent_requests
    return min(settings.max_concurrent_requests, settings.trial_concurrent_requests)


def _hold_ample(hold: _Hold, caller: Caller, bound: int, least: int) -> metering.Hold | None:
    """Hold an upper bound if balance and key cover it; otherwise return None.

    Raises KeyLimitReached if the key cannot even spend `least`: counting would not help.
    """
    if caller.available_tokens < bound:
        return None
    try:
        return hold(bound, bound)
    except (InsufficientQuota, TokensReserved):
        # Another request has spent it since the key was looked up: count exactly.
        return None
    except KeyLimitReached as problem:
        if problem.room < least:
            raise
        return None
