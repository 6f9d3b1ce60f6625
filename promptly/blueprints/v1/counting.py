"""Counting prompts: on request, free of charge, or to place a hold."""

from collections.abc import Callable
from typing import TypeVar

from flask import request

from promptly.blueprints.v1 import guard
from promptly.blueprints.v1.body import take_body
from promptly.errors import InvalidRequest
from promptly.gateway import Gateway, current_gateway, hold_placement
from promptly.gateway.chat_request import ChatRequest
from promptly.gateway.disconnects import has_left
from promptly.gateway.json_bounds import Body
from promptly.gateway.prompt_counting import PromptCounter, refuse_too_long, require_tokens
from promptly.services.accounts.authentication import Caller

T = TypeVar("T")


def take_counted(parse: Callable[[Body], T]) -> T:
    """Take a body whose prompt is only counted; raises like `take_body`.

    Raises InsufficientQuota or TokensReserved if the account has no token left to spend.
    """
    require_tokens(current_gateway(), guard.caller())
    return take_body(parse)


def count_tokens(chat: ChatRequest) -> int:
    """Return the prompt's size in tokens, for the model that the request would get.

    Raises ContextLengthExceeded if the bytes alone show that it cannot fit, and the errors of
    `PromptCounter.count`.
    """
    gateway, caller = current_gateway(), guard.caller()
    model = gateway.model_names.resolve_for(caller, chat.model, chat.path)
    counter = prompt_counter(gateway, caller)
    upstreams = hold_placement.ready_servers(gateway, chat.path, model, counter)
    refuse_too_long(chat, max(upstream.n_ctx for upstream in upstreams))
    return counter.count(chat, model)


def prompt_counter(gateway: Gateway, caller: Caller) -> PromptCounter:
    """Return a counter that stops counting when the current request's client leaves."""
    environ = request.environ

    def raise_if_gone() -> None:
        if has_left(environ):
            raise InvalidRequest("The connection closed before the prompts were counted.")

    return PromptCounter(gateway, caller, raise_if_gone)
