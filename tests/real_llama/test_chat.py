"""Chat completions through the gateway from a real llama-server with a tiny random model."""

import json
import re
from typing import Any, cast

import openai
import pytest
import urllib3

from sandbox.real_llama import RealLlama
from tests.blueprints.v1.client import Client, Json
from tests.support.books import Account, BooksReader
from tests.support.servers import Gateway

pytestmark = pytest.mark.real_llama

HELLO = [{"role": "user", "content": "hello world"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "the weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
        },
    },
}
USAGE: Json = {"stream_options": {"include_usage": True}}
# Suppress the tiny model's end-of-sequence token (id 4), so that a long answer does not end early.
NO_END: Json = {"logit_bias": {"4": -100}}


def upstream(llama: RealLlama, path: str) -> bytes:
    answer = urllib3.request(
        "GET", llama.url + path, headers={"Authorization": f"Bearer {llama.api_key}"}
    )
    return answer.data


def metric(llama: RealLlama, name: str) -> int:
    """Return one of the server's own counters, from /metrics."""
    found = re.search(
        rf"^llamacpp:{name} (\d+)", upstream(llama, "/metrics").decode(), re.MULTILINE
    )
    assert found is not None
    return int(found.group(1))


def busy_slots(llama: RealLlama) -> int:
    return sum(slot["is_processing"] for slot in json.loads(upstream(llama, "/slots")))


def most_decoded(llama: RealLlama) -> int:
    """Return the number of tokens generated so far for the request that is furthest along."""
    slots = json.loads(upstream(llama, "/slots"))
    busy = [slot["next_token"][0]["n_decoded"] for slot in slots if slot["is_processing"]]
    return max(busy, default=0)


def test_not_streamed(client: Client, books: BooksReader, account: Account) -> None:
    answer = client.chat(messages=HELLO, max_tokens=12, **NO_END)
    assert answer.status == 200
    usage = answer.json["usage"]
    assert usage["completion_tokens"] == 12
    [choice] = answer.json["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"]
    assert answer.headers["x-promptly-charged-tokens"] == str(usage["total_tokens"])
    assert "timings" not in answer.json
    [event] = books.wait_for_events(account, 1)
    assert event["charged_tokens"] == usage["total_tokens"]


@pytest.mark.parametrize("include_usage", [True, False])
def test_streamed(
    client: Client, books: BooksReader, account: Account, include_usage: bool
) -> None:
    fields = USAGE if include_usage else {}
    answer = client.stream(messages=HELLO, max_tokens=30, **NO_END, **fields)
    events = answer.events
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert answer.text()
    usages = [event["usage"] for event in events if "usage" in event]
    assert len(usages) == int(include_usage)
    for private in (b"timings", b"prompt_progress"):
        assert private not in answer.body
    [event] = books.wait_for_events(account, 1)
    assert event["completion_tokens"] == 30
    if include_usage:
        assert event["charged_tokens"] == usages[0]["total_tokens"]


@pytest.mark.parametrize("streamed", [True, False])
def test_a_tool_call(client: Client, streamed: bool) -> None:
    # The bias makes the random model start the call at once.
    fields = {
        "messages": HELLO,
        "tools": [TOOL],
        "tool_choice": "required",
        "max_tokens": 300,
        "logit_bias": {"<tool_call>": 25},
    }
    if streamed:
        events = client.stream(**fields).events
        calls = [
            call
            for event in events
            for call in event["choices"][0]["delta"].get("tool_calls", [])
            if call["index"] == 0
        ]
        name = calls[0]["function"]["name"]
        arguments = "".join(call["function"]["arguments"] for call in calls)
    else:
        call = client.chat(**fields).json["choices"][0]["message"]["tool_calls"][0]
        assert call["id"]
        name, arguments = call["function"]["name"], call["function"]["arguments"]
    assert name == "get_weather"
    assert json.loads(arguments)["city"] in ("Paris", "Rome")


def test_thoughts(client: Client) -> None:
    fields: dict[str, Any] = {
        "messages": HELLO,
        "max_tokens": 40,
        "chat_template_kwargs": {"enable_thinking": True},
        **NO_END,
    }
    message = client.chat(**fields).json["choices"][0]["message"]
    assert message["reasoning_content"]
    assert client.stream(**fields).text("reasoning_content")


