"""Anthropic's Messages through the gateway from a real llama-server with a tiny random model."""

from collections.abc import Iterator
from typing import Any, cast

import anthropic
import pytest
from anthropic.types import Message

from tests.blueprints.v1.client import Client
from tests.gateway.dialects.messages.events import events, message
from tests.support.books import Account, BooksReader, wait_for
from tests.support.servers import Gateway

pytestmark = pytest.mark.real_llama

Json = dict[str, Any]

MESSAGES = "/v1/messages"
HELLO = [{"role": "user", "content": "hello world"}]
TOOLS = [
    {
        "name": name,
        "description": "the weather",
        "input_schema": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
        },
    }
    for name in ("get_weather", "ask_the_frog")
]
THOUGHTS = {"type": "enabled", "budget_tokens": 20}


@pytest.fixture(params=[True, False], ids=["streamed", "whole"])
def streamed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def sdk(gateway: Gateway, account: Account) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key=account.key, max_retries=0) as client:
        yield client


def send(client: Client, **body: Any) -> Json:
    """Return the message, assembled from events if `stream` is set, after the SDK validated it."""
    answer = client.call("POST", MESSAGES, {"messages": HELLO, "max_tokens": 30, **body})
    assert answer.status == 200, answer.body
    for private in (b"timings", b"prompt_progress", b"__verbose"):
        assert private not in answer.body
    found: Json = message(events(answer.body)) if body.get("stream") else answer.json
    Message.model_validate(found, strict=True)
    return found


def say(client: Client, **body: Any) -> Json:
    """Repeat `send` until the message has content: the random model may generate nothing."""
    for _ in range(20):
        found = send(client, **body)
        if found["content"]:
            return found
    raise AssertionError("the model has nothing to say")


def total(usage: Json) -> int:
    return sum(count for name, count in usage.items() if name.endswith("_tokens"))


def test_an_answer_and_its_charge(
    client: Client, books: BooksReader, account: Account, streamed: bool
) -> None:
    # Shorter prompts are not looked for in the slots.
    messages = [{"role": "user", "content": "hello world " * 40}]
    found = send(client, stream=streamed, messages=messages)
    assert found["stop_reason"] in ("end_turn", "max_tokens")
    assert found["usage"]["output_tokens"] <= 30
    usages = [found["usage"]]

    def is_cached() -> bool:
        usages.append(send(client, stream=streamed, messages=messages)["usage"])
        return bool(usages[-1]["cache_read_input_tokens"])

    # At first a gateway does not know which slot has whose prompt.
    wait_for(is_cached, "an answer from the cache")
    # Its tokens cost the same.
    events = books.wait_for_events(account, len(usages))
    for event, usage in zip(events, usages, strict=True):
        assert event["charged_tokens"] == total(usage)
        assert event["cached_prompt_tokens"] == usage["cache_read_input_tokens"]


def test_counting_agrees_with_the_charge(client: Client) -> None:
    conversation = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "tool_use", "id": "x", "name": "get_weather", "input": {"city": "Rome"}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "x", "content": "rain"}],
        },
    ]
    for messages in (HELLO, conversation, [*HELLO, {"role": "assistant", "content": "Well"}]):
        fields: Json = {"messages": messages, "system": "be brief", "tools": TOOLS}
        counted = client.call("POST", f"{MESSAGES}/count_tokens", fields)
        assert counted.status == 200
        usage = send(client, **fields)["usage"]
        assert counted.json["input_tokens"] == total(usage) - usage["output_tokens"]


def test_thoughts_and_their_budget(client: Client, streamed: bool) -> None:
    found = say(client, thinking=THOUGHTS, max_tokens=60, stream=streamed)
    thoughts = found["content"][0]
    assert thoughts["type"] == "thinking"
    # Roughly one word per token.
    assert 0 < len(thoughts["thinking"].split()) <= 20
    off = say(client, thinking={"type": "disabled"}, stream=streamed)
    assert [block["type"] for block in off["content"]] == ["text"]


def test_an_answer_by_a_schema(client: Client, streamed: bool) -> None:
    schema = {"type": "object", "properties": {"x": {"const": "frog"}}, "required": ["x"]}
    found = send(
        client,
        output_config={"format": {"type": "json_schema", "schema": schema}},
        max_tokens=100,
        stream=streamed,
    )
    [block] = found["content"]
    assert "".join(block["text"].split()) == '{"x":"frog"}'
    assert found["stop_reason"] == "end_turn"


def test_a_prefilled_answer(client: Client, streamed: bool) -> None:
    messages = [*HELLO, {"role": "assistant", "content": "It was a dark and stormy night"}]
    found = say(client, messages=messages, stream=streamed)
    assert found["content"][0]["text"]
    assert "stormy" not in found["content"][0]["text"]


def test_a_stop_sequence_is_named(client: Client, streamed: bool) -> None:
    # The random model may end by itself before it writes one of them.
    for _ in range(20):
        found = send(client, stop_sequences=list("aeiou"), max_tokens=200, stream=streamed)
        if found["stop_reason"] == "stop_sequence":
            break
    assert found["stop_sequence"] in list("aeiou")
    assert not any(vowel in block["text"] for vowel in "aeiou" for block in found["content"])


def test_a_prompt_beyond_the_context(sdk: anthropic.Anthropic) -> None:
    messages = [{"role": "user", "content": "hello world " * 5000}]
    with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > 4096"):
        sdk.messages.create(model="any", max_tokens=5, messages=cast(Any, messages))


def test_the_official_sdk(sdk: anthropic.Anthropic, books: BooksReader, account: Account) -> None:
    fields = cast(Any, {"model": "any", "max_tokens": 8, "messages": HELLO})
    whole = sdk.messages.create(**fields)
    with sdk.messages.stream(**fields) as stream:
        final = stream.get_final_message()
    usages = [answer.usage.to_dict() for answer in (whole, final)]
    charged = [event["charged_tokens"] for event in books.wait_for_events(account, 2)]
    assert charged == [total(cast(Json, usage)) for usage in usages]
