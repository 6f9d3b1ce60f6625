"""`ChatOpenAI` in its Responses mode, with tools."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool

from tests.conformance.asking import CALL_TOKENS, HELLO, City, saying
from tests.conformance.backends import Backend
from tests.conformance.langchain.conftest import MakeModel

TEXT: str = HELLO[0]["content"]
MODE: dict[str, Any] = {"use_responses_api": True, "max_tokens": CALL_TOKENS}

only_simulator = pytest.mark.parametrize("tools_backend", ["simulator"], indirect=True)


@tool
def get_weather(city: City) -> str:
    """the weather of a city"""
    return f"sunny in {city}"


@pytest.fixture
def backend(tools_backend: Backend) -> Backend:
    return tools_backend


# LangChain's older and newer formats for storing an answer and sending it back.
@pytest.mark.parametrize("output_version", ["v0", "responses/v1", "v1"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_call_and_its_result(make_model: MakeModel, output_version: str, streamed: bool) -> None:
    model = make_model(**MODE, output_version=output_version)
    calling = model.bind_tools([get_weather], tool_choice="required")
    answer: Any
    if streamed:
        first, *rest = calling.stream(TEXT)
        answer = sum(rest, first)
    else:
        answer = calling.invoke(TEXT)
    assert isinstance(answer, AIMessage)
    [call] = answer.tool_calls
    assert call["args"]["city"] in set(City)
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage)
    second = model.bind_tools([get_weather], tool_choice="none").invoke(
        [HumanMessage(TEXT), answer, result]
    )
    assert answer.usage_metadata is not None
    assert second.usage_metadata is not None
    assert second.usage_metadata["input_tokens"] > answer.usage_metadata["input_tokens"]


@only_simulator
def test_several_calls(make_model: MakeModel) -> None:
    answer = make_model(**MODE).bind_tools([get_weather]).invoke(saying("tool=2")[0]["content"])
    assert [call["name"] for call in answer.tool_calls] == ["get_weather", "get_weather"]
