"""`ChatOpenAI` in its Responses mode."""

import asyncio
from typing import Any

import openai
import pytest
from langchain_core.messages import HumanMessage

from tests.conformance.asking import HELLO, SEED, Weather, only_simulator, saying
from tests.conformance.langchain.conftest import MakeModel

TEXT: str = HELLO[0]["content"]
MODE: dict[str, Any] = {"use_responses_api": True, "extra_body": {"seed": SEED}}


def test_invoke(make_model: MakeModel) -> None:
    answer = make_model(**MODE).invoke(TEXT)
    assert answer.text
    assert answer.response_metadata["status"] == "completed"
    usage = answer.usage_metadata
    assert usage is not None
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_stream(make_model: MakeModel) -> None:
    chunks = list(make_model(**MODE).stream(TEXT))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.text
    assert whole.usage_metadata is not None
    assert whole.response_metadata["status"] == "completed"


def test_with_await(make_model: MakeModel) -> None:
    async def ask() -> tuple[str, str]:
        async with openai.DefaultAsyncHttpxClient() as http:
            model = make_model(**MODE, http_async_client=http)
            answer = await model.ainvoke(TEXT)
            return answer.text, "".join([chunk.text async for chunk in model.astream(TEXT)])

    answer, streamed = asyncio.run(ask())
    assert answer == streamed


# LangChain's older and newer formats for storing an answer and sending it back.
@pytest.mark.parametrize("output_version", ["v0", "responses/v1", "v1"])
def test_a_conversation(make_model: MakeModel, output_version: str) -> None:
    model = make_model(**MODE, output_version=output_version)
    first = model.invoke(TEXT)
    second = model.invoke([HumanMessage("hello"), first, HumanMessage(TEXT)])
    assert first.usage_metadata is not None
    assert second.usage_metadata is not None
    assert second.usage_metadata["input_tokens"] > first.usage_metadata["input_tokens"]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # LangChain's own, in streams
@pytest.mark.parametrize("streamed", [False, True])
def test_structured_output(make_model: MakeModel, streamed: bool) -> None:
    model = make_model(use_responses_api=True).with_structured_output(Weather)
    found = list(model.stream(TEXT))[-1] if streamed else model.invoke(TEXT)
    assert isinstance(found, Weather)


@only_simulator
def test_thoughts(make_model: MakeModel) -> None:
    model = make_model(**MODE, output_version="responses/v1")
    answer = model.invoke(saying("tokens=20 think=5")[0]["content"])
    assert [block["type"] for block in answer.content_blocks] == ["reasoning", "text"]


def test_tools_are_refused_by_name(make_model: MakeModel) -> None:
    model = make_model(use_responses_api=True).bind_tools([Weather])
    with pytest.raises(openai.BadRequestError) as refusal:
        model.invoke(TEXT)
    assert refusal.value.param == "tools"
