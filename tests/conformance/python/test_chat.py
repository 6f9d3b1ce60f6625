"""Chat completions without streaming."""

import asyncio
from typing import Any

import openai
import pytest

from tests.conformance.asking import HELLO, NO_END, SHORT_TOKENS, THINKING
from tests.conformance.strict import THOUGHTS, TOKEN_IDS, strictly


def test_an_answer(sdk: openai.OpenAI) -> None:
    raw = sdk.chat.completions.with_raw_response.create(
        model="any", messages=HELLO, max_tokens=SHORT_TOKENS, extra_body=NO_END
    )
    answer = strictly(raw.parse())
    [choice] = answer.choices
    assert choice.message.content
    assert choice.message.role == "assistant"
    assert choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert answer.id.startswith("chatcmpl-")
    assert raw.request_id is not None
    assert raw.request_id.startswith("req_")
    assert raw.headers["x-promptly-charged-tokens"] == str(usage.total_tokens)
    assert int(raw.headers["x-ratelimit-remaining-requests"]) > 0


def test_an_answer_that_is_cut(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(
        model="any", messages=HELLO, max_completion_tokens=3, extra_body=NO_END
    )
    strictly(answer)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_a_conversation(sdk: openai.OpenAI) -> None:
    messages: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "name": "ann", "content": [{"type": "text", "text": "hello"}]},
        {"role": "assistant", "content": "hello you"},
        *HELLO,
    ]
    answer = sdk.chat.completions.create(
        model="any",
        messages=messages,
        max_tokens=SHORT_TOKENS,
        extra_body=NO_END,
        temperature=0.5,
        top_p=0.9,
        seed=1,
        stop=["###"],
        frequency_penalty=0.1,
        presence_penalty=0.1,
    )
    assert strictly(answer).choices[0].message.content


def test_fields_without_effect_are_named(sdk: openai.OpenAI) -> None:
    raw = sdk.chat.completions.with_raw_response.create(
        model="any",
        messages=HELLO,
        max_tokens=SHORT_TOKENS,
        extra_body=NO_END,
        user="ann",
        store=False,
        metadata={"a": "b"},
        service_tier="auto",
    )
    strictly(raw.parse())
    ignored = set(raw.headers["x-promptly-ignored"].split(", "))
    assert ignored >= {"user", "store", "metadata", "service_tier"}


def test_logprobs(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(
        model="any", messages=HELLO, max_tokens=4, logprobs=True, top_logprobs=2
    )
    logprobs = strictly(answer, besides=TOKEN_IDS).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    for entry in logprobs.content:
        assert len(entry.top_logprobs) == 2
        assert bytes(entry.bytes or ()).decode() == entry.token


def test_thoughts(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(
        model="any", messages=HELLO, max_tokens=40, extra_body={**THINKING, **NO_END}
    )
    strictly(answer, besides=THOUGHTS)
    assert answer.choices[0].message.model_extra is not None
    assert answer.choices[0].message.model_extra["reasoning_content"]


def test_the_loaded_models(sdk: openai.OpenAI) -> None:
    models = sdk.models.list().data
    for model in models:
        strictly(model, besides={"meta", "pricing"})
        assert sdk.models.retrieve(model.id) == model
    asked_for = models[0].id
    answer = sdk.chat.completions.create(model=asked_for, messages=HELLO, max_tokens=2)
    assert answer.model == asked_for
    with pytest.raises(openai.NotFoundError) as refusal:
        sdk.models.retrieve("other")
    assert refusal.value.code == "model_not_found"


def test_several_at_a_time(async_sdk: openai.AsyncOpenAI) -> None:
    async def ask() -> list[Any]:
        async with async_sdk as sdk:
            one = sdk.chat.completions.create
            return await asyncio.gather(
                *(
                    one(model="any", messages=HELLO, max_tokens=SHORT_TOKENS, extra_body=NO_END)
                    for _ in range(3)
                )
            )

    answers = [strictly(answer) for answer in asyncio.run(ask())]
    assert all(answer.choices[0].message.content for answer in answers)
    assert len({answer.id for answer in answers}) == 3