@pytest.mark.parametrize(("asked", "alternatives"), [(None, 0), (0, 0), (1, 1), (2, 2)])
def test_logprobs(client: Client, asked: int | None, alternatives: int) -> None:
    fields: Json = {"max_tokens": 3, "logprobs": True, "top_logprobs": asked, **NO_END}
    [choice] = client.chat(messages=HELLO, **fields).json["choices"]
    streamed = client.stream(messages=HELLO, **fields).events
    parts = [event["choices"][0].get("logprobs") for event in streamed if event["choices"]]
    for entries in (
        choice["logprobs"]["content"],
        [entry for part in parts if part for entry in part["content"]],
    ):
        assert len(entries) == 3
        assert all(len(entry["top_logprobs"]) == alternatives for entry in entries)


@pytest.mark.parametrize("arguments", ['{"a"', "", " ", "[1]", None, {"a": 1}])
def test_a_conversation_with_a_call_that_was_cut_goes_on(client: Client, arguments: Any) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,x"}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": [image]},
        {"role": "assistant", "reasoning_content": "half \ud83d"},
        {"role": "assistant", "content": None},
        *HELLO,
    ]
    answer = client.chat(messages=messages, max_tokens=2, **NO_END)
    assert answer.status == 200
    assert answer.headers["x-promptly-ignored"] == "tool.image_url"


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("paid_tokens", [1_000_000, 20_000])
def test_a_prompt_beyond_the_context(
    gateway: Gateway, books: BooksReader, streamed: bool, paid_tokens: int
) -> None:
    # If the balance is below the prompt's upper bound, the prompt is counted and refused before a
    # slot is taken.
    account = books.account(paid_tokens=paid_tokens)
    client = Client(gateway.url, account.key)
    messages = [{"role": "user", "content": "hello world " * 5000}]
    answer = client.chat(messages=messages, stream=streamed)
    assert answer.status == 400
    assert answer.error["code"] == "context_length_exceeded"
    assert "4096" in answer.error["message"]
    assert books.balance(account)["available_tokens"] == paid_tokens


def test_a_third_request_waits_for_two_slots(
    client: Client, llama: RealLlama, books: BooksReader, account: Account
) -> None:
    long: Json = {"messages": HELLO, "max_tokens": 4000, **NO_END}
    with client.open(**long) as first, client.open(**long) as second:
        first.read_until(b"content")
        second.read_until(b"content")
        with client.open(messages=HELLO, max_tokens=5, **NO_END) as third:
            third.read_until(b": queue position=1")
            assert b"data:" not in third.received
            # The request waits in the gateway, not in llama-server.
            assert metric(llama, "requests_deferred") == 0
            first.close()
            third.read_until(b"data: [DONE]")
    assert len(books.wait_for_events(account, 3)) == 3


def test_a_balance_that_ends_in_mid_answer(
    client: Client, gateway: Gateway, books: BooksReader
) -> None:
    usage = client.chat(messages=HELLO, max_tokens=1).json["usage"]
    poor = books.account(paid_tokens=usage["prompt_tokens"] + 25)
    answer = Client(gateway.url, poor.key).stream(messages=HELLO, **NO_END, **USAGE)
    assert answer.events[-2]["choices"][0]["finish_reason"] == "length"
    assert answer.events[-1]["usage"]["completion_tokens"] == 25
    [event] = books.wait_for_events(poor, 1)
    assert event["charged_tokens"] == usage["prompt_tokens"] + 25
    assert books.balance(poor)["available_tokens"] == 0
    assert Client(gateway.url, poor.key).chat(messages=HELLO).status == 402


def test_the_official_sdk(gateway: Gateway, books: BooksReader, account: Account) -> None:
    fields = cast(Any, {"model": "tiny", "messages": HELLO, "max_tokens": 8, **NO_END})
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=account.key) as sdk:
        answer = sdk.chat.completions.create(**fields)
        chunks = list(sdk.chat.completions.create(**fields, stream=True, **USAGE))
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    assert chunks[-1].usage is not None
    events = books.wait_for_events(account, 2)
    totals = [answer.usage.total_tokens, chunks[-1].usage.total_tokens]
    assert [event["charged_tokens"] for event in events] == totals
