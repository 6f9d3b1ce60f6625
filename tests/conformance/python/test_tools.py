"""Tool calls: requested, streamed, parsed, answered."""

import json
from typing import Any, Literal

import openai
import pytest
from openai.types.chat import ChatCompletionMessageFunctionToolCall, ChatCompletionToolMessageParam
from pydantic import BaseModel

from tests.conformance.asking import (
    CALL_TOKENS,
    HELLO,
    NO_END,
    ONE_CALL,
    SHORT_TOKENS,
    TOOL,
    only_simulator,
    saying,
)
from tests.conformance.strict import strictly


class GetWeather(BaseModel):
    """the weather of a city"""

    city: Literal["Paris", "Rome"]


CALL: Any = {
    "model": "any",
    "messages": HELLO,
    **ONE_CALL,
    "max_tokens": CALL_TOKENS,
}
NAMED: Any = {"type": "function", "function": {"name": "get_weather"}}


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_a_call(sdk: openai.OpenAI, choice: Any) -> None:
    answer = sdk.chat.completions.create(**CALL, tools=[TOOL], tool_choice=choice)
    message = strictly(answer).choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    assert message.content is None
    assert message.tool_calls
    [call] = message.tool_calls
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    assert call.id
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")


# The usual forms of sending a message back, including the fields that the SDK added.
@pytest.mark.parametrize(
    "again", [lambda message: message, BaseModel.model_dump], ids=["object", "all fields"]
)
def test_a_call_into_a_class_and_its_result(sdk: openai.OpenAI, again: Any) -> None:
    tools: Any = [openai.pydantic_function_tool(GetWeather)]
    answer = sdk.chat.completions.parse(**CALL, tools=tools, tool_choice="required")
    message = answer.choices[0].message
    assert message.tool_calls
    [call] = message.tool_calls
    assert isinstance(call.function.parsed_arguments, GetWeather)
    result: ChatCompletionToolMessageParam = {
        "role": "tool",
        "tool_call_id": call.id,
        "content": '{"sunny": true}',
    }
    second = sdk.chat.completions.create(
        model="any",
        messages=[*HELLO, again(message), result],
        tools=tools,
        tool_choice="none",
        max_tokens=SHORT_TOKENS,
        extra_body=NO_END,
    )
    assert strictly(second).choices[0].message.content
    assert second.usage is not None
    assert answer.usage is not None
    assert second.usage.prompt_tokens > answer.usage.prompt_tokens


def test_a_streamed_call(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.stream(
        **CALL, tools=[openai.pydantic_function_tool(GetWeather)], tool_choice="required"
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    for event in events:
        if event.type == "chunk":
            strictly(event.chunk)
    first = "".join(
        event.arguments_delta
        for event in events
        if event.type == "tool_calls.function.arguments.delta" and event.index == 0
    )
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert done[0].arguments == first
    assert isinstance(done[0].parsed_arguments, GetWeather)
    assert final.choices[0].finish_reason == "tool_calls"
    calls = final.choices[0].message.tool_calls
    assert calls
    assert len(calls) == len(done)
    assert isinstance(calls[0].function.parsed_arguments, GetWeather)


@only_simulator
def test_several_streamed_calls(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.stream(
        model="any",
        messages=saying("tool=3"),
        tools=[openai.pydantic_function_tool(GetWeather)],
    ) as stream:
        final = stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert calls
    assert len(calls) == 3
    assert len({call.id for call in calls}) == 3
    assert all(isinstance(call.function.parsed_arguments, GetWeather) for call in calls)
