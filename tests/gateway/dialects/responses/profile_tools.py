"""Requests to a gateway with RESPONSES_PROFILE=tools, translated."""

import json
from typing import Any

import orjson
import pytest

from promptly.errors import InvalidRequest
from promptly.gateway.chat_request import ChatRequest
from promptly.gateway.dialects.responses.echo import Echo
from promptly.gateway.dialects.responses.profile import TOOLS
from promptly.gateway.dialects.responses.request import parse_responses

Json = dict[str, Any]

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "name": "get_weather", "description": "d", "parameters": SCHEMA}
SEARCH = {"type": "web_search", "filters": {"allowed_domains": ["example.com"]}}


def body(**fields: Any) -> bytes:
    return json.dumps({"input": "hello", **fields}).encode()


def parse(**fields: Any) -> tuple[ChatRequest, Echo]:
    return parse_responses(body(**fields), TOOLS)


def upstream(**fields: Any) -> Json:
    """Return upstream's fields, without those of every request."""
    sent: Json = json.loads(parse(**fields)[0].counting_body())
    return sent


def messages(*items: Any) -> list[Json]:
    found: list[Json] = upstream(input=list(items))["messages"]
    return found


def ignored(**fields: Any) -> tuple[str, ...]:
    return parse(**fields)[0].ignored


def repeated(**fields: Any) -> Json:
    """Return the fields that the response repeats."""
    found: Json = json.loads(orjson.dumps(parse(**fields)[1].fields))
    return found


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    problem = caught.value
    assert problem.status == 400
    assert 10 < len(problem.message) < 300
    return problem
