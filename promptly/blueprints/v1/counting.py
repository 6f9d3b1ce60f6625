"""Counting prompts: on request, free of charge, or to place a hold."""

from collections.abc import Callable
from typing import TypeVar

from promptly.blueprints.v1.api_request import ApiRequest
from promptly.blueprints.v1.body import take_body
from promptly.errors import InvalidRequest
from promptly.gateway import hold_placement
from promptly.gateway.chat_request import ChatRequest
from promptly.gateway.disconnects import has_left
from promptly.gateway.json_bounds import Body
from promptly.gateway.prompt_counting import PromptCounter, refuse_too_long, require_tokens

T = TypeVar("T")


def take_counted(request: ApiRequest, parse: Callable[[Body], T]) -> T:
    """Take a body whose prompt is only counted; raises like `take_body`.

    Raises InsufficientQuota or TokensReserved if the account has no token left to spend.
    """
    require_tokens(request.gateway, request.caller)
    return take_body(request, parse)


def count_tokens(request: ApiRequest, chat: ChatRequest) -> int:
    """Return the prompt's size in tokens, for the model that the request would get.

    Raises ContextLengthExceeded if the bytes alone show that it cannot fit, and the errors of
    `PromptCounter.count`.
    """
    gateway = request.gateway
    model = gateway.model_names.resolve_for(request.caller, chat.model, chat.path)
    counter = prompt_counter(request)
    upstreams = hold_placement.ready_servers(gateway, chat.path, model, counter)
    refuse_too_long(chat, max(upstream.n_ctx for upstream in upstreams))
    return counter.count(chat, model)


def prompt_counter(request: ApiRequest) -> PromptCounter:
    """Return a counter that stops counting when the request's client leaves."""
    environ = request.environ

    def raise_if_gone() -> None:
        if has_left(environ):
            raise InvalidRequest("The connection closed before the prompts were counted.")

    return PromptCounter(request.gateway, request.caller, raise_if_gone)
