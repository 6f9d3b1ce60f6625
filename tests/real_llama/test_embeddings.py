"""Embeddings through a gateway in front of two real llama-servers, one of them for embeddings."""

import json
import math
from typing import Any

import openai
import pytest
from openai.types import CreateEmbeddingResponse

from promptly.gateway.dialects.embeddings.request import parse_embeddings
from sandbox.real_llama import RealLlama
from tests.blueprints.v1.client import Answer, Client
from tests.sandbox.llama.wire import call
from tests.support.books import Account, BooksReader, wait_for
from tests.support.servers import Gateway

pytestmark = pytest.mark.real_llama

EMBEDDINGS = "/v1/embeddings"
TEXTS = ["hello world", "the river", " a  b\n", "日本語🌍", "hello " * 300] * 15


def embed(client: Client, texts: str | list[str], **fields: Any) -> Answer:
    return client.call("POST", EMBEDDINGS, {"input": texts, **fields})


def counted(embedder: RealLlama, texts: list[str]) -> int:
    """Return the number of tokens in all texts, as the server counts them beforehand."""

    def ask(path: str, body: bytes) -> Any:
        headers = {"Authorization": f"Bearer {embedder.api_key}"}
        status, _, data = call(embedder.url, "POST", path, body, headers)
        assert status == 200
        return json.loads(data)

    return parse_embeddings(json.dumps({"input": texts}).encode()).count(ask)


def test_many_texts(
    client: Client, embedder: RealLlama, books: BooksReader, account: Account
) -> None:
    answer = embed(client, TEXTS)
    assert answer.status == 200
    CreateEmbeddingResponse.model_validate(answer.json, strict=True)
    assert set(answer.json) == {"object", "data", "model", "usage"}
    assert answer.json["model"] == "embedder"
    data = answer.json["data"]
    assert [item["index"] for item in data] == list(range(len(TEXTS)))
    # In input order: repetitions of a text have equal vectors, different texts different ones.
    vectors = [item["embedding"] for item in data]
    for place, vector in enumerate(vectors):
        assert math.dist(vector, vectors[place % 5]) < 1e-3
        assert math.dist(vector, vectors[(place + 1) % 5]) > 1e-2
    usage = answer.json["usage"]
    assert usage["prompt_tokens"] == usage["total_tokens"] == counted(embedder, TEXTS)
    [event] = books.wait_for_events(account, 1)
    assert event["charged_tokens"] == usage["total_tokens"]
    assert answer.headers["x-promptly-charged-tokens"] == str(usage["total_tokens"])


def test_the_last_token_of_the_balance(
    gateway: Gateway, embedder: RealLlama, books: BooksReader
) -> None:
    needed = counted(embedder, TEXTS)
    assert (
        embed(Client(gateway.url, books.account(paid_tokens=needed - 1).key), TEXTS).status == 402
    )
    just = books.account(paid_tokens=needed)
    assert embed(Client(gateway.url, just.key), TEXTS).status == 200
    assert books.balance(just)["available_tokens"] == 0


def test_the_official_sdk(gateway: Gateway, account: Account) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=account.key) as sdk:
        packed = sdk.embeddings.create(model="any", input=TEXTS[:2])
        plain = sdk.embeddings.create(model="any", input=TEXTS[:2], encoding_format="float")
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-5)
        assert one.model_extra == other.model_extra == {}


def test_a_text_beyond_the_batch(client: Client, books: BooksReader, account: Account) -> None:
    answer = embed(client, ["hello", "hello world " * 900])
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    assert answer.error["param"] == "input"
    assert "> 512 maximum" in answer.error["message"]
    assert books.balance(account)["available_tokens"] == 1_000_000


def test_a_client_that_disconnects_pays_for_finished_work(
    client: Client, books: BooksReader, account: Account
) -> None:
    data = json.dumps({"input": ["hello " * 300] * 2048}).encode()
    head = (
        f"POST {EMBEDDINGS} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {client.key}\r\n"
    )
    with client.raw(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data):
        wait_for(lambda: books.open_holds(account) == 1, "the hold")
    [event] = books.wait_for_events(account, 1)
    assert event["outcome"] == "client_disconnected"
    # Some of the batches, each of them whole.
    batches, rest = divmod(event["prompt_tokens"], 32 * 301)
    assert rest == 0
    assert batches < 64
    assert event["charged_tokens"] == event["prompt_tokens"]


def test_a_server_that_makes_no_vectors_of_texts(
    client: Client, llama: RealLlama, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Pin the real server's errors by which the gateway detects that a server has no embeddings."""
    status, _, data = call(
        llama.url,
        "POST",
        EMBEDDINGS,
        {"input": "hello"},
        {"Authorization": f"Bearer {llama.api_key}"},
    )
    assert (status, json.loads(data)["error"]["code"]) == (501, 501)
    server = RealLlama(
        tmp_path_factory.mktemp("none"), arguments=("--embeddings", "--pooling", "none")
    )
    server.start()
    try:
        status, _, data = call(server.url, "POST", EMBEDDINGS, {"input": "hello"})
    finally:
        server.stop()
    assert status == 400
    assert json.loads(data)["error"]["message"].startswith("Pooling type 'none'")
