"""Embeddings: charged by upstream's own counts; a 404 if no server supports them."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types import CreateEmbeddingResponse

from sandbox.llama import SimulatedLlama
from sandbox.llama.embeddings import SIZE
from tests.blueprints.v1.client import Answer, Client
from tests.blueprints.v1.conftest import MakeGateway, MakeLlama
from tests.support.books import Account, BooksReader, wait_for
from tests.support.servers import Gateway, WorkerRedis
from tests.support.stack import Stack

EMBEDDINGS = "/v1/embeddings"
# One more than two full batches.
MANY = [f"text {'x' * number}" for number in range(65)]


def embed(client: Client, texts: str | list[str], **fields: Any) -> Answer:
    return client.call("POST", EMBEDDINGS, {"input": texts, **fields})


@pytest.fixture(scope="module")
def stack(
    v1_database: str, redis_server: WorkerRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("embeddings")
    with Stack(folder, database_url=v1_database, redis_url=redis_server.url) as stack:
        yield stack


@pytest.fixture(scope="module")
def running_embedder(stack: Stack) -> SimulatedLlama:
    return stack.simulated_llama(alias="embedder", embeddings=True, batch=64)


@pytest.fixture(scope="module")
def running_gateway(
    stack: Stack, running_llama: SimulatedLlama, running_embedder: SimulatedLlama
) -> Gateway:
    """A gateway in front of one generating and one embedding server."""
    return stack.gateway(
        running_llama.url,
        LLAMA_EMBEDDINGS_BASE_URL=running_embedder.url,
        EMBEDDINGS_TIMEOUT_SECONDS=2,
    )


@pytest.fixture
def embedder(running_embedder: SimulatedLlama) -> SimulatedLlama:
    running_embedder.clear()
    return running_embedder


@pytest.fixture
def gateway(running_gateway: Gateway, llama: SimulatedLlama, embedder: SimulatedLlama) -> Gateway:
    return running_gateway


def tokens(*records: dict[str, Any]) -> int:
    return sum(record["prompt_tokens"] for record in records)


def expected(text: str) -> list[float]:
    """Return the simulator's vector of a text."""
    return [((len(text) * 31 + place) % 100) / 100.0 for place in range(SIZE)]


def test_one_text(
    client: Client, embedder: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    answer = embed(client, "hello world")
    assert answer.status == 200
    [record] = embedder.requests()
    cost = tokens(record)
    assert answer.json == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": expected("hello world")}],
        "model": "embedder",
        "usage": {"prompt_tokens": cost, "total_tokens": cost},
    }
    CreateEmbeddingResponse.model_validate(answer.json, strict=True)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-promptly-charged-tokens"] == str(cost)
    assert answer.headers["x-promptly-balance-tokens"] == str(1_000_000 - cost)
    [event] = books.wait_for_events(account, 1)
    assert (event["endpoint"], event["outcome"], event["model"]) == (
        "embeddings",
        "completed",
        "embedder",
    )
    assert (event["prompt_tokens"], event["completion_tokens"]) == (cost, 0)
    assert event["charged_tokens"] == cost
    receipt = client.get(f"/v1/usage?request_id={answer.headers['x-promptly-request-id']}").json
    assert receipt["charged_tokens"] == cost


def test_many_texts_keep_their_order_and_are_one_charge(
    client: Client, embedder: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    answer = embed(client, MANY)
    records = embedder.requests()
    assert [len(record["body"]["input"]) for record in records] == [32, 32, 1]
    assert [item["index"] for item in answer.json["data"]] == list(range(65))
    assert [item["embedding"] for item in answer.json["data"]] == [expected(x) for x in MANY]
    assert answer.json["usage"]["prompt_tokens"] == tokens(*records)
    [event] = books.wait_for_events(account, 1)
    assert event["charged_tokens"] == tokens(*records)


def test_the_official_sdk(gateway: Gateway, books: BooksReader, account: Account) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=account.key) as sdk:
        # Without `encoding_format` the SDK requests base64 and decodes it.
        packed = sdk.embeddings.create(model="any", input=MANY[:3])
        plain = sdk.embeddings.create(model="any", input=MANY[:3], encoding_format="float")
        with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length") as refusal:
            sdk.embeddings.create(model="any", input=[[1, 2]])
        assert refusal.value.param == "input"
    for answer in (packed, plain):
        assert answer.model_extra == {}
        assert answer.usage.prompt_tokens == packed.usage.prompt_tokens
    for one, other, text in zip(packed.data, plain.data, MANY, strict=False):
        assert one.model_extra == other.model_extra == {}
        assert other.embedding == expected(text)
        assert one.embedding == pytest.approx(other.embedding)
    for event in books.wait_for_events(account, 2):
        assert event["charged_tokens"] == packed.usage.total_tokens


def test_the_last_token_of_the_balance_can_be_spent(
    gateway: Gateway, embedder: SimulatedLlama, books: BooksReader
) -> None:
    needed = embed(Client(gateway.url, books.account().key), MANY).json["usage"]["total_tokens"]
    embedder.clear()
    poor = books.account(paid_tokens=needed - 1)
    answer = embed(Client(gateway.url, poor.key), MANY)
    assert (answer.status, answer.error["code"]) == (402, "insufficient_quota")
    assert embedder.requests() == []
    just = books.account(paid_tokens=needed)
    answer = embed(Client(gateway.url, just.key), MANY)
    assert answer.status == 200
    assert answer.headers["x-promptly-balance-tokens"] == "0"
    [event] = books.wait_for_events(just, 1)
    assert (event["charged_tokens"], event["uncharged_tokens"]) == (needed, 0)


