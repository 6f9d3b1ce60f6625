"""Responses through the gateway from a real llama-server with a tiny random model."""

import json
from typing import Any

import openai
import pydantic
import pytest

from tests.blueprints.v1.client import Client
from tests.gateway.dialects.responses.sdk import (
    check_response,
    check_sequence,
    parse,
    text_of,
)
from tests.support.books import Account, BooksReader
from tests.support.servers import Gateway

pytestmark = pytest.mark.real_llama

Json = dict[str, Any]
STREAMED = pytest.mark.parametrize("streamed", [True, False])


def respond(client: Client, **body: Any) -> Json:
    """Return the final response, after validating it and all events against the SDK's types."""
    answer = client.call("POST", "/v1/responses", {"input": "hello world", **body})
    assert answer.status == 200
    if body.get("stream"):
        return check_sequence(parse(answer.body))
    check_response(answer.json)
    response: Json = answer.json
    return response


@STREAMED
def test_an_answer_and_its_charge(
    client: Client, books: BooksReader, account: Account, streamed: bool
) -> None:
    response = respond(client, instructions="be brief", max_output_tokens=30, stream=streamed)
    assert response["status"] in ("completed", "incomplete")
    assert response["model"] == "tiny"
    usage = response["usage"]
    assert 0 < usage["output_tokens"] <= 30
    [event] = books.wait_for_events(account, 1)
    assert event["endpoint"] == "responses"
    assert event["prompt_tokens"] == usage["input_tokens"]
    assert event["completion_tokens"] == usage["output_tokens"]
    assert event["charged_tokens"] == usage["total_tokens"]


@pytest.mark.parametrize("seed", range(5))
def test_both_forms_of_an_answer_agree(client: Client, seed: int) -> None:
    fields = {"seed": seed, "temperature": 2.0, "max_output_tokens": 40}
    whole, streamed = respond(client, **fields), respond(client, **fields, stream=True)
    assert text_of(streamed) == text_of(whole)
    assert streamed["status"] == whole["status"]
    assert streamed["usage"]["total_tokens"] == whole["usage"]["total_tokens"]


def test_the_count_beforehand_is_the_count_afterwards(client: Client) -> None:
    history = [
        {"role": "user", "content": [{"type": "input_text", "text": "hello"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "world"}]},
        {"role": "user", "content": "and now?"},
    ]
    fields = {"input": history, "instructions": "be brief"}
    counted = client.call("POST", "/v1/responses/input_tokens", fields).json["input_tokens"]
    assert respond(client, **fields, max_output_tokens=2)["usage"]["input_tokens"] == counted


@STREAMED
def test_logprobs(client: Client, streamed: bool) -> None:
    response = respond(client, top_logprobs=2, max_output_tokens=5, seed=1, stream=streamed)
    entries = response["output"][0]["content"][0]["logprobs"]
    assert entries
    assert all(len(entry["top_logprobs"]) == 2 for entry in entries)


@STREAMED
def test_a_prompt_beyond_the_context(client: Client, streamed: bool) -> None:
    body = {"input": "hello world " * 5000, "stream": streamed}
    answer = client.call("POST", "/v1/responses", body)
    assert (answer.status, answer.error["param"]) == (400, "input")
    assert answer.error["code"] == "context_length_exceeded"


class Answer(pydantic.BaseModel):
    yes: bool


def test_the_official_sdk(gateway: Gateway, books: BooksReader, account: Account) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=account.key) as sdk:
        parsed = sdk.responses.parse(model="tiny", input="hello", text_format=Answer)
        assert isinstance(parsed.output_parsed, Answer)
        with sdk.responses.stream(model="tiny", input="hello", text_format=Answer) as stream:
            final = stream.get_final_response()
    assert json.loads(final.output_text).keys() == {"yes"}
    assert parsed.usage is not None and final.usage is not None
    events = books.wait_for_events(account, 2)
    totals = [parsed.usage.total_tokens, final.usage.total_tokens]
    assert [event["charged_tokens"] for event in events] == totals
