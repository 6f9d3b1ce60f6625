"""Function tools, and how the model may choose among them."""

from typing import Any

import pytest

from promptly.gateway.dialects.responses.body import ToolsBody
from tests.gateway.dialects.responses.profile_tools import (
    SCHEMA,
    SEARCH,
    WEATHER,
    Json,
    ignored,
    parse,
    refusal,
    repeated,
    upstream,
)

HELLO = [{"role": "user", "content": "hello"}]
FUNCTION = {"name": "get_weather", "description": "d", "parameters": SCHEMA}
SENT = [{"type": "function", "function": FUNCTION}]
BARE = {"type": "function", "name": "now"}
BARE_SENT = {"type": "function", "function": {"name": "now"}}


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"tools": []}, {}),
        ({"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}, {}),
        ({"tool_choice": "none"}, {}),
        ({"tools": [WEATHER]}, {"tools": SENT}),
        ({"tools": [BARE]}, {"tools": [BARE_SENT]}),
        (
            {"tools": [{**BARE, "strict": True, "description": None, "parameters": None}]},
            {"tools": [{"type": "function", "function": {"name": "now", "strict": True}}]},
        ),
        ({"tools": [WEATHER], "tool_choice": "auto"}, {"tools": SENT, "tool_choice": "auto"}),
        ({"tools": [WEATHER], "tool_choice": "none"}, {"tools": SENT, "tool_choice": "none"}),
        (
            {"tools": [WEATHER], "tool_choice": "required"},
            {"tools": SENT, "tool_choice": "required"},
        ),
        (
            {"tools": [WEATHER], "parallel_tool_calls": False},
            {"tools": SENT, "parallel_tool_calls": False},
        ),
        # llama-server knows no choice by name.
        (
            {"tools": [BARE, WEATHER], "tool_choice": {"type": "function", "name": "get_weather"}},
            {"tools": SENT, "tool_choice": "required"},
        ),
    ],
)
def test_what_upstream_gets(fields: Json, sent: Json) -> None:
    assert upstream(**fields) == {"messages": HELLO, **sent}
    assert ignored(**fields) == ()


def test_what_the_response_repeats() -> None:
    about_tools = ("tools", "tool_choice", "parallel_tool_calls")
    assert [repeated()[name] for name in about_tools] == [[], "auto", True]
    choice = {"type": "function", "name": "get_weather"}
    found = repeated(tools=[SEARCH, WEATHER, BARE], tool_choice=choice, parallel_tool_calls=False)
    assert found["tools"] == [
        {**WEATHER, "strict": None},
        {**BARE, "description": None, "parameters": None, "strict": None},
    ]
    assert (found["tool_choice"], found["parallel_tool_calls"]) == (choice, False)
    assert repeated(tool_choice="none")["tool_choice"] == "none"


@pytest.mark.parametrize(
    ("fields", "first_call_only"),
    [
        ({"tools": [WEATHER]}, False),
        ({"tools": [WEATHER], "parallel_tool_calls": True}, False),
        ({"tools": [WEATHER], "parallel_tool_calls": False}, True),
        ({"parallel_tool_calls": False}, False),
    ],
)
def test_llama_server_makes_several_calls_all_the_same(fields: Json, first_call_only: bool) -> None:
    assert parse(**fields)[1].first_call_only is first_call_only


def test_tools_of_other_types_are_left_out_and_named() -> None:
    tools = [SEARCH, WEATHER, {"type": "namespace", "name": "mcp", "tools": []}, SEARCH]
    assert upstream(tools=tools)["tools"] == SENT
    assert ignored(tools=tools, store=False) == ("store", "tools.web_search", "tools.namespace")
    assert ignored(tools=[WEATHER, {"type": "odd\r\n"}]) == ()


def test_unknown_fields_of_functions_are_named() -> None:
    more: Json = {"defer_loading": True, "async": None, "output_schema": {}, "odd\r\n": 1}
    tools = [{**WEATHER, **more}, SEARCH, {**BARE, "defer_loading": False}]
    assert upstream(tools=tools)["tools"] == [*SENT, BARE_SENT]
    assert ignored(tools=tools) == (
        "tools.web_search",
        "tools.defer_loading",
        "tools.output_schema",
    )


