"""Requests shared by all clients: small ones that both backends answer alike.

Directives in the last message steer the simulator; the real model just reads them. The tiny model
generates random words, so its answers need a limit, or a seed with which they end by themselves.
"""

from enum import StrEnum
from typing import Any

import pytest
from pydantic import BaseModel

from tests.blueprints.v1.client import sim

Json = dict[str, Any]

only_simulator = pytest.mark.parametrize("backend", ["simulator"], indirect=True)

HELLO: Any = sim("tokens=12", text="hello world")
SHORT_TOKENS = 10
THINKING: Json = {"chat_template_kwargs": {"enable_thinking": True}}
# Token ids of the tiny model: 263 starts a tool call, 4 ends an answer.
NO_END: Json = {"logit_bias": {"4": -100}}
ONE_CALL: Json = {"logit_bias": {"263": 25, "4": 30}, "parallel_tool_calls": False}
CALL_TOKENS = 300
SEED = 2


class City(StrEnum):
    PARIS = "Paris"
    ROME = "Rome"


class Place(BaseModel):
    city: City


class Weather(BaseModel):
    """A structured answer; its parts are choices, so a random model comes to their end."""

    place: Place
    sunny: bool


PARAMETERS: Json = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": [city.value for city in City]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "the weather of a city",
        "parameters": PARAMETERS,
    },
}


def saying(directives: str) -> Any:
    """Return messages whose directives steer the simulator."""
    return sim(directives)
