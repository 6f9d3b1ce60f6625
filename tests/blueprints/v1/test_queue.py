"""The queue as clients see it: comments in waiting streams, and GET /v1/queue."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from anthropic import Anthropic
from openai import OpenAI

from promptly.services.accounts import keys
from promptly.transactions import transaction
from tests.blueprints.v1.client import CHAT, Client, OpenStream, sim
from tests.blueprints.v1.conftest import MakeGateway, MakeLlama
from tests.support.books import Account, BooksReader, wait_for

LONG = sim("tokens=9999 delay_ms=5")
REQUEST_ID = re.compile(rb"x-promptly-request-id: (\w+)", re.IGNORECASE)


def request_id(stream: OpenStream) -> str:
    found = REQUEST_ID.search(stream.received)
    assert found is not None
    return found[1].decode()


def ask_openai(url: str, key: str) -> str:
    """Stream a chat with OpenAI's SDK, which skips comments."""
    sdk = OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=30)
    asked: Any = sim("tokens=3")
    with sdk, sdk.chat.completions.stream(model="any", messages=asked) as stream:
        return stream.get_final_completion().choices[0].message.content or ""


def ask_anthropic(url: str, key: str) -> str:
    sdk = Anthropic(base_url=url, api_key=key, max_retries=0, timeout=30)
    asked: Any = sim("tokens=3")
    with sdk, sdk.messages.stream(model="any", max_tokens=9, messages=asked) as stream:
        return stream.get_final_text()


SDKS = (ask_openai, ask_anthropic)


def all_have_waited(client: Client, seconds: int) -> bool:
    found = client.get("/v1/queue").json["data"]
    return all(item["waiting_seconds"] >= seconds for item in found)


def test_a_key_sees_its_waiting_requests(
    make_gateway: MakeGateway, make_llama: MakeLlama, books: BooksReader, account: Account
) -> None:
    llama = make_llama(slots=1)
    gateway = make_gateway(llama.url, workers=2, KEEPALIVE_COMMENT_SECONDS=1)
    client, other = Client(gateway.url, account.key), Client(gateway.url, books.account().key)
    assert client.get("/v1/queue").json == {"object": "list", "data": []}
    # A first request, so that the time of one is known.
    assert client.chat(messages=sim("tokens=60 delay_ms=20 prefill_ms=300")).status == 200
    with client.open(messages=LONG) as running:
        running.read_until(b"content")
        with (
            client.open("/v1/messages", messages=sim("tokens=3"), model="m", max_tokens=9) as next_,
            client.open(messages=sim("tokens=3")) as last,
        ):
            for stream in (next_, last):
                stream.read_until(b": queue position=")
            places = r": queue position=([12]) wait=\d+s\n\n"
            assert re.search(places.encode(), next_.received + last.received)
            wait_for(lambda: len(client.get("/v1/queue").json["data"]) == 2, "both requests")
            first, second = client.get("/v1/queue").json["data"]
            assert (first["position"], second["position"]) == (1, 2)
            assert {first["request_id"], second["request_id"]} == {
                request_id(next_), request_id(last),
            }  # fmt: skip
            assert {first["endpoint"], second["endpoint"]} == {"messages", "chat.completions"}
            assert {first["model"], second["model"]} == {"sim-model"}
            assert 1 <= first["estimated_wait_seconds"] <= second["estimated_wait_seconds"]
            assert first["object"] == "queued_request"
            wait_for(
                lambda: client.get("/v1/queue").json["data"][0]["waiting_seconds"] >= 1,
                "a second of waiting",
            )
            assert other.get("/v1/queue").json["data"] == []
            with ThreadPoolExecutor(2) as threads:
                texts = [threads.submit(ask, gateway.url, account.key) for ask in SDKS]
                wait_for(lambda: len(client.get("/v1/queue").json["data"]) == 4, "the SDKs' two")
                wait_for(lambda: all_have_waited(client, 2), "a comment in each stream")
                running.close()
                assert all(text.result(30) for text in texts)
            for stream, end in ((next_, b"message_stop"), (last, b"[DONE]")):
                stream.read_until(end)
        assert client.get("/v1/queue").json["data"] == []
    refused = Client(gateway.url, "sk-wrong").get("/v1/queue")
    assert (refused.status, refused.error["code"]) == (401, "invalid_api_key")
    assert client.call("POST", "/v1/queue", {}).status == 405


@pytest.mark.parametrize("pays", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
def test_requests_with_a_batch_key_yield(
    make_gateway: MakeGateway, make_llama: MakeLlama, books: BooksReader, pays: bool
) -> None:
    llama = make_llama(slots=1)
    gateway = make_gateway(llama.url, KEEPALIVE_COMMENT_SECONDS=1)
    owner = books.account() if pays else books.account(paid_tokens=0, trial_tokens=100_000)
    other = books.account(paid_tokens=0, trial_tokens=100_000)
    with books.app.app_context(), transaction():
        assert keys.set_batch(owner.user_id, owner.key_id, True) is False
    batch, trial = Client(gateway.url, owner.key), Client(gateway.url, other.key)
    with trial.open(messages=LONG) as running:
        running.read_until(b"content")
        with batch.open(messages=sim("tokens=3 tag=batch")) as yields:
            yields.read_until(b": queue position=1")
            with trial.open(messages=sim("tokens=3 tag=trial")) as goes_before:
                yields.read_until(b": queue position=2")
                running.close()
                goes_before.read_until(b"[DONE]")
                yields.read_until(b"[DONE]")
    assert llama.request("trial")["slot_at"] < llama.request("batch")["slot_at"]
    # Where nobody else waits, it gets a slot at once.
    assert batch.call("POST", CHAT, {"messages": sim("tokens=3")}).status == 200