def test_some_function_must_remain() -> None:
    problem = refusal(tools=[SEARCH, {"type": "custom", "name": "f"}])
    assert (problem.param, problem.code) == ("tools", "unsupported_parameter")
    assert "web_search, custom" in problem.message


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"tool_choice": "required"}, "tool_choice", None),
        ({"tools": [WEATHER], "tool_choice": "any"}, "tool_choice", None),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "f"}},
            "tool_choice",
            None,
        ),
        ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice", None),
        ({"tools": [WEATHER], "tool_choice": {"type": "function"}}, "tool_choice.name", None),
        ({"tools": [WEATHER], "tool_choice": {"name": "get_weather"}}, "tool_choice.type", None),
        (
            {"tools": [WEATHER, SEARCH], "tool_choice": {"type": "web_search"}},
            "tool_choice",
            "unsupported_parameter",
        ),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "mode": "auto"}},
            "tool_choice",
            "unsupported_parameter",
        ),
        ({"tools": [WEATHER], "tool_choice": 5}, "tool_choice", None),
    ],
)
def test_wrong_choices(fields: Json, param: str, code: str | None) -> None:
    problem = refusal(**fields)
    assert (problem.param, problem.code) == (param, code)


def heavy(properties: int) -> Json:
    many: Json = {f"p{number}": {} for number in range(properties)}
    return {**WEATHER, "parameters": {"type": "object", "properties": many}}


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([WEATHER, None], "tools[1]"),
        ([5], "tools[0]"),
        ([{"name": "f"}], "tools[0].type"),
        ([{"type": 5, "name": "f"}], "tools[0].type"),
        # Positions are the client's, whatever is left out.
        ([SEARCH, WEATHER, {"type": "function"}], "tools[2].name"),
        ([SEARCH, {**WEATHER, "name": ""}], "tools[1].name"),
        ([SEARCH, {**WEATHER, "parameters": "{}"}], "tools[1].parameters"),
        ([SEARCH, WEATHER, heavy(700)], "tools[2].parameters"),
        ([SEARCH, heavy(500), heavy(500)], "tools"),
        ([WEATHER] * 1025, "tools"),
        (
            [SEARCH, WEATHER, {**WEATHER, "parameters": {"maximum": float("nan")}}],
            "tools[2].parameters.maximum",
        ),
        ({"type": "function"}, "tools"),
    ],
)
def test_wrong_tools_are_refused_naming_the_place(tools: Any, param: str) -> None:
    assert refusal(tools=tools).param == param


def test_fields_that_only_have_an_effect_elsewhere() -> None:
    fields = {
        "store": False,
        "client_metadata": {"originator": "x"},
        "prompt_cache_key": "k",
        "max_tool_calls": 3,
        "metadata": {"a": "b"},
        "include": ["reasoning.encrypted_content", "web_search_call.action.sources"],
        "reasoning": {"effort": "low", "summary": "auto", "context": "auto", "mode": "standard"},
        "text": {"verbosity": "low"},
    }
    assert upstream(**fields) == {"messages": HELLO, "reasoning_effort": "low"}
    assert ignored(**fields) == (
        "store",
        "client_metadata",
        "max_tool_calls",
        "text.verbosity",
        "reasoning.summary",
        "reasoning.context",
        "reasoning.mode",
        "include",
    )


def test_logprobs_are_included_with_their_number() -> None:
    include = ["message.output_text.logprobs"]
    assert refusal(include=include).param == "include[0]"
    assert upstream(include=include, top_logprobs=2)["top_logprobs"] == 2
    assert refusal(include=["everything"]).param == "include[0]"


@pytest.mark.parametrize("fields", [{}, {"tool_choice": "none"}])
def test_llama_server_has_no_logprobs_beside_tools(fields: Json) -> None:
    problem = refusal(tools=[WEATHER], top_logprobs=2, **fields)
    assert (problem.param, problem.code) == ("top_logprobs", "unsupported_parameter")
    assert "logprobs" not in upstream(tools=[WEATHER], top_logprobs=0)
    assert upstream(tools=[], top_logprobs=2)["logprobs"] is True


def test_null_means_absent() -> None:
    names = set(ToolsBody.__struct_fields__) - {"input"}
    assert upstream(**dict.fromkeys(names)) == {"messages": HELLO}


@pytest.mark.parametrize("name", ["previous_response_id", "conversation", "prompt"])
def test_nothing_is_stored(name: str) -> None:
    problem = refusal(**{name: "resp_1"})
    assert (problem.param, problem.code) == (name, "unsupported_parameter")
    assert "send the whole conversation" in problem.message
