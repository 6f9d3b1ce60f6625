"""`OpenAILike` on chat completions."""

import asyncio
import os
import socket
from collections.abc import Iterable
from typing import Any

import openai
import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool

from tests.conformance.asking import (
    CALL_TOKENS,
    HELLO,
    NO_END,
    ONE_CALL,
    SHORT_TOKENS,
    City,
    Weather,
    saying,
)
from tests.conformance.llama_index.suite import MakeModel

TEXT: str = HELLO[0]["content"]
MESSAGES = [ChatMessage("be brief", role="system"), ChatMessage(TEXT, role="user")]
SHORT: dict[str, Any] = {"max_tokens": SHORT_TOKENS, "fields": NO_END}
STRUCTURED = {"max_tokens": CALL_TOKENS, "should_use_structured_outputs": True}


def get_weather(city: City) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


TOOL = FunctionTool.from_defaults(get_weather)


def joined(deltas: Iterable[Any]) -> str:
    return "".join(part.delta or "" for part in deltas)


def test_chat(make_model: MakeModel) -> None:
    answer = make_model(**SHORT).chat(MESSAGES)
    assert answer.message.content
    assert answer.message.role == "assistant"
    assert answer.additional_kwargs["completion_tokens"] == SHORT_TOKENS
    assert answer.raw.choices[0].finish_reason == "length"


def test_complete(make_model: MakeModel) -> None:
    assert make_model(**SHORT).complete(TEXT).text


def test_stream_chat(make_model: MakeModel) -> None:
    parts = list(make_model(**SHORT).stream_chat(MESSAGES))
    assert joined(parts) == parts[-1].message.content
    assert parts[-1].message.content


def test_stream_complete(make_model: MakeModel) -> None:
    parts = list(make_model(**SHORT).stream_complete(TEXT))
    assert joined(parts) == parts[-1].text
    assert parts[-1].text


def test_with_await(make_model: MakeModel) -> None:
    async def ask() -> tuple[str | None, str]:
        model = make_model(**SHORT)
        answer = await model.achat(MESSAGES)
        parts = [part async for part in await model.astream_chat(MESSAGES)]
        return answer.message.content, joined(parts)

    assert all(asyncio.run(ask()))


@pytest.mark.parametrize("choice", [None, "get_weather"], ids=["required", "named"])
def test_a_tool_call_and_its_result(make_model: MakeModel, choice: str | None) -> None:
    model = make_model(max_tokens=CALL_TOKENS, fields=ONE_CALL)
    answer = model.chat_with_tools([TOOL], user_msg=TEXT, tool_required=True, tool_choice=choice)
    [call] = model.get_tool_calls_from_response(answer)
    assert call.tool_name == "get_weather"
    result = TOOL.call(**call.tool_kwargs)
    assert result.content in ("sunny in Paris", "sunny in Rome")
    reply = ChatMessage(
        result.content, role="tool", additional_kwargs={"tool_call_id": call.tool_id}
    )
    second = make_model(**SHORT).chat([*MESSAGES, answer.message, reply])
    assert second.message.content


def test_a_streamed_tool_call(make_model: MakeModel) -> None:
    model = make_model(max_tokens=CALL_TOKENS, fields=ONE_CALL)
    parts = list(model.stream_chat_with_tools([TOOL], user_msg=TEXT, tool_required=True))
    [call] = model.get_tool_calls_from_response(parts[-1])
    assert call.tool_kwargs["city"] in ("Paris", "Rome")


def test_structured_answers(make_model: MakeModel) -> None:
    found = make_model(**STRUCTURED).structured_predict(Weather, PromptTemplate(TEXT))
    assert isinstance(found, Weather)


def test_streamed_structured_answers(make_model: MakeModel) -> None:
    model = make_model(**STRUCTURED)
    *_, last = model.stream_structured_predict(Weather, PromptTemplate(TEXT))
    assert last.model_dump() == Weather.model_validate(last.model_dump()).model_dump()


def test_errors_are_those_of_the_sdk(make_model: MakeModel) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        make_model(fields={"n": 2}).chat(MESSAGES)
    assert refusal.value.param == "n"
    with pytest.raises(openai.AuthenticationError):
        make_model("sk-wrong").chat(MESSAGES)
    with pytest.raises(openai.APIStatusError) as refused:
        make_model(os.environ["POOR_API_KEY"]).chat(MESSAGES)
    assert refused.value.status_code == 402


def test_nothing_speaks_to_the_internet() -> None:
    with pytest.raises(RuntimeError, match="do not speak to the network"):
        socket.create_connection(("192.0.2.1", 80), timeout=0.1)


# A real model ignores the simulator's directives.
if "SIMULATOR_URL" in os.environ:

    def test_an_error_in_mid_stream(make_model: MakeModel) -> None:
        text = saying("tokens=20 error_after=5")[0]["content"]
        with pytest.raises(openai.APIError) as problem:
            joined(make_model().stream_chat([ChatMessage(text, role="user")]))
        assert problem.value.code == "upstream_error"
