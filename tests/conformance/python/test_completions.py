"""Text completions."""

from typing import Any

import openai
import pytest

from sandbox.llama import SimulatedLlama
from tests.conformance.asking import HELLO, NO_END, SHORT_TOKENS, only_simulator, saying
from tests.conformance.strict import strictly

TEXT: str = HELLO[0]["content"]
ASKED: Any = {"model": "any", "prompt": TEXT, "max_tokens": SHORT_TOKENS, **NO_END}


def test_an_answer(sdk: openai.OpenAI) -> None:
    raw = sdk.completions.with_raw_response.create(**ASKED)
    answer = strictly(raw.parse())
    [choice] = answer.choices
    assert choice.text
    assert choice.finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == SHORT_TOKENS
    assert raw.headers["x-promptly-charged-tokens"] == str(answer.usage.total_tokens)


def test_several_prompts(sdk: openai.OpenAI) -> None:
    answer = strictly(sdk.completions.create(**{**ASKED, "prompt": [TEXT, "hello", TEXT]}))
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3 * SHORT_TOKENS


@pytest.mark.parametrize("prompt", [TEXT, [TEXT, "hello"]], ids=["one", "two"])
@pytest.mark.parametrize("include_usage", [True, False])
def test_a_stream(sdk: openai.OpenAI, prompt: Any, include_usage: bool) -> None:
    options: Any = {"stream_options": {"include_usage": include_usage}}
    chunks = list(sdk.completions.create(**{**ASKED, "prompt": prompt}, stream=True, **options))
    with_usage = [chunk for chunk in chunks if chunk.usage is not None]
    assert len(with_usage) == int(include_usage)
    choices = [choice for chunk in chunks for choice in chunk.choices]
    count = 1 if isinstance(prompt, str) else len(prompt)
    assert {choice.index for choice in choices} == set(range(count))
    assert "".join(choice.text for choice in choices)
    reasons = [choice.finish_reason for choice in choices if choice.finish_reason]
    assert reasons == ["length"] * count
    for choice in choices:
        # OpenAI's own chunks have null before the last one too, but the SDK's type forbids it.
        choice.finish_reason = choice.finish_reason or "stop"
    for chunk in chunks:
        strictly(chunk)


def test_logprobs(sdk: openai.OpenAI) -> None:
    answer = strictly(sdk.completions.create(**ASKED, logprobs=2))
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens
    assert logprobs.top_logprobs is not None
    assert len(logprobs.tokens) == len(logprobs.top_logprobs)


@pytest.mark.parametrize(
    ("fields", "param"), [({"n": 2}, "n"), ({"echo": True}, "echo"), ({"prompt": [1, 2]}, "prompt")]
)
def test_a_bad_request(sdk: openai.OpenAI, fields: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        sdk.completions.create(**{**ASKED, **fields})
    assert refusal.value.param == param


@only_simulator
def test_an_error_in_mid_stream(sdk: openai.OpenAI, simulator: SimulatedLlama) -> None:
    text = saying("tokens=20 error_after=5")[0]["content"]
    stream = sdk.completions.create(model="any", prompt=text, max_tokens=20, stream=True)
    chunks: list[Any] = []
    with pytest.raises(openai.APIError) as problem:
        chunks.extend(stream)
    assert chunks
    assert problem.value.code == "upstream_error"
    assert len(simulator.requests()) == 1
