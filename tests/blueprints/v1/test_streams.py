"""Streams: comments while silent, errors after the first byte, failover."""

import json

import pytest

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import Client, sim
from tests.blueprints.v1.conftest import MakeGateway, MakeLlama
from tests.support.books import Account, BooksReader, wait_for


def test_comments_while_the_prompt_is_read(client: Client) -> None:
    answer = client.stream(messages=sim("prefill_ms=2500 progress=2 tokens=5"))
    assert answer.parts[:2] == [": keep-alive"] * 2
    assert answer.parts.count(": keep-alive") <= 3
    assert answer.events[0]["choices"][0]["delta"]["role"] == "assistant"


def test_comments_while_upstream_thinks_silently(client: Client) -> None:
    answer = client.stream(messages=sim("tokens=5 stall_after=3 stall_s=2.5"))
    assert answer.parts.count(": keep-alive") in (1, 2)
    assert answer.events[-1]["choices"][0]["finish_reason"] == "stop"


def test_comments_in_the_queue(
    make_gateway: MakeGateway, make_llama: MakeLlama, books: BooksReader, account: Account
) -> None:
    llama = make_llama(slots=1)
    client = Client(make_gateway(llama.url, KEEPALIVE_COMMENT_SECONDS=1).url, account.key)
    with client.open(messages=sim("tokens=9999 delay_ms=5")) as first:
        first.read_until(b"content")
        with client.open(messages=sim("tokens=3 tag=second")) as second:
            second.read_until(b": queue position=1\n\n")
            assert b"HTTP/1.1 200" in second.received
            assert b"data:" not in second.received
            assert llama.totals()["deferred"] == 0
            first.close()
            second.read_until(b"data: [DONE]")
    books.wait_for_events(account, 2)


def test_an_answer_without_stream_gets_no_comments(client: Client) -> None:
    answer = client.chat(messages=sim("prefill_ms=1500 tokens=5"))
    assert answer.json["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize("fault", ["error_after=5", "eof_after=5", "reset_after=5"])
def test_an_error_after_the_first_byte(
    client: Client, books: BooksReader, account: Account, llama: SimulatedLlama, fault: str
) -> None:
    answer = client.stream(messages=sim(f"tokens=50 delay_ms=20 {fault} tag={fault[:5]}"))
    assert answer.status == 200
    last = json.loads(answer.parts[-1].removeprefix("data: "))
    assert last["error"]["code"] == "upstream_error"
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert "[DONE]" not in answer.body.decode()
    [event] = books.wait_for_events(account, 1)
    assert event["outcome"] == "upstream_error"
    record = llama.request(fault[:5])
    # Tokens without visible text are not reported one by one.
    assert 2 <= event["completion_tokens"] == record["completion_tokens"] <= 5
    assert event["charged_tokens"] == record["prompt_tokens"] + record["completion_tokens"]


@pytest.mark.parametrize("fault", ["error_after=0", "eof_after=0", "reset_after=0", "status=500"])
@pytest.mark.parametrize("streamed", [True, False])
def test_an_error_before_the_first_token_costs_nothing(
    client: Client, books: BooksReader, account: Account, fault: str, streamed: bool
) -> None:
    answer = client.chat(messages=sim(f"tokens=50 {fault}"), stream=streamed)
    assert answer.status in (502, 503)
    assert answer.error["type"] == "server_error"
    [event] = books.wait_for_events(account, 1)
    assert (event["outcome"], event["charged_tokens"]) == ("upstream_error", 0)


def test_without_stream_an_error_in_mid_answer_has_its_status(
    client: Client, books: BooksReader, account: Account, llama: SimulatedLlama
) -> None:
    answer = client.chat(messages=sim("tokens=50 delay_ms=5 eof_after=9 tag=eof"))
    assert (answer.status, answer.error["code"]) == (502, "upstream_error")
    [event] = books.wait_for_events(account, 1)
    assert 6 <= event["completion_tokens"] == llama.request("eof")["completion_tokens"] <= 9


def test_failover_to_a_second_upstream(
    make_gateway: MakeGateway, make_llama: MakeLlama, books: BooksReader, account: Account
) -> None:
    first, second = make_llama(slots=4), make_llama(slots=2)
    client = Client(make_gateway(first.url, second.url).url, account.key)
    assert client.chat(messages=sim("tag=before")).status == 200
    first.kill()
    answers = [client.chat(messages=sim(f"tokens=4 tag=after{n}")) for n in range(4)]
    assert [answer.status for answer in answers] == [200] * 4
    assert all(second.requests(f"after{n}") for n in range(4))
    assert [event["outcome"] for event in books.wait_for_events(account, 5)] == ["completed"] * 5
    first.restart()
    wait_for(lambda: len(client.get("/v1/models").json["data"]) == 1, "the first again")


@pytest.mark.parametrize("refusal", ["status=503", "loading"])
def test_an_upstream_that_is_not_ready_is_passed_over(
    make_gateway: MakeGateway, make_llama: MakeLlama, account: Account, refusal: str
) -> None:
    first, second = make_llama(slots=4), make_llama(slots=1)
    client = Client(make_gateway(first.url, second.url).url, account.key)
    assert client.chat().status == 200
    first.set_faults(**({"loading": True} if refusal == "loading" else {"status": 503}))
    answer = client.chat(messages=sim("tag=second tokens=4"))
    assert answer.status == 200
    assert len(second.requests("second")) == 1


def test_no_upstream_at_all(
    make_gateway: MakeGateway, books: BooksReader, account: Account
) -> None:
    # No port that a model server of another test may have had: its model would be remembered.
    client = Client(make_gateway("http://127.0.0.1:1").url, account.key)
    for streamed in (True, False):
        answer = client.chat(stream=streamed)
        assert (answer.status, answer.error["code"]) == (503, "upstream_unavailable")
        assert int(answer.headers["retry-after"]) <= 60
    assert client.get("/v1/models").json["data"] == []
    assert books.balance(account)["available_tokens"] == 1_000_000


def test_a_full_queue(
    make_gateway: MakeGateway, make_llama: MakeLlama, books: BooksReader, account: Account
) -> None:
    llama = make_llama(slots=1)
    client = Client(make_gateway(llama.url, MAX_QUEUED_REQUESTS=0).url, account.key)
    with client.open(messages=sim("tokens=9999 delay_ms=5")) as first:
        first.read_until(b"content")
        answer = client.chat()
        assert (answer.status, answer.error["code"]) == (503, "queue_full")
        assert int(answer.headers["retry-after"]) <= 60
    books.wait_for_events(account, 2)
