"""Counting a prompt's tokens: free of charge, for accounts that could also run the prompt."""

from collections.abc import Callable
from typing import TypeVar

from promptly.blueprints.v1 import guard
from promptly.blueprints.v1.body import take_body
from promptly.gateway import current_gateway, hold_placement
from promptly.gateway.generation import Prompt
from promptly.gateway.json_bounds import Body

T = TypeVar("T")


def take_counted(parse: Callable[[Body], T]) -> T:
    """Take a body whose prompt is only counted; raises like `take_body`.

    Raises InsufficientQuota or TokensReserved if the account has no token left to spend.
    """
    hold_placement.require_tokens(current_gateway(), guard.caller())
    return take_body(parse)


def count_tokens(prompt: Prompt) -> int:
    """Return the prompt's size in tokens; raises like `hold_placement.count_for`."""
    return hold_placement.count_for(current_gateway(), guard.caller(), prompt)
