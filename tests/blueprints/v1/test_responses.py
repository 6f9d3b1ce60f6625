"""/v1/responses on a running gateway: the answers, and the agreement of all counts."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import Answer, Client, OpenStream
from tests.blueprints.v1.conftest import MakeGateway, MakeLlama
from tests.gateway.dialects.responses.sdk import (
    check_response,
    check_sequence,
    parse,
    text_of,
    thoughts_of,
)
from tests.support.books import Account, BooksReader, wait_for
from tests.support.servers import Gateway

Json = dict[str, Any]

RESPONSES = "/v1/responses"
COUNT = "/v1/responses/input_tokens"
STREAMED = pytest.mark.parametrize("streamed", [True, False])


def sim(directives: str, text: str = "hello") -> str:
    """Return an input whose directives steer the simulator."""
    return f"{text} [[sim {directives}]]"


def respond(client: Client, directives: str = "tokens=12", **body: Any) -> Answer:
    return client.call("POST", RESPONSES, {"input": sim(directives), **body})


def final(answer: Answer) -> Json:
    """Return the final response of an answer, checked as a whole against the SDK's types."""
    assert answer.status == 200
    if answer.headers["content-type"] == "application/json":
        response: Json = answer.json
        check_response(response)
        return response
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert b"[DONE]" not in answer.body
    return check_sequence(parse(answer.body))


def open_stream(client: Client, directives: str, **body: Any) -> OpenStream:
    """Start a streamed response and leave it running."""
    data = json.dumps({"input": sim(directives), "stream": True, **body}).encode()
    head = f"POST {RESPONSES} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {client.key}\r\n"
    return client.raw(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)


def check_charge(event: Json, response: Json) -> None:
    """Check that the one charge equals the response's usage."""
    usage = response["usage"]
    assert event["endpoint"] == "responses"
    assert event["prompt_tokens"] == usage["input_tokens"]
    assert event["completion_tokens"] == usage["output_tokens"]
    assert event["charged_tokens"] == usage["total_tokens"]
    assert event["uncharged_tokens"] == 0


@pytest.fixture
def sdk(gateway: Gateway, account: Account) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=account.key, max_retries=0) as client:
        yield client


@STREAMED
def test_an_answer_its_charge_and_its_receipt(
    client: Client, llama: SimulatedLlama, books: BooksReader, account: Account, streamed: bool
) -> None:
    answer = respond(client, "tokens=20 cache=2 tag=one", stream=streamed)
    response = final(answer)
    record = llama.request("one")
    assert response["status"] == "completed"
    assert response["model"] == "sim-model"
    assert text_of(response)
    assert response["usage"] == {
        "input_tokens": record["prompt_tokens"],
        # The account had nothing cached itself.
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": record["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": record["prompt_tokens"] + record["completion_tokens"],
    }
    assert record["stream"] is True
    for private in (b"timings", b"predicted", b"prompt_progress"):
        assert private not in answer.body
    [event] = books.wait_for_events(account, 1)
    check_charge(event, response)
    # The response's id and its receipt's request id share their digits.
    digits = response["id"].removeprefix("resp_")
    assert answer.headers["x-promptly-request-id"] == f"req_{digits}"
    receipt = client.get(f"/v1/usage?request_id=req_{digits}").json
    assert receipt["endpoint"] == "responses"
    assert receipt["outcome"] == "completed"
    assert receipt["charged_tokens"] == response["usage"]["total_tokens"]
    assert books.balance(account)["available_tokens"] == receipt["balance_tokens"]
    if not streamed:
        assert answer.headers["x-promptly-charged-tokens"] == str(receipt["charged_tokens"])
        assert answer.headers["x-promptly-balance-tokens"] == str(receipt["balance_tokens"])


