"""Request fields that a response repeats."""

from dataclasses import dataclass
from typing import Any

import orjson

from promptly.errors import InvalidRequest
from promptly.gateway import json_body
from promptly.gateway.dialects.responses.body import PlainText, ResponsesBody, ToolsBody
from promptly.gateway.dialects.responses.tools import Offer


@dataclass(frozen=True, slots=True)
class Echo:
    """`fields` are already encoded as JSON; with `first_call_only` further tool calls are dropped.

    The fields include `tools`, `tool_choice` and `parallel_tool_calls`. A call of the function
    `answer_tool` is the answer's text, see `answer_tool.py`.
    """

    fields: dict[str, orjson.Fragment]
    first_call_only: bool = False
    answer_tool: str = ""


def make_echo(asked: ResponsesBody | ToolsBody, offer: Offer, answer_tool: str) -> Echo:
    """Encode the fields; raises InvalidRequest naming the field that JSON cannot represent."""
    form = asked.text.format if asked.text else None
    effort = asked.reasoning.effort if asked.reasoning else None
    repeated = {
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "metadata": asked.metadata or {},
        "parallel_tool_calls": offer.is_parallel is not False,
        "reasoning": {"effort": effort, "summary": None},
        "temperature": asked.temperature,
        "text": {"format": form or PlainText()},
        "tool_choice": offer.choice or "auto",
        "top_logprobs": asked.top_logprobs or 0,
        "top_p": asked.top_p,
    }
    fields = {name: _encoded(name, item) for name, item in repeated.items()}
    try:
        fields["tools"] = _encoded("tools", offer.functions)
    except InvalidRequest:
        # Encode the client's own list, so that the error counts all of its tools.
        json_body.encode({"tools": asked.tools})
        raise
    first_call_only = offer.is_parallel is False and bool(offer.functions)
    return Echo(fields, first_call_only, answer_tool)


def _encoded(name: str, item: Any) -> orjson.Fragment:
    # Encode with the name, so that an error names the whole path.
    return orjson.Fragment(json_body.encode({name: item})[len(name) + 4 : -1])