@pytest.mark.parametrize("texts", [["word " * 80], [*MANY, "word " * 80]], ids=["one", "the last"])
def test_a_text_that_is_too_long(
    client: Client, books: BooksReader, account: Account, texts: list[str]
) -> None:
    answer = embed(client, texts)
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    assert answer.error["param"] == "input"
    assert "101 tokens > 64 maximum" in answer.error["message"]
    [event] = books.wait_for_events(account, 1)
    assert (event["outcome"], event["charged_tokens"]) == ("rejected", 0)
    assert books.balance(account)["available_tokens"] == 1_000_000


def test_a_client_that_disconnects_pays_for_finished_work(
    client: Client, embedder: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    texts = [*MANY[:63], "[[sim headers_ms=20000 tag=second]]", "third"]
    data = json.dumps({"input": texts}).encode()
    head = (
        f"POST {EMBEDDINGS} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {client.key}\r\n"
    )
    with client.raw(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data):
        wait_for(lambda: bool(embedder.requests("second")), "the second batch")
    assert embedder.wait_for_end("second", 3.0)["outcome"] == "client_closed"
    [event] = books.wait_for_events(account, 1)
    assert event["outcome"] == "client_disconnected"
    first, _ = embedder.requests()
    assert event["charged_tokens"] == event["prompt_tokens"] == tokens(first)
    wait_for(lambda: embedder.totals()["processing"] == 0, "the slot", 2.0)


def test_a_batch_has_its_time_limit(
    client: Client, embedder: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    answer = embed(client, [*MANY[:40], "[[sim headers_ms=20000 tag=late]]"])
    assert (answer.status, answer.error["code"]) == (504, "timeout")
    assert "2 s" in answer.error["message"]
    assert embedder.wait_for_end("late", 3.0)["outcome"] == "client_closed"
    [event] = books.wait_for_events(account, 1)
    assert (event["outcome"], event["charged_tokens"]) == ("timeout", 0)


@pytest.mark.parametrize("status", [500, 503])
def test_an_upstream_that_fails(
    client: Client, embedder: SimulatedLlama, books: BooksReader, account: Account, status: int
) -> None:
    answer = embed(client, [*MANY, f"[[sim status={status}]]"])
    assert answer.status in (502, 503)
    assert b"simulated" not in answer.body
    [event] = books.wait_for_events(account, 1)
    assert (event["outcome"], event["charged_tokens"]) == ("upstream_error", 0)
    wait_for(lambda: embed(client, "hello").status == 200, "the server again")


def test_each_server_gets_what_it_is_for(
    client: Client, llama: SimulatedLlama, embedder: SimulatedLlama
) -> None:
    for _ in range(6):
        assert client.chat().status == 200
        assert client.call("POST", "/v1/completions", {"prompt": "hello"}).status == 200
        assert embed(client, "hello").status == 200
    assert {record["path"] for record in embedder.requests()} == {EMBEDDINGS}
    assert len(llama.requests()) == 12
    assert {model["id"] for model in client.get("/v1/models").json["data"]} == {
        "sim-model",
        "embedder",
    }


def test_without_a_server_that_embeds(
    make_gateway: MakeGateway, make_llama: MakeLlama, books: BooksReader, account: Account
) -> None:
    llama = make_llama()
    client = Client(make_gateway(llama.url).url, account.key)
    for _ in range(3):
        answer = embed(client, "hello")
        assert (answer.status, answer.error["code"]) == (404, "unsupported_endpoint")
    # Upstream was asked only once.
    assert len(llama.requests()) == 1
    assert client.chat().status == 200
    assert books.balance(account)["reserved_tokens"] == 0
    refused, chat = books.wait_for_events(account, 2)
    assert (refused["outcome"], refused["charged_tokens"]) == ("rejected", 0)
    assert chat["outcome"] == "completed"


def test_a_server_that_embeds_among_others_is_found(
    make_gateway: MakeGateway, make_llama: MakeLlama, account: Account
) -> None:
    servers = [make_llama(slots=4), make_llama(slots=4), make_llama(slots=1, embeddings=True)]
    client = Client(make_gateway(*(server.url for server in servers)).url, account.key)
    for _ in range(4):
        assert embed(client, "hello").status == 200
    assert [len(server.requests()) for server in servers] == [1, 1, 4]
    servers[2].kill()
    answer = embed(client, "hello")
    # The embedding server may come back, hence 503 and not 404.
    assert (answer.status, answer.error["code"]) == (503, "upstream_unavailable")
    assert client.chat().status == 200


def test_another_server_takes_over(
    make_gateway: MakeGateway, make_llama: MakeLlama, books: BooksReader, account: Account
) -> None:
    first, second = make_llama(slots=4, embeddings=True), make_llama(slots=1, embeddings=True)
    client = Client(make_gateway(first.url, second.url).url, account.key)
    assert embed(client, "hello").status == 200
    first.kill()
    answer = embed(client, MANY)
    assert answer.status == 200
    assert answer.json["usage"]["prompt_tokens"] == tokens(*second.requests())
    assert [event["outcome"] for event in books.wait_for_events(account, 2)] == ["completed"] * 2


def test_a_connection_that_ends_just_as_it_is_reused(
    client: Client, embedder: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    """The only server is asked again, over a new connection, and nothing is charged twice."""
    embedder.set_faults(afterwards="drop", times=1)
    answer = embed(client, MANY)
    assert answer.status == 200
    assert answer.json["usage"]["prompt_tokens"] == tokens(*embedder.requests())
    assert len(embedder.requests()) == 3
    [event] = books.wait_for_events(account, 1)
    assert (event["outcome"], event["prompt_tokens"]) == (
        "completed",
        tokens(*embedder.requests()),
    )