@pytest.mark.parametrize("directives", ["tokens=40", "tokens=40 think=7", "first=utf8 tokens=9"])
def test_both_forms_of_an_answer_agree(client: Client, directives: str) -> None:
    def said(answer: Answer) -> Json:
        response = final(answer)
        changing = ("id", "created_at", "completed_at")
        output = [{**item, "id": item["id"].split("_")[0]} for item in response["output"]]
        return {**response, **dict.fromkeys(changing), "output": output}

    directives += " cache=0"
    assert said(respond(client, directives)) == said(respond(client, directives, stream=True))


def test_the_body_sent_upstream(client: Client, llama: SimulatedLlama) -> None:
    history = [
        {"role": "developer", "content": "really"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "yo", "annotations": [], "logprobs": []}],
        },
        {"role": "user", "content": sim("tag=up tokens=3")},
    ]
    answer = client.call(
        "POST",
        RESPONSES,
        {
            "input": history,
            "instructions": "be brief",
            "max_output_tokens": 50,
            "temperature": 0.5,
            "reasoning": {"effort": "low", "summary": "auto"},
            "text": {"verbosity": "low"},
            "metadata": {"a": "b"},
            "store": True,
            "user": "ann",
        },
    )
    response = final(answer)
    assert answer.headers["x-promptly-ignored"] == (
        "store, user, text.verbosity, reasoning.summary"
    )
    assert response["metadata"] == {"a": "b"}
    assert response["instructions"] == "be brief"
    sent = llama.request("up")["body"]
    assert sent["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "developer", "content": "really"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yo"},
        {"role": "user", "content": sim("tag=up tokens=3")},
    ]
    assert set(sent) == {
        "messages",
        "temperature",
        "reasoning_effort",
        "max_tokens",
        "id_slot",
        "cache_prompt",
        "stream",
        "stream_options",
        "timings_per_token",
        "return_progress",
    }


def test_a_refused_request_costs_nothing(
    client: Client, llama: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    answer = respond(client, previous_response_id="resp_1", stream=True)
    assert (answer.status, answer.error["code"]) == (400, "unsupported_parameter")
    assert answer.error["param"] == "previous_response_id"
    answer = respond(client, top_k=5)
    assert (answer.status, answer.error["code"]) == (400, "unknown_parameter")
    assert (llama.requests(), books.events(account)) == ([], [])


@STREAMED
def test_a_prompt_beyond_the_context(client: Client, streamed: bool) -> None:
    answer = client.call("POST", RESPONSES, {"input": "word " * 50_000, "stream": streamed})
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    assert answer.error["param"] == "input"


@STREAMED
def test_refusals_of_upstream_are_in_terms_of_the_input(client: Client, streamed: bool) -> None:
    answer = respond(client, "status=400", stream=streamed)
    assert (answer.status, answer.error["param"]) == (400, "input")
    assert "messages" not in answer.error["message"]


@STREAMED
def test_thoughts(client: Client, streamed: bool) -> None:
    response = final(respond(client, "think=5 tokens=20", stream=streamed))
    assert [item["type"] for item in response["output"]] == ["reasoning", "message"]
    assert thoughts_of(response) and text_of(response)
    assert response["usage"]["output_tokens_details"]["reasoning_tokens"] == 5


@STREAMED
def test_a_limit_within_the_thoughts(client: Client, streamed: bool) -> None:
    response = final(respond(client, "think=50", stream=streamed, max_output_tokens=4))
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["type"] for item in response["output"]] == ["reasoning"]
    assert response["usage"]["output_tokens"] == 4


@STREAMED
def test_an_end_at_once(client: Client, streamed: bool) -> None:
    response = final(respond(client, "tokens=1", stream=streamed))
    assert (response["status"], text_of(response)) == ("completed", "")
    assert response["usage"]["output_tokens"] == 1


@STREAMED
def test_logprobs(client: Client, streamed: bool) -> None:
    response = final(respond(client, "tokens=6", stream=streamed, top_logprobs=2))
    entries = response["output"][0]["content"][0]["logprobs"]
    assert "".join(entry["token"] for entry in entries) == text_of(response)
    assert {len(entry["top_logprobs"]) for entry in entries} == {2}


