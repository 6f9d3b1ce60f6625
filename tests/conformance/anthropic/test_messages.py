"""Anthropic's SDK for Python on /v1/messages."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic.types import Message, Usage

from sandbox.llama import SimulatedLlama
from tests.conformance.asking import CALL_TOKENS, HELLO, PARAMETERS, only_simulator, saying
from tests.conformance.backends import Backend
from tests.conformance.strict import strictly, unknown_fields
from tests.support.books import Account

ASKED: Any = {"model": "any", "messages": HELLO, "max_tokens": 20}
TOOL: Any = {
    "name": "get_weather",
    "description": "the weather of a city",
    "input_schema": PARAMETERS,
}
ONE_CALL: Any = {
    **ASKED,
    "max_tokens": CALL_TOKENS,
    "tools": [TOOL],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
}


@pytest.fixture
def sdk(backend: Backend, account: Account) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=backend.gateway.url, api_key=account.key) as client:
        yield client


def total(usage: Usage) -> int:
    cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
    return usage.input_tokens + cached + usage.output_tokens


def text_of(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_an_answer(sdk: anthropic.Anthropic) -> None:
    raw = sdk.messages.with_raw_response.create(**ASKED, system="Be brief.")
    answer = strictly(raw.parse())
    assert answer.stop_reason in ("end_turn", "max_tokens")
    assert raw.headers["x-promptly-charged-tokens"] == str(total(answer.usage))


def test_every_event(sdk: anthropic.Anthropic) -> None:
    with sdk.messages.create(**ASKED, stream=True) as stream:
        events = [strictly(event) for event in stream]
    kinds = [event.type for event in events if not event.type.startswith("content_block")]
    assert kinds == ["message_start", "message_delta", "message_stop"]
    assert (events[0].type, events[-1].type) == ("message_start", "message_stop")


@pytest.mark.parametrize("streamed", [True, False])
def test_a_stop_sequence(sdk: anthropic.Anthropic, streamed: bool) -> None:
    asked: Any = {**ASKED, "max_tokens": 200, "stop_sequences": list("aeiou")}
    # The random model may end by itself before it writes one of them.
    for _ in range(20):
        if streamed:
            with sdk.messages.stream(**asked) as stream:
                answer: Message = stream.get_final_message()
        else:
            answer = strictly(sdk.messages.create(**asked))
        assert not set("aeiou") & set(text_of(answer))
        if answer.stop_reason == "stop_sequence":
            break
    assert answer.stop_sequence in list("aeiou")


def test_the_models(sdk: anthropic.Anthropic) -> None:
    models = list(sdk.models.list(limit=1))
    assert models
    for model in models:
        assert sdk.models.retrieve(model.id) == model
        assert list(unknown_fields(model)) == []
        # As JSON, which has no other form for `created_at`.
        type(model).model_validate_json(model.model_dump_json(exclude_unset=True), strict=True)


def test_the_helper(sdk: anthropic.Anthropic) -> None:
    with sdk.messages.stream(**ASKED) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == text_of(final)
    assert final.usage.output_tokens > 0


# The Messages API has no field that makes the tiny model think or call a tool at once.
@only_simulator
@pytest.mark.parametrize("streamed", [False, True])
def test_thoughts(sdk: anthropic.Anthropic, streamed: bool) -> None:
    asked: Any = {**ASKED, "thinking": {"type": "enabled", "budget_tokens": 10}}
    if streamed:
        with sdk.messages.create(**asked, stream=True) as stream:
            events: list[Any] = [strictly(event) for event in stream]
        assert any(
            event.type == "content_block_delta" and event.delta.type == "thinking_delta"
            for event in events
        )
    else:
        thoughts = strictly(sdk.messages.create(**asked)).content[0]
        assert thoughts.type == "thinking"
        assert thoughts.thinking


@only_simulator
@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_call_and_its_result(sdk: anthropic.Anthropic, streamed: bool) -> None:
    if streamed:
        with sdk.messages.stream(**ONE_CALL) as stream:
            answer: Message = stream.get_final_message()
    else:
        answer = strictly(sdk.messages.create(**ONE_CALL))
    assert answer.stop_reason == "tool_use"
    [call] = answer.content
    assert call.type == "tool_use"
    assert call.name == "get_weather"
    assert call.input in ({"city": "Paris"}, {"city": "Rome"})
    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    history: Any = [
        *HELLO,
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [result]},
    ]
    second = sdk.messages.create(**{**ASKED, "messages": history}, tools=[TOOL])
    assert total(strictly(second).usage) > 20


def test_counting(sdk: anthropic.Anthropic) -> None:
    counted = sdk.messages.count_tokens(model="any", messages=HELLO)
    usage = sdk.messages.create(**ASKED).usage
    assert counted.input_tokens == total(usage) - usage.output_tokens


def test_errors_have_their_classes(sdk: anthropic.Anthropic, backend: Backend) -> None:
    with pytest.raises(anthropic.BadRequestError) as refusal:
        sdk.messages.create(**{**ASKED, "max_tokens": 0})
    assert refusal.value.request_id is not None
    stranger = sdk.with_options(api_key="sk-wrong")
    with pytest.raises(anthropic.AuthenticationError):
        stranger.messages.create(**ASKED)
    poor = sdk.with_options(api_key=backend.books.account(paid_tokens=1).key)
    with pytest.raises(anthropic.APIStatusError) as refused:
        poor.messages.create(**ASKED)
    assert refused.value.status_code == 402
    assert refused.value.response.headers["x-should-retry"] == "false"


@only_simulator
def test_an_error_in_mid_stream(sdk: anthropic.Anthropic, simulator: SimulatedLlama) -> None:
    asked: Any = {**ASKED, "messages": saying("tokens=20 error_after=5")}
    with (
        sdk.messages.stream(**asked) as stream,
        pytest.raises(anthropic.APIStatusError) as problem,
    ):
        stream.until_done()
    assert isinstance(problem.value.body, dict)
    assert problem.value.body["error"]["type"] == "api_error"
    assert len(simulator.requests()) == 1
