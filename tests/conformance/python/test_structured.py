"""Structured outputs: JSON answers, and answers parsed into classes."""

import asyncio
import json
from typing import Any

import openai
import pytest

from tests.conformance.asking import HELLO, Weather, only_simulator
from tests.conformance.strict import strictly

ASKED: Any = {"model": "any", "messages": HELLO, "max_tokens": 300}


def test_into_a_class(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.parse(**ASKED, response_format=Weather)
    message = answer.choices[0].message
    assert isinstance(message.parsed, Weather)
    assert message.content is not None
    assert Weather.model_validate_json(message.content) == message.parsed


def test_streamed_into_a_class(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.stream(**ASKED, response_format=Weather) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    for event in events:
        if event.type == "chunk":
            strictly(event.chunk)
    [done] = [event for event in events if event.type == "content.done"]
    assert isinstance(done.parsed, Weather)
    assert final.choices[0].message.parsed == done.parsed


def test_into_a_class_with_await(async_sdk: openai.AsyncOpenAI) -> None:
    async def ask() -> Weather | None:
        async with async_sdk as sdk:
            answer = await sdk.chat.completions.parse(**ASKED, response_format=Weather)
            return answer.choices[0].message.parsed

    assert isinstance(asyncio.run(ask()), Weather)


def test_cut_before_its_end(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.LengthFinishReasonError) as problem:
        sdk.chat.completions.parse(**{**ASKED, "max_tokens": 2}, response_format=Weather)
    assert problem.value.completion.choices[0].finish_reason == "length"


# Without a schema the random model would generate endless JSON.
@only_simulator
def test_any_object(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(**ASKED, response_format={"type": "json_object"})
    content = strictly(answer).choices[0].message.content
    assert isinstance(json.loads(content or ""), dict)
