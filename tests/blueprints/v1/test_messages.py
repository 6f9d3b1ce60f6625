"""Anthropic's Messages API on a running gateway, at the HTTP level."""

from typing import Any

import pytest
from anthropic.types import Message

from sandbox.llama import SimulatedLlama
from sandbox.ports import free_port
from tests.blueprints.v1.client import Answer, Client, sim
from tests.blueprints.v1.conftest import MakeGateway
from tests.gateway.dialects.messages.events import events, message
from tests.support.books import Account, BooksReader, wait_for
from tests.support.servers import Gateway

Json = dict[str, Any]

MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
TOOL = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def send(client: Client, path: str = MESSAGES, **body: Any) -> Answer:
    return client.call("POST", path, {"max_tokens": 50, "messages": sim("tokens=12"), **body})


def answered(answer: Answer) -> Json:
    """Return the message of a successful answer, streamed or not, validated by the SDK's types."""
    assert answer.status == 200, answer.body
    streamed = answer.headers["content-type"].startswith("text/event-stream")
    found: Json = message(events(answer.body)) if streamed else answer.json
    Message.model_validate(found, strict=True)
    return found


def error(answer: Answer) -> Json:
    """Return the error object after a check of its shape."""
    assert set(answer.json) == {"type", "error", "request_id"}
    assert answer.json["type"] == "error"
    assert set(answer.json["error"]) - {"details"} == {"type", "message"}
    assert answer.json["request_id"] == answer.headers["request-id"]
    assert answer.headers["x-request-id"] == answer.headers["request-id"]
    found: Json = answer.json["error"]
    return found


def total(usage: Json) -> int:
    return sum(count for name, count in usage.items() if name.endswith("_tokens"))


@pytest.mark.parametrize("streamed", [True, False])
def test_an_answer_and_its_charge(
    client: Client, books: BooksReader, account: Account, streamed: bool
) -> None:
    answer = send(client, messages=sim("tokens=12 cache=5", "héllo 🌍"), stream=streamed)
    found = answered(answer)
    [block] = found["content"]
    assert block["type"] == "text"
    assert block["text"]
    assert (found["stop_reason"], found["stop_sequence"]) == ("end_turn", None)
    assert found["id"].startswith("msg_")
    usage = found["usage"]
    assert usage["output_tokens"] == 12
    # The account had nothing cached itself.
    assert usage["cache_read_input_tokens"] == 0
    [event] = books.wait_for_events(account, 1)
    assert (event["endpoint"], event["outcome"]) == ("messages", "completed")
    assert event["prompt_tokens"] == total(usage) - 12
    assert event["charged_tokens"] == total(usage)
    request_id = answer.headers["request-id"]
    assert answer.headers["x-promptly-request-id"] == request_id
    receipt = client.get(f"/v1/usage?request_id={request_id}").json
    assert receipt["charged_tokens"] == total(usage)
    if not streamed:
        assert answer.headers["x-promptly-charged-tokens"] == str(total(usage))


@pytest.mark.parametrize("streamed", [True, False])
def test_the_stop_sequence_is_named(client: Client, llama: SimulatedLlama, streamed: bool) -> None:
    [free] = answered(send(client, messages=sim("tokens=30")))["content"]
    word = free["text"].split()[3]
    answer = send(
        client, messages=sim("tokens=30"), stop_sequences=["never", word], stream=streamed
    )
    found = answered(answer)
    assert (found["stop_reason"], found["stop_sequence"]) == ("stop_sequence", word)
    assert found["content"][0]["text"] == free["text"][: free["text"].find(word)]
    assert b"verbose" not in answer.body
    ended = answered(send(client, stop_sequences=["never"], stream=streamed))
    assert (ended["stop_reason"], ended["stop_sequence"]) == ("end_turn", None)
    assert "verbose" in llama.requests()[-1]["body"]
    send(client, stream=streamed)
    assert "verbose" not in llama.requests()[-1]["body"]


def test_the_key_in_either_header(gateway: Gateway, account: Account) -> None:
    stranger = Client(gateway.url, "")
    body = {"max_tokens": 5, "messages": sim("tokens=3")}
    for name, value in (("x-api-key", account.key), ("Authorization", f"Bearer {account.key}")):
        headers = {"Authorization": "", name: value, "anthropic-version": "2023-06-01"}
        assert stranger.call("POST", f"{MESSAGES}?beta=true", body, headers).status == 200


def test_fields_without_effect_are_named(client: Client) -> None:
    system = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]
    answer = send(client, metadata={"user_id": "x"}, system=system)
    assert answer.headers["x-promptly-ignored"] == "metadata, cache_control"