@pytest.mark.parametrize("fault", ["error_after=5", "eof_after=5", "reset_after=5"])
def test_a_failure_in_mid_stream(
    client: Client, books: BooksReader, account: Account, fault: str
) -> None:
    response = final(respond(client, f"tokens=50 delay_ms=20 {fault}", stream=True))
    assert response["status"] == "failed"
    assert response["error"]["code"] == "server_error"
    assert text_of(response)
    [event] = books.wait_for_events(account, 1)
    assert event["outcome"] == "upstream_error"
    check_charge(event, response)


@STREAMED
@pytest.mark.parametrize("fault", ["error_after=0", "eof_after=0", "status=500"])
def test_a_failure_before_the_first_byte_has_its_status(
    client: Client, fault: str, streamed: bool
) -> None:
    answer = respond(client, f"tokens=50 {fault}", stream=streamed)
    assert answer.status in (502, 503)
    assert answer.error["type"] == "server_error"


def test_a_failure_after_a_comment_is_a_failed_response(
    client: Client, books: BooksReader, account: Account
) -> None:
    answer = respond(client, "prefill_ms=1500 progress=2 eof_after=0", stream=True)
    assert answer.body.startswith(b": keep-alive\n\n")
    response = final(answer)
    assert (response["status"], response["output"]) == ("failed", [])
    assert response["model"] == "sim-model"
    [event] = books.wait_for_events(account, 1)
    assert event["charged_tokens"] == 0


def test_a_time_limit_while_much_is_on_its_way(
    make_gateway: MakeGateway, make_llama: MakeLlama, books: BooksReader, account: Account
) -> None:
    # Upstream sends endlessly at full speed, so that the stop finds unread chunks. The hold covers
    # everything: a request waiting for its hold to grow would not read.
    llama = make_llama(ctx=500_000)
    gateway = make_gateway(llama.url, REQUEST_TIMEOUT_SECONDS=2, HOLD_QUANTUM_TOKENS=500_000)
    directives = "tokens=400000 prefill_ms=1300"
    response = final(respond(Client(gateway.url, account.key), directives, stream=True))
    assert response["status"] == "failed"
    [event] = books.wait_for_events(account, 1)
    assert event["outcome"] == "timeout"
    check_charge(event, response)


