"""Arguments of tool calls in the history: a JSON object for upstream, whatever the client sent."""

from typing import Any

import pytest

from promptly.gateway import json_body
from promptly.gateway.dialects.tool_arguments import upstream_arguments


@pytest.mark.parametrize("text", ["{}", '{"a": 1}', ' {"a": {"b": [null]}}\n', '{"a": 1, "a": 2}'])
def test_an_object_stays_the_text_that_it_is(text: str) -> None:
    assert upstream_arguments(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "\n", "{", '{"a"', '{"a": "b', '{"a": 1}}', "a", '\ufeff{"a": 1}'),
        *("null", "5", "[]", '"{}"', "true", "NaN", '{"a": NaN}', '{"a": 1e400}'),
        *('{"a": "\\ud800"}', '{"a": "\ud800"}', '{"a": ' * 2000 + "1" + "}" * 2000),
    ],
)
def test_text_that_is_no_object_becomes_an_empty_one(text: str) -> None:
    assert upstream_arguments(text) == "{}"


@pytest.mark.parametrize("value", [None, 5, 1.5, True, [], [{"a": 1}]])
def test_a_value_of_another_type_becomes_an_empty_object(value: Any) -> None:
    assert upstream_arguments(value) == "{}"


def test_an_object_becomes_its_text() -> None:
    assert upstream_arguments({"a": {"b": "ü"}}) == '{"a":{"b":"ü"}}'
    assert upstream_arguments({}) == "{}"


@pytest.mark.parametrize("text", ["NaN", "1e400", "1" * 30, '{"b":' * 300 + "1" + "}" * 300])
def test_an_object_that_cannot_be_encoded_becomes_an_empty_one(text: str) -> None:
    body = json_body.decode_object(b'{"a": %b}' % text.encode())
    assert upstream_arguments(body) == "{}"