def test_what_a_coding_agent_sends(client: Client, llama: SimulatedLlama) -> None:
    """Send turns like Claude Code: upstream must get the same prefix every time."""
    cached = {"cache_control": {"type": "ephemeral"}}
    messages: list[Json] = []
    sent = []
    for turn in range(2):
        text = {"type": "text", "text": f"go on [[sim tag=agent{turn}]]", **cached}
        messages.append({"role": "user", "content": [text]})
        body = {
            "model": "claude-something",
            "max_tokens": 32_000,
            "stream": True,
            "metadata": {"user_id": "x"},
            "system": [
                {"type": "text", "text": f"x-anthropic-billing-header: cch={turn};"},
                {"type": "text", "text": "be an agent", **cached},
            ],
            "messages": messages,
            "tools": [{**TOOL, "eager_input_streaming": True}],
            "thinking": {"type": "adaptive"},
            "output_config": {"effort": "high"},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        }
        headers = {"anthropic-beta": "context-management-2025-06-27", "x-app": "cli"}
        answer = client.call("POST", f"{MESSAGES}?beta=true", body, headers)
        messages.append({"role": "assistant", "content": answered(answer)["content"]})
        assert answer.headers["x-promptly-ignored"] == (
            "metadata, context_management, cache_control, x-anthropic-billing-header"
        )
        sent.append(llama.request(f"agent{turn}")["body"]["messages"])
    assert sent[0][0] == {"role": "system", "content": "be an agent"}
    assert sent[1][: len(sent[0])] == sent[0]


@pytest.mark.parametrize("streamed", [True, False])
def test_thoughts_come_first(client: Client, streamed: bool) -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    found = answered(send(client, thinking=thinking, stream=streamed))
    thoughts, text = found["content"]
    assert thoughts["type"] == "thinking"
    assert thoughts["thinking"]
    assert thoughts["signature"]
    assert text["type"] == "text"
    off = answered(send(client, thinking={"type": "disabled"}, stream=streamed))
    assert [block["type"] for block in off["content"]] == ["text"]


@pytest.mark.parametrize("streamed", [True, False])
def test_a_prefilled_answer(client: Client, streamed: bool) -> None:
    messages = [*sim(), {"role": "assistant", "content": "Well, [[sim tokens=5]]"}]
    found = answered(send(client, messages=messages, stream=streamed))
    assert found["usage"]["output_tokens"] == 5
    assert found["content"][0]["text"]
    assert "Well" not in found["content"][0]["text"]


@pytest.mark.parametrize("streamed", [True, False])
def test_several_calls(client: Client, streamed: bool) -> None:
    found = answered(send(client, messages=sim("tool=2"), tools=[TOOL], stream=streamed))
    assert found["stop_reason"] == "tool_use"
    assert [block["input"] for block in found["content"]] == [{"city": "Paris"}] * 2
    assert all(block["id"] for block in found["content"])


@pytest.mark.parametrize("streamed", [True, False])
def test_a_call_that_is_cut_off(client: Client, streamed: bool) -> None:
    fields: Json = {"tools": [TOOL], "tool_choice": {"type": "any"}, "max_tokens": 15}
    found = answered(send(client, stream=streamed, **fields))
    assert found["stop_reason"] == "max_tokens"
    assert [block["input"] for block in found["content"]] == [{}]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"system": "be brief", "tools": [TOOL]},
        {"messages": [*sim(), {"role": "assistant", "content": "Well, "}]},
    ],
)
def test_counting_is_exact_and_free(
    client: Client, books: BooksReader, account: Account, fields: Json
) -> None:
    body = {"messages": sim(), **fields}
    counted = client.call("POST", COUNT, {**body, "model": "any"})
    assert counted.status == 200
    usage = answered(send(client, **body))["usage"]
    assert counted.json == {"input_tokens": usage["input_tokens"]}
    assert len(books.wait_for_events(account, 1)) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind", "message"),
    [
        ("POST", MESSAGES, {"messages": sim()}, 400, "invalid_request_error", "max_tokens: "),
        ("POST", MESSAGES, b"{", 400, "invalid_request_error", "The body is not JSON"),
        (
            "POST",
            MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "image"}]}]},
            400,
            "invalid_request_error",
            "messages.0.content.0: ",
        ),
        ("POST", COUNT, {"messages": []}, 400, "invalid_request_error", "messages: "),
        ("POST", f"{MESSAGES}/batches", {}, 404, "not_found_error", "Unknown request URL"),
        ("GET", MESSAGES, None, 405, "invalid_request_error", "GET is not allowed"),
        (
            "POST",
            MESSAGES,
            {"max_tokens": 5, "messages": sim("", "word " * 40_000)},
            400,
            "invalid_request_error",
            "prompt is too long: ",
        ),
        (
            "POST",
            MESSAGES,
            {"max_tokens": 5, "messages": sim("status=500")},
            502,
            "api_error",
            "The model server failed",
        ),
        (
            "POST",
            MESSAGES,
            {"max_tokens": 5, "messages": sim("eof_after=0"), "stream": True},
            502,
            "api_error",
            "The model server failed",
        ),
    ],
)
def test_refusals(
    client: Client, method: str, path: str, body: Any, status: int, kind: str, message: str
) -> None:
    answer = client.call(method, path, body)
    assert answer.status == status
    assert error(answer)["type"] == kind
    assert error(answer)["message"].startswith(message)
    assert client.get("/v1/balance").json["available_tokens"] == 1_000_000


