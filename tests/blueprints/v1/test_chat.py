"""Answers to valid chat completions, and the agreement of all counts with them."""

import json
from typing import Any

import pytest

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import CHAT, Client, sim
from tests.support.books import Account, BooksReader

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def counts(record: dict[str, Any]) -> dict[str, int]:
    prompt, completion = record["prompt_tokens"], record["completion_tokens"]
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def test_an_answer_in_one_piece(
    client: Client, llama: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    answer = client.chat(messages=sim("tokens=20 tag=one"))
    assert answer.status == 200
    record = llama.request("one")
    usage = {name: answer.json["usage"][name] for name in counts(record)}
    assert usage == counts(record)
    assert usage["completion_tokens"] == 20
    [choice] = answer.json["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] == "stop"
    assert answer.json["object"] == "chat.completion"
    assert answer.json["model"] == "sim-model"
    assert "timings" not in answer.json
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-promptly-charged-tokens"] == str(usage["total_tokens"])
    left = 1_000_000 - usage["total_tokens"]
    assert answer.headers["x-promptly-balance-tokens"] == str(left)
    assert answer.headers["x-promptly-request-id"] == answer.headers["x-request-id"]
    # Upstream streams even if the client does not.
    assert record["stream"] is True


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": True}])
def test_a_streamed_answer(
    client: Client, llama: SimulatedLlama, options: dict[str, bool] | None
) -> None:
    fields = {} if options is None else {"stream_options": options}
    answer = client.stream(messages=sim("tokens=30 tag=one"), **fields)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    events = answer.events
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    with_usage = [event for event in events if "usage" in event]
    if options and options.get("include_usage"):
        assert with_usage == [events[-1]]
        assert events[-1]["choices"] == []
        usage = events[-1]["usage"]
        record = llama.request("one")
        assert {name: usage[name] for name in counts(record)} == counts(record)
    else:
        assert with_usage == []
    for private in (b"timings", b"prompt_progress", b"predicted"):
        assert private not in answer.body
    finished = [
        event for event in events if event["choices"] and event["choices"][0]["finish_reason"]
    ]
    assert len(finished) == 1
    assert len({event["id"] for event in events}) == 1


def test_both_forms_of_an_answer_agree(client: Client) -> None:
    messages = sim("tokens=60 think=5", text="something longer")
    whole = client.chat(messages=messages)
    message = whole.json["choices"][0]["message"]
    for split in ("", " split=utf8", " split=line", " split=random"):
        # The directive is part of the prompt that the answer derives from: compare per directive.
        streamed = client.stream(messages=sim("tokens=60 think=5" + split, text="something longer"))
        again = client.chat(messages=sim("tokens=60 think=5" + split, text="something longer"))
        assert streamed.text() == again.json["choices"][0]["message"]["content"]
        assert streamed.text("reasoning_content") == message["reasoning_content"]


def test_receipt_usage_and_balance_equal_the_counts_of_the_answers(
    client: Client, account: Account
) -> None:
    answers = [client.chat(messages=sim(f"tokens={10 + number}")) for number in range(3)]
    spent = 0
    for answer in answers:
        usage = answer.json["usage"]
        spent += usage["total_tokens"]
        receipt = client.get(f"/v1/usage?request_id={answer.headers['x-promptly-request-id']}").json
        assert receipt["object"] == "receipt"
        assert receipt["endpoint"] == "chat.completions"
        assert receipt["outcome"] == "completed"
        assert receipt["model"] == "sim-model"
        assert receipt["prompt_tokens"] == usage["prompt_tokens"]
        assert receipt["completion_tokens"] == usage["completion_tokens"]
        assert receipt["charged_tokens"] == usage["total_tokens"]
        assert receipt["uncharged_tokens"] == 0
        assert receipt["balance_tokens"] == 1_000_000 - spent
        assert 0 <= receipt["time_to_first_token_ms"] <= receipt["duration_ms"]
    [day] = client.get("/v1/usage").json["data"]
    assert day["requests"] == 3
    assert day["charged_tokens"] == day["prompt_tokens"] + day["completion_tokens"] == spent
    balance = client.get("/v1/balance").json
    assert balance["available_tokens"] == balance["paid_tokens"] == 1_000_000 - spent
    assert balance["reserved_tokens"] == 0


def test_a_streams_charge_equals_its_usage(
    client: Client, books: BooksReader, account: Account
) -> None:
    answer = client.stream(
        messages=sim("tokens=300"), stream_options={"include_usage": True}, max_tokens=200
    )
    usage = answer.events[-1]["usage"]
    assert usage["completion_tokens"] == 200
    assert answer.events[-2]["choices"][0]["finish_reason"] == "length"
    [event] = books.wait_for_events(account, 1)
    assert event["charged_tokens"] == usage["total_tokens"]
    assert books.balance(account)["available_tokens"] == 1_000_000 - usage["total_tokens"]


@pytest.mark.parametrize("streamed", [True, False])
def test_tool_calls(client: Client, streamed: bool) -> None:
    fields = {"messages": sim("tool=2"), "tools": [TOOL], "tool_choice": "auto"}
    if streamed:
        events = client.stream(**fields).events
        deltas = [
            call for event in events for call in event["choices"][0]["delta"].get("tool_calls", [])
        ]
        heads = [call for call in deltas if "id" in call]
        assert [call["index"] for call in heads] == [0, 1]
        names = [call["function"]["name"] for call in heads]
        arguments = [
            "".join(call["function"]["arguments"] for call in deltas if call["index"] == index)
            for index in (0, 1)
        ]
        reason = events[-1]["choices"][0]["finish_reason"]
    else:
        [choice] = client.chat(**fields).json["choices"]
        calls = choice["message"]["tool_calls"]
        names = [call["function"]["name"] for call in calls]
        arguments = [call["function"]["arguments"] for call in calls]
        assert choice["message"]["content"] is None
        reason = choice["finish_reason"]
    assert names == ["get_weather", "get_weather"]
    assert all("city" in json.loads(text) for text in arguments)
    assert reason == "tool_calls"


def test_a_conversation_with_tools_goes_upstream_whole(
    client: Client, llama: SimulatedLlama
) -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "weather?"}]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "5"},
        *sim("tag=whole"),
    ]
    assert client.chat(messages=messages, tools=[TOOL]).status == 200
    assert llama.request("whole")["body"]["messages"] == messages