def test_a_client_that_vanishes_is_charged(
    client: Client, llama: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    with open_stream(client, "tokens=5000 delay_ms=5 tag=gone") as stream:
        stream.read_until(b"output_text.delta").read_bytes(len(stream.received) + 4000)
    record = llama.wait_for_end("gone", 2.0)
    [event] = books.wait_for_events(account, 1)
    assert (event["outcome"], event["endpoint"]) == ("client_disconnected", "responses")
    assert event["completion_tokens"] == record["completion_tokens"] > 0
    assert event["charged_tokens"] == record["prompt_tokens"] + record["completion_tokens"]
    wait_for(lambda: llama.totals()["processing"] == 0, "the slot", 2.0)


@STREAMED
@pytest.mark.parametrize("growing", [True, False])
def test_a_balance_that_ends_makes_the_answer_incomplete(
    gateway: Gateway,
    growing_gateway: Gateway,
    llama: SimulatedLlama,
    books: BooksReader,
    streamed: bool,
    growing: bool,
) -> None:
    url = growing_gateway.url if growing else gateway.url
    rich = Client(url, books.account().key)
    prompt = final(respond(rich, "tokens=500", max_output_tokens=1))["usage"]["input_tokens"]
    account = books.account(paid_tokens=prompt + 90)
    response = final(respond(Client(url, account.key), "tokens=500", stream=streamed))
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["usage"]["output_tokens"] == 90
    [event] = books.wait_for_events(account, 1)
    check_charge(event, response)
    assert books.balance(account)["available_tokens"] == 0
    assert respond(Client(url, account.key)).status == 402


def test_counting_the_input(
    make_gateway: MakeGateway, llama: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    client = Client(make_gateway(llama.url, INFERENCE_USER_RATE_LIMIT=3).url, account.key)
    body = {"input": sim("tokens=3"), "instructions": "be brief"}
    counted = client.call("POST", COUNT, body)
    assert set(counted.json) == {"object", "input_tokens"}
    assert counted.json["object"] == "response.input_tokens"
    assert counted.headers["x-ratelimit-remaining-requests"] == "2"
    refused = client.call("POST", COUNT, {**body, "tools": [{"type": "web_search"}]})
    assert (refused.status, refused.error["param"]) == (400, "tools")
    assert (books.events(account), books.open_holds(account)) == ([], 0)
    response = final(client.call("POST", RESPONSES, body))
    assert response["usage"]["input_tokens"] == counted.json["input_tokens"]
    assert client.call("POST", COUNT, body).status == 429
    [event] = books.wait_for_events(account, 1)
    check_charge(event, response)


class Person(pydantic.BaseModel):
    name: str
    age: int


def test_the_sdk(sdk: openai.OpenAI, books: BooksReader, account: Account) -> None:
    answer = sdk.responses.create(model="any", input=sim("tokens=12 think=3"))
    assert answer.status == "completed"
    assert answer.output_text
    assert answer.usage is not None
    # The output is sent back unchanged.
    turns: Any = [*answer.output, {"role": "user", "content": sim("tokens=3")}]
    again = sdk.responses.create(model="any", input=turns)
    assert again.status == "completed"
    counted = sdk.responses.input_tokens.count(model="any", input=turns)
    assert again.usage is not None
    assert counted.input_tokens == again.usage.input_tokens
    events = books.wait_for_events(account, 2)
    totals = [answer.usage.total_tokens, again.usage.total_tokens]
    assert [event["charged_tokens"] for event in events] == totals


def test_the_sdks_stream(sdk: openai.OpenAI) -> None:
    events = list(sdk.responses.create(model="any", input=sim("tokens=12"), stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == text != ""


def test_the_sdks_stream_helper(sdk: openai.OpenAI) -> None:
    with sdk.responses.stream(model="any", input=sim("tokens=12 think=3")) as stream:
        snapshots = [e.snapshot for e in stream if e.type == "response.output_text.delta"]
        response = stream.get_final_response()
    assert response.output_text == snapshots[-1]
    assert [item.type for item in response.output] == ["reasoning", "message"]


def test_the_sdks_async_client(gateway: Gateway, account: Account) -> None:
    async def ask() -> list[str]:
        url = f"{gateway.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=account.key) as sdk:
            async with sdk.responses.stream(model="any", input=sim("tokens=5")) as stream:
                kinds = [event.type async for event in stream]
            answer = await sdk.responses.create(model="any", input=sim("tokens=5"))
            return [*kinds, answer.output_text]

    *kinds, text = asyncio.run(ask())
    assert kinds[-1] == "response.completed"
    assert text


def test_the_sdks_structured_output(sdk: openai.OpenAI) -> None:
    parsed = sdk.responses.parse(model="any", input="who?", text_format=Person)
    assert isinstance(parsed.output_parsed, Person)
    with sdk.responses.stream(model="any", input="who?", text_format=Person) as stream:
        assert stream.get_final_response().output_parsed == parsed.output_parsed


def test_the_sdks_errors(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        sdk.responses.create(model="any", input="hello", background=True)
    assert (refusal.value.param, refusal.value.code) == ("background", "unsupported_parameter")
    directives = "tokens=50 delay_ms=5 error_after=5"
    with sdk.responses.stream(model="any", input=sim(directives)) as stream:
        *_, last = stream
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.code == "server_error"
    with pytest.raises(openai.InternalServerError) as failure:
        sdk.responses.create(model="any", input=sim(directives))
    assert failure.value.code == "upstream_error"