def test_a_wrong_key_and_an_empty_balance(
    gateway: Gateway, llama: SimulatedLlama, books: BooksReader
) -> None:
    for path in (MESSAGES, COUNT):
        answer = send(Client(gateway.url, "sk-wrong"), path)
        assert (answer.status, error(answer)["type"]) == (401, "authentication_error")
    answer = send(Client(gateway.url, books.account(paid_tokens=0).key))
    assert (answer.status, error(answer)["type"]) == (402, "billing_error")
    assert answer.headers["x-should-retry"] == "false"
    assert llama.requests() == []


def test_limits(make_gateway: MakeGateway, llama: SimulatedLlama, account: Account) -> None:
    gateway = make_gateway(llama.url, INFERENCE_USER_RATE_LIMIT=2, MAX_BODY_BYTES=1024)
    client = Client(gateway.url, account.key)
    answer = send(client, messages=sim("", "x" * 2000))
    assert (answer.status, error(answer)["type"]) == (413, "request_too_large")
    assert send(client, COUNT).status == 200
    answer = send(client)
    assert (answer.status, error(answer)["type"]) == (429, "rate_limit_error")
    assert 50 <= int(answer.headers["retry-after"]) <= 60


def test_no_upstream(make_gateway: MakeGateway, account: Account) -> None:
    client = Client(make_gateway(f"http://127.0.0.1:{free_port()}").url, account.key)
    for path, streamed in ((MESSAGES, True), (MESSAGES, False), (COUNT, None)):
        answer = send(client, path, stream=streamed)
        assert (answer.status, error(answer)["type"]) == (503, "overloaded_error")
        assert int(answer.headers["retry-after"]) <= 60


@pytest.mark.parametrize("fault", ["error_after=5", "eof_after=5"])
def test_an_error_in_mid_stream(
    client: Client, books: BooksReader, account: Account, llama: SimulatedLlama, fault: str
) -> None:
    messages = sim(f"tokens=50 delay_ms=20 {fault} tag=mid{fault[:3]}")
    answer = send(client, messages=messages, stream=True)
    assert answer.status == 200
    start, *_, last = events(answer.body)
    assert start["type"] == "message_start"
    assert last == {
        "type": "error",
        "error": {
            "type": "api_error",
            "message": "The model server failed while answering.",
            "details": {"error_code": "upstream_error"},
        },
    }
    [event] = books.wait_for_events(account, 1)
    assert event["outcome"] == "upstream_error"
    record = llama.request(f"mid{fault[:3]}")
    assert event["charged_tokens"] == record["prompt_tokens"] + record["completion_tokens"]


def test_comments_while_the_prompt_is_read(client: Client) -> None:
    answer = send(client, messages=sim("prefill_ms=1500 tokens=5"), stream=True)
    assert answer.parts[0] == ": keep-alive"
    assert answered(answer)["usage"]["output_tokens"] == 5


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_vanishes(
    client: Client, llama: SimulatedLlama, books: BooksReader, account: Account, streamed: bool
) -> None:
    tag = f"gone{streamed}"
    fields = {
        "messages": sim(f"tokens=5000 delay_ms=5 tag={tag}"),
        "max_tokens": 5000,
        "stream": streamed,
    }
    with client.open(MESSAGES, **fields) as stream:
        if streamed:
            stream.read_until(b"text_delta")
        else:
            wait_for(
                lambda: any(record["completion_tokens"] for record in llama.requests(tag)),
                "some tokens",
            )
    record = llama.wait_for_end(tag, 2.0)
    [event] = books.wait_for_events(account, 1)
    assert (event["endpoint"], event["outcome"]) == ("messages", "client_disconnected")
    assert 0 < event["completion_tokens"] == record["completion_tokens"] < 1000
    assert event["charged_tokens"] == record["prompt_tokens"] + record["completion_tokens"]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("output", [40, 90])
def test_a_balance_that_ends_in_mid_answer(
    growing_gateway: Gateway, llama: SimulatedLlama, books: BooksReader, streamed: bool, output: int
) -> None:
    fields: Json = {"messages": sim("tokens=500"), "max_tokens": 500}
    ample = Client(growing_gateway.url, books.account().key)
    prompt = ample.call("POST", COUNT, fields).json["input_tokens"]
    account = books.account(paid_tokens=prompt + output)
    client = Client(growing_gateway.url, account.key)
    found = answered(send(client, stream=streamed, **fields))
    assert found["stop_reason"] == "max_tokens"
    assert found["usage"]["output_tokens"] == output
    assert total(found["usage"]) == prompt + output
    [event] = books.wait_for_events(account, 1)
    assert event["charged_tokens"] == prompt + output
    assert books.balance(account)["available_tokens"] == 0
    answer = send(client, **fields)
    assert (answer.status, error(answer)["type"]) == (402, "billing_error")
