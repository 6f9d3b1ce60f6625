"""Responses: without streaming, streamed, through the SDK's helpers, parsed into classes."""

import asyncio
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from sandbox.llama import SimulatedLlama
from tests.conformance.asking import HELLO, SEED, Weather, only_simulator, saying
from tests.conformance.strict import strictly

TEXT: str = HELLO[0]["content"]
# With this seed the answer is not empty and ends by itself.
ASKED: Any = {"model": "any", "input": TEXT, "extra_body": {"seed": SEED}}
# Fields missing from the SDK's delta types, although OpenAI's service sends them.
BYTES = {"logprobs.bytes", "logprobs.top_logprobs.bytes"}


def steered(directives: str) -> str:
    text: str = saying(directives)[0]["content"]
    return text


def test_an_answer(sdk: openai.OpenAI) -> None:
    raw = sdk.responses.with_raw_response.create(**ASKED, instructions="Be brief.")
    answer = strictly(raw.parse())
    assert answer.status == "completed"
    assert answer.output_text
    assert answer.instructions == "Be brief."
    usage = answer.usage
    assert usage is not None
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert raw.headers["x-promptly-charged-tokens"] == str(usage.total_tokens)


def test_an_answer_that_is_cut(sdk: openai.OpenAI) -> None:
    answer = strictly(sdk.responses.create(**ASKED, max_output_tokens=3))
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.usage is not None
    assert answer.usage.output_tokens == 3


def test_a_conversation_that_is_sent_back(sdk: openai.OpenAI) -> None:
    first = sdk.responses.create(**ASKED)
    history: Any = [{"role": "user", "content": TEXT}, *first.output]
    second = sdk.responses.create(
        model="any", input=[*history, *HELLO], max_output_tokens=5, store=False
    )
    strictly(second)
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens


def test_every_event(sdk: openai.OpenAI) -> None:
    events: list[Any] = list(sdk.responses.create(**ASKED, stream=True))
    for event in events:
        strictly(event)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type.removeprefix("response.") for event in events]
    deltas = kinds.count("output_text.delta")
    assert kinds == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *["output_text.delta"] * deltas,
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    final = events[-1].response
    assert isinstance(final, Response)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == final.output_text
    assert final.output_text == sdk.responses.create(**ASKED).output_text


def test_the_helper(sdk: openai.OpenAI) -> None:
    with sdk.responses.stream(**ASKED) as stream:
        snapshots = [
            event.snapshot for event in stream if event.type == "response.output_text.delta"
        ]
        final = stream.get_final_response()
    assert snapshots[-1] == final.output_text
    assert final.usage is not None


def test_the_helper_with_await(async_sdk: openai.AsyncOpenAI) -> None:
    async def ask() -> tuple[str, Any]:
        async with async_sdk as sdk, sdk.responses.stream(**ASKED) as stream:
            deltas = [
                event.delta async for event in stream if event.type == "response.output_text.delta"
            ]
            return "".join(deltas), await stream.get_final_response()

    text, final = asyncio.run(ask())
    assert text == final.output_text


def test_into_a_class(sdk: openai.OpenAI) -> None:
    asked: Any = {"model": "any", "input": TEXT, "text_format": Weather}
    assert isinstance(sdk.responses.parse(**asked).output_parsed, Weather)
    with sdk.responses.stream(**asked) as stream:
        assert isinstance(stream.get_final_response().output_parsed, Weather)


def test_logprobs(sdk: openai.OpenAI) -> None:
    asked: Any = {**ASKED, "top_logprobs": 2, "max_output_tokens": 4}
    strictly(sdk.responses.create(**asked))
    events: list[Any] = list(sdk.responses.create(**asked, stream=True))
    for event in events:
        strictly(event, besides=BYTES)
    assert any(event.type == "response.output_text.delta" and event.logprobs for event in events)


def test_counting(sdk: openai.OpenAI) -> None:
    counted = sdk.responses.input_tokens.count(model="any", input=TEXT)
    answer = sdk.responses.create(**ASKED)
    assert answer.usage is not None
    assert counted.input_tokens == answer.usage.input_tokens


@only_simulator
def test_thoughts(sdk: openai.OpenAI) -> None:
    asked: Any = {"model": "any", "input": steered("tokens=20 think=5")}
    answer = strictly(sdk.responses.create(**asked))
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    with sdk.responses.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert "response.reasoning_text.delta" in kinds
    assert [item.type for item in final.output] == ["reasoning", "message"]
    assert final.usage is not None
    assert final.usage.output_tokens_details.reasoning_tokens == 5


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools", "unsupported_parameter"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "unsupported_parameter"),
        ({"max_output_tokens": 0}, "max_output_tokens", None),
        ({"extra_body": {"nonsense": 1}}, "nonsense", "unknown_parameter"),
        ({"input": "hello world " * 12_000}, "input", "context_length_exceeded"),
    ],
)
def test_a_bad_request(sdk: openai.OpenAI, fields: Any, param: str, code: str | None) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        sdk.responses.create(**{"model": "any", "input": TEXT, **fields})
    assert (refusal.value.param, refusal.value.code) == (param, code)


def test_responses_are_not_stored(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve("resp_1")


@only_simulator
def test_a_failure_in_mid_stream(sdk: openai.OpenAI, simulator: SimulatedLlama) -> None:
    events: list[Any] = list(
        sdk.responses.create(model="any", input=steered("tokens=20 error_after=5"), stream=True)
    )
    last = strictly(events[-1])
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.code == "server_error"
    with (
        sdk.responses.stream(model="any", input=steered("tokens=20 error_after=5")) as stream,
        pytest.raises(RuntimeError, match=r"response\.completed"),
    ):
        stream.get_final_response()
    assert len(simulator.requests()) == 2
