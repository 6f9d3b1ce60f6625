"""`ChatOpenAI` on chat completions."""

import asyncio
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool

from sandbox.llama import SimulatedLlama
from tests.conformance.asking import (
    CALL_TOKENS,
    HELLO,
    NO_END,
    ONE_CALL,
    SEED,
    SHORT_TOKENS,
    City,
    Weather,
    only_simulator,
    saying,
)
from tests.conformance.backends import Backend
from tests.conformance.langchain.conftest import MakeModel

TEXT: str = HELLO[0]["content"]
BIAS = {int(token): bias for token, bias in ONE_CALL["logit_bias"].items()}


@tool
def get_weather(city: City) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def test_invoke(make_model: MakeModel) -> None:
    model = make_model(max_tokens=SHORT_TOKENS, extra_body=NO_END)
    answer = model.invoke([SystemMessage("Be brief."), HumanMessage(TEXT)])
    assert isinstance(answer.content, str)
    assert answer.content
    assert answer.response_metadata["finish_reason"] == "length"
    usage = answer.usage_metadata
    assert usage is not None
    assert usage["output_tokens"] == SHORT_TOKENS
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


@pytest.mark.parametrize("stream_usage", [True, False])
def test_stream(make_model: MakeModel, stream_usage: bool) -> None:
    chunks = list(make_model(seed=SEED, stream_usage=stream_usage).stream(TEXT))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.content
    assert whole.response_metadata["finish_reason"] == "stop"
    assert (whole.usage_metadata is not None) == stream_usage


def test_with_await(make_model: MakeModel) -> None:
    async def ask() -> tuple[Any, str, list[Any]]:
        async with openai.DefaultAsyncHttpxClient() as http:
            model = make_model(seed=SEED, http_async_client=http)
            answer = await model.ainvoke(TEXT)
            text = "".join([str(chunk.content) async for chunk in model.astream(TEXT)])
            return answer, text, await model.abatch([TEXT, TEXT])

    answer, text, batch = asyncio.run(ask())
    assert answer.content
    assert text
    assert len(batch) == 2


@pytest.mark.parametrize("choice", ["required", "get_weather"])
def test_a_tool_call_and_its_result(make_model: MakeModel, choice: str) -> None:
    model = make_model(max_tokens=CALL_TOKENS, logit_bias=BIAS).bind_tools(
        [get_weather], tool_choice=choice, parallel_tool_calls=False
    )
    answer = model.invoke(TEXT)
    [call] = answer.tool_calls
    assert call["name"] == "get_weather"
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage)
    assert result.content in ("sunny in Paris", "sunny in Rome")
    short = make_model(max_tokens=SHORT_TOKENS, extra_body=NO_END)
    assert short.invoke([HumanMessage(TEXT), answer, result]).content


def test_a_streamed_tool_call(make_model: MakeModel) -> None:
    model = make_model(max_tokens=CALL_TOKENS, logit_bias=BIAS).bind_tools(
        [get_weather], tool_choice="required", parallel_tool_calls=False
    )
    chunks: list[Any] = list(model.stream(TEXT))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    [call] = whole.tool_calls
    assert call["args"]["city"] in ("Paris", "Rome")


# The first turns the class into a response_format, the second into a function with a forced call.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # LangChain's own, in streams
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.parametrize("streamed", [False, True])
def test_structured_output(make_model: MakeModel, method: Any, streamed: bool) -> None:
    options: dict[str, Any] = {}
    if method == "function_calling":
        options = {"logit_bias": BIAS, "model_kwargs": {"parallel_tool_calls": False}}
    model = make_model(max_tokens=CALL_TOKENS, **options)
    structured = model.with_structured_output(Weather, method=method)
    found = list(structured.stream(TEXT))[-1] if streamed else structured.invoke(TEXT)
    assert isinstance(found, Weather)


def test_errors_are_those_of_the_sdk(make_model: MakeModel, backend: Backend) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        make_model(temperature=99).invoke(TEXT)
    assert refusal.value.param == "temperature"
    with pytest.raises(openai.AuthenticationError):
        make_model("sk-wrong").invoke(TEXT)
    poor = backend.books.account(paid_tokens=1)
    with pytest.raises(openai.APIStatusError) as refused:
        make_model(poor.key).invoke(TEXT)
    assert refused.value.status_code == 402


@only_simulator
def test_an_error_in_mid_stream(make_model: MakeModel) -> None:
    stream = make_model().stream(saying("tokens=20 error_after=5")[0]["content"])
    chunks: list[Any] = []
    with pytest.raises(openai.APIError) as problem:
        chunks.extend(stream)
    assert any(chunk.content for chunk in chunks)
    assert problem.value.code == "upstream_error"


@only_simulator
def test_a_failure_is_tried_again(make_model: MakeModel, simulator: SimulatedLlama) -> None:
    simulator.set_faults(status=500, times=1)
    assert isinstance(make_model(max_retries=2).invoke(TEXT), AIMessage)
    assert len(simulator.requests()) == 2
