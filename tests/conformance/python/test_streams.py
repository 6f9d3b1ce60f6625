"""Streamed chat completions, event by event and through the SDK's helpers.

The helpers raise if a limit cut the answer, so requests through them have no limit.
"""

import asyncio
from typing import Any

import openai
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState

from sandbox.llama import SimulatedLlama
from tests.conformance.asking import (
    HELLO,
    NO_END,
    SEED,
    SHORT_TOKENS,
    THINKING,
    only_simulator,
    saying,
)
from tests.conformance.strict import THOUGHT_DELTAS, TOKEN_IDS, strictly

USAGE: Any = {"include_usage": True}


@pytest.mark.parametrize("include_usage", [True, False])
def test_every_chunk(sdk: openai.OpenAI, include_usage: bool) -> None:
    options: Any = {"stream_options": {"include_usage": include_usage}}
    chunks = list(
        sdk.chat.completions.create(
            model="any",
            messages=HELLO,
            max_tokens=SHORT_TOKENS,
            stream=True,
            extra_body=NO_END,
            **options,
        )
    )
    for chunk in chunks:
        strictly(chunk)
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    with_usage = [chunk for chunk in chunks if chunk.usage is not None]
    if include_usage:
        assert chunks[-1:] == with_usage
        assert not chunks.pop().choices
    else:
        assert not with_usage
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert [delta.role for delta in deltas] == ["assistant"] + [None] * (len(deltas) - 1)
    assert "".join(delta.content or "" for delta in deltas)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons.pop() in ("stop", "length")
    assert set(reasons) == {None}


def test_the_helper(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.stream(
        model="any", messages=HELLO, seed=SEED, stream_options=USAGE
    ) as stream:
        events = list(stream)
        final = strictly(stream.get_final_completion())
    text = "".join(event.delta for event in events if event.type == "content.delta")
    [done] = [event for event in events if event.type == "content.done"]
    assert text == done.content == final.choices[0].message.content
    assert final.usage is not None


def test_the_helper_with_await(async_sdk: openai.AsyncOpenAI) -> None:
    async def ask() -> Any:
        async with (
            async_sdk as sdk,
            sdk.chat.completions.stream(model="any", messages=HELLO, seed=SEED) as stream,
        ):
            text = [event.delta async for event in stream if event.type == "content.delta"]
            return "".join(text), await stream.get_final_completion()

    text, final = asyncio.run(ask())
    assert text == strictly(final).choices[0].message.content


def test_thoughts_come_first(sdk: openai.OpenAI) -> None:
    state = ChatCompletionStreamState()
    kinds = []
    for chunk in sdk.chat.completions.create(
        model="any",
        messages=HELLO,
        max_tokens=40,
        stream=True,
        extra_body={**THINKING, **NO_END},
    ):
        state.handle_chunk(strictly(chunk, besides=THOUGHT_DELTAS))
        delta = chunk.choices[0].delta
        kinds += ["thought"] * bool((delta.model_extra or {}).get("reasoning_content"))
        kinds += ["content"] * bool(delta.content)
    thoughts = kinds.count("thought")
    assert 0 < thoughts < len(kinds)
    assert kinds == ["thought"] * thoughts + ["content"] * (len(kinds) - thoughts)
    message = state.current_completion_snapshot.choices[0].message
    assert message.content
    assert (message.model_extra or {})["reasoning_content"]


def test_logprobs(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.stream(
        model="any", messages=HELLO, seed=SEED, logprobs=True, top_logprobs=1
    ) as stream:
        final = strictly(stream.get_final_completion(), besides=TOKEN_IDS)
    logprobs = final.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    assert "".join(entry.token for entry in logprobs.content) == final.choices[0].message.content


@only_simulator
@pytest.mark.parametrize("directives", ["first=utf8", "split=random", "split=utf8 first=utf8"])
def test_characters_split_between_chunks(sdk: openai.OpenAI, directives: str) -> None:
    with sdk.chat.completions.stream(
        model="any", messages=saying(f"tokens=40 {directives}")
    ) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        final = strictly(stream.get_final_completion())
    assert text == final.choices[0].message.content
    assert "�" not in text
    assert final.choices[0].message.role == "assistant"


@only_simulator
def test_comments_while_there_is_nothing_to_say(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.with_streaming_response.create(
        model="any", messages=saying("tokens=3 prefill_ms=1500"), stream=True
    ) as raw:
        assert ": keep-alive" in list(raw.iter_lines())
    chunks = list(
        sdk.chat.completions.create(
            model="any", messages=saying("tokens=3 prefill_ms=1500"), stream=True
        )
    )
    assert chunks[-1].choices[0].finish_reason == "stop"


@only_simulator
def test_leaving_in_mid_stream(sdk: openai.OpenAI, simulator: SimulatedLlama) -> None:
    with sdk.chat.completions.create(
        model="any", messages=saying("tokens=5000 delay_ms=5 tag=left"), stream=True
    ) as stream:
        for number, _ in enumerate(stream):
            if number == 10:
                break
    record = simulator.wait_for_end("left")
    assert record["outcome"] == "client_closed"
    assert record["completion_tokens"] < 1000
