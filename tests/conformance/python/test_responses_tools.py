"""Responses with function tools: called, streamed, parsed, answered."""

import json
from typing import Any, Literal

import openai
import pytest
from openai.types.responses import ParsedResponseFunctionToolCall, ResponseFunctionToolCall
from pydantic import BaseModel

from tests.conformance.asking import CALL_TOKENS, HELLO, PARAMETERS, Weather, saying
from tests.conformance.backends import Backend
from tests.conformance.strict import strictly

TEXT: str = HELLO[0]["content"]
TOOL: Any = {"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": True}
NAMED: Any = {"type": "function", "name": "get_weather"}
ASKED: Any = {"model": "any", "input": TEXT, "max_output_tokens": CALL_TOKENS, "store": False}

# Otherwise the real model, which must call a tool, goes on calling until its limit.
MUST_CALL: Any = {"tool_choice": "required", "parallel_tool_calls": False}

only_simulator = pytest.mark.parametrize("tools_backend", ["simulator"], indirect=True)


class GetWeather(BaseModel):
    """the weather of a city"""

    city: Literal["Paris", "Rome"]


@pytest.fixture
def backend(tools_backend: Backend) -> Backend:
    return tools_backend


def steered(directives: str) -> str:
    text: str = saying(directives)[0]["content"]
    return text


def answered(output: list[Any]) -> Any:
    """Return an answer's output as the next input, with a result for each call."""
    results = [
        {"type": "function_call_output", "call_id": item.call_id, "output": '{"sunny": true}'}
        for item in output
        if item.type == "function_call"
    ]
    assert results
    return [*output, *results]


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_a_call_and_its_result(sdk: openai.OpenAI, choice: Any) -> None:
    answer = strictly(
        sdk.responses.create(**{**ASKED, **MUST_CALL, "tool_choice": choice}, tools=[TOOL])
    )
    assert answer.status == "completed"
    call = answer.output[-1]
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.name, call.status) == ("get_weather", "completed")
    assert json.loads(call.arguments)["city"] in ("Paris", "Rome")
    turns = [{"role": "user", "content": TEXT}, *answered(answer.output)]
    second = sdk.responses.create(**{**ASKED, "input": turns}, tools=[TOOL], tool_choice="none")
    strictly(second)
    assert answer.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > answer.usage.input_tokens


def test_every_event_of_a_call(sdk: openai.OpenAI) -> None:
    events: list[Any] = list(sdk.responses.create(**ASKED, **MUST_CALL, tools=[TOOL], stream=True))
    for event in events:
        strictly(event)
    kinds = [event.type.removeprefix("response.") for event in events]
    start = kinds.index("function_call_arguments.delta")
    end = kinds.index("function_call_arguments.done")
    assert set(kinds[start:end]) == {"function_call_arguments.delta"}
    assert (kinds[start - 1], kinds[end + 1]) == ("output_item.added", "output_item.done")
    assert kinds[-1] == "completed"
    call = events[end + 1].item
    assert events[end].arguments == call.arguments
    assert "".join(event.delta for event in events[start:end]) == call.arguments
    assert call in events[-1].response.output


def test_a_call_into_a_class(sdk: openai.OpenAI) -> None:
    tools: Any = [openai.pydantic_function_tool(GetWeather)]
    asked: Any = {**ASKED, **MUST_CALL, "tools": tools}
    call = sdk.responses.parse(**asked).output[-1]
    assert isinstance(call, ParsedResponseFunctionToolCall)
    assert isinstance(call.parsed_arguments, GetWeather)
    with sdk.responses.stream(**asked) as stream:
        snapshots = [
            event.snapshot
            for event in stream
            if event.type == "response.function_call_arguments.delta"
        ]
        final = stream.get_final_response().output[-1]
    assert isinstance(final, ParsedResponseFunctionToolCall)
    assert isinstance(final.parsed_arguments, GetWeather)
    assert final.arguments == snapshots[-1]


def test_a_class_beside_tools(sdk: openai.OpenAI) -> None:
    asked: Any = {**ASKED, "tools": [TOOL], "text_format": Weather, "parallel_tool_calls": False}
    for answer in (
        sdk.responses.parse(**asked),
        sdk.responses.parse(**{**asked, "input": steered("tool=2")}),
    ):
        calls = [item for item in answer.output if item.type == "function_call"]
        # The model chooses between a call and the answer.
        assert calls or isinstance(answer.output_parsed, Weather)
        assert all(call.name == "get_weather" for call in calls)


def test_counting(sdk: openai.OpenAI) -> None:
    asked: Any = {"model": "any", "input": TEXT, "tools": [TOOL]}
    counted = sdk.responses.input_tokens.count(**asked)
    answer = sdk.responses.create(**asked, max_output_tokens=CALL_TOKENS)
    assert answer.usage is not None
    assert counted.input_tokens == answer.usage.input_tokens


@only_simulator
def test_several_calls(sdk: openai.OpenAI) -> None:
    tools: Any = [openai.pydantic_function_tool(GetWeather)]
    asked: Any = {"model": "any", "input": steered("tool=3 think=3"), "tools": tools}
    with sdk.responses.stream(**asked) as stream:
        final = stream.get_final_response()
    assert [item.type for item in final.output] == ["reasoning", *["function_call"] * 3]
    calls = [item for item in final.output if item.type == "function_call"]
    assert len({call.call_id for call in calls}) == 3
    strictly(sdk.responses.create(model="any", input=answered(final.output), tools=[TOOL]))
    one = sdk.responses.create(**{**asked, "tools": [TOOL]}, parallel_tool_calls=False)
    assert [item.type for item in strictly(one).output] == ["reasoning", "function_call"]


@only_simulator
def test_a_call_that_is_cut(sdk: openai.OpenAI) -> None:
    asked: Any = {"model": "any", "tools": [TOOL]}
    answer = sdk.responses.create(**asked, input=steered("tool=1"), max_output_tokens=15)
    assert strictly(answer).status == "incomplete"
    turns = [*answered(answer.output), {"role": "user", "content": TEXT}]
    assert strictly(sdk.responses.create(**asked, input=turns)).output_text


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": [{"type": "item_reference", "id": "fc_1"}]}, "input[0]"),
    ],
)
def test_a_bad_request(sdk: openai.OpenAI, fields: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        sdk.responses.create(**{"model": "any", "input": TEXT, **fields})
    assert (refusal.value.param, refusal.value.code) == (param, "unsupported_parameter")
