"""Requests while model servers are drained."""

from promptly.services import drains
from promptly.services.audit import Operator
from promptly.transactions import transaction
from tests.blueprints.v1.client import Client, sim
from tests.blueprints.v1.conftest import MakeGateway, MakeLlama
from tests.support.books import Account, BooksReader, wait_for

OPERATOR = Operator("cli:ada")


def drain(books: BooksReader, url: str) -> None:
    with books.app.app_context(), transaction():
        assert drains.drain(url, OPERATOR) is not None


def resume(books: BooksReader, url: str) -> None:
    with books.app.app_context(), transaction():
        assert drains.resume(url, OPERATOR) is not None


def test_requests_go_elsewhere_or_are_refused(
    make_gateway: MakeGateway,
    make_llama: MakeLlama,
    books: BooksReader,
    account: Account,
) -> None:
    first, second = (make_llama(embeddings=True) for _ in range(2))
    gateway = make_gateway(first.url, second.url, workers=2)
    client = Client(gateway.url, account.key)

    def ask() -> list[int]:
        texts = {"input": "hello"}
        answers = [
            client.chat(),
            client.stream(),
            client.call("POST", "/v1/embeddings", texts),
            client.call("POST", "/v1/responses/input_tokens", texts),
        ]
        return [answer.status for answer in answers]

    assert ask() == [200] * 4
    running = client.open(messages=sim("tokens=3000 delay_ms=20 tag=running")).read_until(b"data:")
    serving = first if first.requests("running") else second
    other = second if serving is first else first
    drain(books, serving.url)

    def leaves_alone() -> bool:
        before = len(serving.requests())
        assert [ask() for _ in range(2)] == [[200] * 4] * 2
        return len(serving.requests()) == before

    # The request that runs goes on.
    wait_for(leaves_alone, "nothing goes to the drained server")
    assert serving.totals()["processing"] == 1
    with running:
        running.read_bytes(len(running.received) + 100)

    drain(books, other.url)
    # Each process takes some of them.
    wait_for(lambda: [ask() for _ in range(3)] == [[503] * 4] * 3, "all are refused")
    refused = client.chat()
    assert refused.error["code"] == "upstream_unavailable"
    assert "maintenance" in refused.error["message"]
    assert client.get("/v1/models").json["data"] == []
    ready = client.call("GET", "/health/ready")
    assert ready.status == 503 and "upstream: drained" in ready.body.decode()
    resume(books, serving.url)
    wait_for(lambda: [ask() for _ in range(3)] == [[200] * 4] * 3, "it serves again")
    resume(books, other.url)