def test_thoughts(client: Client) -> None:
    fields = {"chat_template_kwargs": {"enable_thinking": True}}
    message = client.chat(**fields).json["choices"][0]["message"]
    assert message["reasoning_content"] and message["content"]
    assert client.stream(**fields).text("reasoning_content") == message["reasoning_content"]


@pytest.mark.parametrize("asked", [{}, {"top_logprobs": 0}])
@pytest.mark.parametrize("include_usage", [True, False])
def test_logprobs_without_alternatives(client: Client, asked: Any, include_usage: bool) -> None:
    fields: dict[str, Any] = {"messages": sim("tokens=5"), "logprobs": True, **asked}
    [choice] = client.chat(**fields).json["choices"]
    entries = choice["logprobs"]["content"]
    assert "".join(entry["token"] for entry in entries) == choice["message"]["content"]
    assert [entry["top_logprobs"] for entry in entries] == [[]] * len(entries)

    events = client.stream(**fields, stream_options={"include_usage": include_usage}).events
    assert ("usage" in events[-1]) == include_usage
    assert not any("timings" in event for event in events)
    choices = [event["choices"][0] for event in events if event["choices"]]
    found = [item for each in choices for item in (each.get("logprobs") or {}).get("content", ())]
    assert found == entries


def test_logprobs(client: Client) -> None:
    fields: dict[str, Any] = {"messages": sim("tokens=5"), "logprobs": True, "top_logprobs": 2}
    [choice] = client.chat(**fields).json["choices"]
    entries = choice["logprobs"]["content"]
    assert "".join(entry["token"] for entry in entries) == choice["message"]["content"]
    assert all(len(entry["top_logprobs"]) == 2 for entry in entries)
    events = client.stream(**fields).events
    streamed = [
        entry
        for event in events
        for entry in (event["choices"][0].get("logprobs") or {}).get("content", [])
    ]
    assert streamed == entries


def test_structured_answers(client: Client) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    [choice] = client.chat(response_format=form).json["choices"]
    assert set(json.loads(choice["message"]["content"])) == {"name"}
    assert json.loads(client.stream(response_format={"type": "json_object"}).text())


def test_no_header_of_the_client_goes_upstream(client: Client, llama: SimulatedLlama) -> None:
    headers = {
        "X-Conversation-Id": "abc",
        "Cookie": "a=b",
        "User-Agent": "nosy/1",
        "Accept": "text/html",
        "X-Forwarded-For": "10.0.0.1",
        "Openai-Organization": "org",
    }
    body = {"messages": sim("tag=quiet")}
    assert client.call("POST", CHAT, body, headers).status == 200
    sent = llama.request("quiet")["headers"]
    assert set(sent) == {"host", "connection", "content-type", "content-length"}
    assert sent["content-type"] == "application/json"


def test_fields_without_effect_are_named(client: Client, llama: SimulatedLlama) -> None:
    answer = client.chat(messages=sim("tag=extra"), user="ann", store=True, n=1, n_predict=5)
    assert answer.status == 200
    assert answer.headers["x-promptly-ignored"] == "user, store, n_predict"
    assert not {"user", "store", "n_predict"} & set(llama.request("extra")["body"])
    assert "x-promptly-ignored" not in client.chat().headers


def test_the_key_may_come_as_x_api_key(client: Client, account: Account) -> None:
    answer = Client(client.url, "").call(
        "POST", CHAT, {"messages": sim()}, {"x-api-key": account.key, "Authorization": ""}
    )
    assert answer.status == 200


def test_large_prompts(client: Client, llama: SimulatedLlama) -> None:
    text = "wörd " * 20_000
    answer = client.chat(messages=sim("tag=large tokens=3", text=text))
    assert answer.status == 200
    assert llama.request("large")["body"]["messages"][0]["content"].startswith(text)
