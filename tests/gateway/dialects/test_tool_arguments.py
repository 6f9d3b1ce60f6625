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
        *('{"a": "\\ud800', '{"a": ' * 2000 + "1" + "}" * 2000),
    ],
)
def test_text_that_is_no_object_becomes_an_empty_one(text: str) -> None:
    assert upstream_arguments(text) == "{}"


@pytest.mark.parametrize("value", [None, 5, 1.5, True, [], [{"a": 1}]])
def test_a_value_of_another_type_becomes_an_empty_object(value: Any) -> None:
    assert upstream_arguments(value) == "{}"


def test_an_object_becomes_its_text() -> None:
    assert upstream_arguments({"a": {"b": "ü"}}) == '{"a":{"b":"ü"}}'
    assert upstream_arguments({"a": 10**30}) == '{"a":1000000000000000000000000000000}'
    assert upstream_arguments({}) == "{}"


@pytest.mark.parametrize("number", ["NaN", "1e400", "-Infinity"])
def test_an_object_that_cannot_be_encoded_becomes_an_empty_one(number: str) -> None:
    body = json_body.decode_object(b'{"a": %b}' % number.encode())
    assert upstream_arguments(body) == "{}"


def test_an_escaped_half_of_a_surrogate_pair_is_replaced() -> None:
    # JSON.stringify escapes halves in arguments; llama-server refuses them.
    text = '{"a": "\\ud83d", "b": "\\ud83d\\ude00\\\\ud83d"}'
    assert upstream_arguments(text) == text.replace("\\ud83d", "\\ufffd", 1)


@pytest.mark.parametrize("arguments", ['{"a": "\ud800"}', {"a": "\ud800"}, {"\ud800": 1}])
def test_half_of_a_surrogate_pair_is_reported(arguments: Any) -> None:
    with pytest.raises(json_body.LoneSurrogate):
        upstream_arguments(arguments)
