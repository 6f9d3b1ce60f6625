"""Anthropic's official SDK against a running gateway."""

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import anthropic
import pytest
from pydantic import BaseModel

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import sim
from tests.support.books import Account, BooksReader
from tests.support.servers import Gateway

MESSAGES = cast(Any, sim("tokens=12"))
TOOL: Any = {
    "name": "get_weather",
    "description": "the weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture
def sdk(gateway: Gateway, account: Account) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key=account.key) as client:
        yield client


def total(usage: anthropic.types.Usage) -> int:
    cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
    return usage.input_tokens + cached + usage.output_tokens


def test_an_answer_and_its_charge(
    sdk: anthropic.Anthropic, books: BooksReader, account: Account
) -> None:
    answer = sdk.messages.create(model="any", max_tokens=50, messages=MESSAGES)
    [block] = answer.content
    assert block.type == "text"
    assert block.text
    assert answer.stop_reason == "end_turn"
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")
    assert books.balance(account)["paid_tokens"] == 1_000_000 - total(answer.usage)


def test_the_stream_helper(sdk: anthropic.Anthropic, books: BooksReader, account: Account) -> None:
    messages = cast(Any, sim("tokens=40 think=5 prefill_ms=1200"))
    with sdk.messages.stream(model="any", max_tokens=50, messages=messages) as stream:
        seen = [event.type for event in stream]
        final = stream.get_final_message()
        assert stream.request_id is not None
    assert {"thinking", "signature", "text", "content_block_stop", "message_stop"} <= set(seen)
    thoughts, text = final.content
    assert thoughts.type == "thinking"
    assert thoughts.thinking
    assert thoughts.signature
    assert text.type == "text"
    assert final.usage.output_tokens == 40
    [event] = books.wait_for_events(account, 1)
    assert event["charged_tokens"] == total(final.usage)


def test_asynchronously(gateway: Gateway, account: Account) -> None:
    async def ask() -> tuple[Any, str]:
        async with anthropic.AsyncAnthropic(base_url=gateway.url, auth_token=account.key) as sdk:
            whole = sdk.messages.create(model="any", max_tokens=50, messages=MESSAGES)
            async with sdk.messages.stream(model="any", max_tokens=50, messages=MESSAGES) as stream:
                pieces = [text async for text in stream.text_stream]
            return await whole, "".join(pieces)

    answer, text = asyncio.run(ask())
    assert answer.content[0].text == text


@pytest.mark.parametrize("streamed", [True, False])
def test_a_tool_and_its_result(
    sdk: anthropic.Anthropic, llama: SimulatedLlama, streamed: bool
) -> None:
    fields: Any = {"model": "any", "max_tokens": 100, "tools": [TOOL]}
    messages: list[Any] = [*sim("tool=1 think=3")]
    if streamed:
        with sdk.messages.stream(messages=messages, **fields) as stream:
            answer: Any = stream.get_final_message()
    else:
        answer = sdk.messages.create(messages=messages, **fields)
    assert answer.stop_reason == "tool_use"
    thoughts, call = answer.content
    assert call.input == {"city": "Paris"}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain [[sim tag=result]]"}
    messages += [
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [result]},
    ]
    assert sdk.messages.create(messages=messages, **fields).stop_reason == "end_turn"
    sent = llama.request("result")["body"]["messages"][1:]
    assert sent == [
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": thoughts.thinking,
            "tool_calls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": call.id, "content": result["content"]},
    ]


def test_the_tool_runner(sdk: anthropic.Anthropic) -> None:
    # The runner first tries a stored `thread`; our refusal makes it send the whole conversation.
    asked = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather of a city.

        Args:
            city: its name
        """
        asked.append(city)
        return "rain"

    runner = sdk.beta.messages.tool_runner(
        model="any", max_tokens=100, tools=[get_weather], messages=cast(Any, sim("tool=1"))
    )
    answers = list(runner)
    assert asked == ["Paris"]
    assert [answer.stop_reason for answer in answers] == ["tool_use", "end_turn"]


def test_a_structured_answer(sdk: anthropic.Anthropic) -> None:
    class Place(BaseModel):
        city: str
        population: int

    answer = sdk.messages.parse(model="any", max_tokens=100, messages=MESSAGES, output_format=Place)
    assert answer.parsed_output == Place(city="Paris", population=1)


def test_counting(sdk: anthropic.Anthropic) -> None:
    fields: Any = {"model": "any", "messages": MESSAGES, "system": "be brief", "tools": [TOOL]}
    counted = sdk.messages.count_tokens(**fields)
    answer = sdk.messages.create(max_tokens=5, **fields)
    assert counted.input_tokens == answer.usage.input_tokens


def test_errors_have_their_classes(
    sdk: anthropic.Anthropic, gateway: Gateway, account: Account
) -> None:
    with pytest.raises(anthropic.BadRequestError) as refusal:
        sdk.messages.create(model="any", max_tokens=0, messages=MESSAGES)
    assert refusal.value.type == "invalid_request_error"
    assert refusal.value.request_id is not None
    assert refusal.value.request_id.startswith("req_")
    with pytest.raises(anthropic.NotFoundError):
        sdk.messages.batches.list()
    with (
        anthropic.Anthropic(base_url=gateway.url, api_key="sk-wrong") as stranger,
        pytest.raises(anthropic.AuthenticationError),
    ):
        stranger.messages.create(model="any", max_tokens=5, messages=MESSAGES)


def test_a_failure_is_tried_again(
    sdk: anthropic.Anthropic, llama: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    llama.set_faults(status=500, times=1)
    answer = sdk.messages.create(model="any", max_tokens=50, messages=MESSAGES)
    events = books.wait_for_events(account, 2)
    assert [event["outcome"] for event in events] == ["upstream_error", "completed"]
    assert [event["charged_tokens"] for event in events] == [0, total(answer.usage)]


def test_an_empty_balance_is_not_asked_again(
    gateway: Gateway, books: BooksReader, llama: SimulatedLlama
) -> None:
    poor = books.account(paid_tokens=1)
    with (
        anthropic.Anthropic(base_url=gateway.url, api_key=poor.key) as sdk,
        pytest.raises(anthropic.PaymentRequiredError) as refusal,
    ):
        sdk.messages.create(model="any", max_tokens=50, messages=MESSAGES)
    assert (refusal.value.type, refusal.value.error_code) == ("billing_error", "insufficient_quota")
    assert llama.requests() == []


def test_an_error_in_mid_stream_is_raised(sdk: anthropic.Anthropic) -> None:
    messages = cast(Any, sim("tokens=20 error_after=5"))
    with (
        sdk.messages.stream(model="any", max_tokens=50, messages=messages) as stream,
        pytest.raises(anthropic.APIStatusError) as problem,
    ):
        stream.until_done()
    assert (problem.value.type, problem.value.error_code) == ("api_error", "upstream_error")
