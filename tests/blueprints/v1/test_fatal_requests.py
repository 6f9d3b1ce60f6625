"""A request that ends its model server is tried on one more, then refused by all workers."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import Answer, Client, Json, sim
from tests.blueprints.v1.conftest import MakeGateway, MakeLlama
from tests.support.books import Account, BooksReader, wait_for
from tests.support.servers import Gateway

COUNT = "/v1/chat/completions/input_tokens"


def alive(llamas: list[SimulatedLlama]) -> int:
    return sum(llama.is_running for llama in llamas)


@pytest.mark.parametrize("streamed", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_a_chat_that_ends_its_servers(
    make_gateway: MakeGateway,
    make_llama: MakeLlama,
    books: BooksReader,
    account: Account,
    streamed: bool,
) -> None:
    llamas = [make_llama(slots=2) for _ in range(3)]
    gateway = make_gateway(*(llama.url for llama in llamas), workers=2)
    client, neighbour = Client(gateway.url, account.key), Client(gateway.url, books.account().key)
    with ExitStack() as stack:
        # One stream on each server, since each request goes where most slots are free.
        streams = [
            stack.enter_context(neighbour.open(messages=sim(f"tokens=100 delay_ms=20 tag=n{n}")))
            for n in range(3)
        ]
        wait_for(lambda: all(llama.totals()["processing"] for llama in llamas), "three streams")
        fatal = sim("die", text="fatal")
        # The first answer names the cause; later ones come from both workers without a try.
        for _ in range(6):
            answer = client.chat(messages=fatal, stream=streamed)
            assert (answer.status, answer.error["code"]) == (400, "request_rejected")
            assert alive(llamas) == 1
        # The neighbour's stream on the third server runs to its end.
        [survivor] = [number for number, llama in enumerate(llamas) if llama.is_running]
        running = int(llamas[survivor].requests()[0]["tag"][1:])
        streams[running].read_until(b"data: [DONE]")
        assert neighbour.chat(messages=sim("tokens=3")).status == 200
        assert client.chat(messages=sim("tokens=3")).status == 200
    charged = [event["charged_tokens"] for event in books.wait_for_events(account, 7)]
    assert sorted(charged)[:6] == [0] * 6


@pytest.mark.parametrize("workers", [2, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_copies_that_are_sent_while_one_is_tried_again(
    make_gateway: MakeGateway, make_llama: MakeLlama, books: BooksReader, workers: int
) -> None:
    llamas = [make_llama(slots=2) for _ in range(4)]
    gateway = make_gateway(*(llama.url for llama in llamas), workers=workers)
    # Each server takes its time to die of it.
    send = partial(chat_at_once, gateway, books, sim("die headers_ms=2000", text="fatal"))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, 1)
        wait_for(lambda: '"model server died"' in gateway.log_text(), "the first death")
        copies = send(6)
        [answer] = first.result(60)
    assert (answer.status, answer.error["code"]) == (400, "request_rejected")
    # Some may come so late that the body is refused already.
    assert {(copy.status, copy.error["code"]) for copy in copies} <= {
        (503, "upstream_unavailable"),
        (400, "request_rejected"),
    }
    assert all("retry-after" in copy.headers for copy in copies if copy.status == 503)
    assert alive(llamas) == 2


def test_copies_of_an_innocent_body_run_again(
    make_gateway: MakeGateway, make_llama: MakeLlama, books: BooksReader
) -> None:
    llama = make_llama(slots=4)
    gateway = make_gateway(llama.url, workers=2)
    innocent = sim("tokens=3 headers_ms=1000", text="innocent")
    with ThreadPoolExecutor(1) as pool:
        copies = pool.submit(chat_at_once, gateway, books, innocent, 4)
        wait_for(lambda: llama.totals()["processing"] == 4, "four copies")
        llama.stop()
        assert {copy.status for copy in copies.result(60)} <= {502, 503}
    llama.start()
    client = Client(gateway.url, books.account().key)

    def is_answered() -> bool:
        return client.chat(messages=innocent).status == 200

    # One death, although four copies met it.
    wait_for(is_answered, "an answer to one of them")
    answers = chat_at_once(gateway, books, innocent, 4)
    assert [answer.status for answer in answers] == [200] * 4


def chat_at_once(
    gateway: Gateway, books: BooksReader, messages: list[Json], count: int
) -> list[Answer]:
    """Send copies of one chat at the same moment, each from an account of its own."""
    clients = [Client(gateway.url, books.account().key) for _ in range(count)]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda client: client.chat(messages=messages), clients))


@pytest.mark.exhaustive
def test_a_chat_that_ends_its_servers_in_mid_stream(
    make_gateway: MakeGateway, make_llama: MakeLlama, books: BooksReader, account: Account
) -> None:
    llamas = [make_llama() for _ in range(3)]
    client = Client(make_gateway(*(llama.url for llama in llamas)).url, account.key)
    for left in (2, 1):
        answer = client.stream(messages=sim("tokens=50 delay_ms=5 die_after=9"))
        assert json.loads(answer.parts[-1].removeprefix("data: "))["error"]["code"] == (
            "upstream_error"
        )
        assert alive(llamas) == left
    answer = client.stream(messages=sim("tokens=50 delay_ms=5 die_after=9"))
    assert (answer.status, answer.error["code"]) == (400, "request_rejected")
    # The generated tokens are charged, the refusal costs nothing.
    charged = sorted(event["charged_tokens"] for event in books.wait_for_events(account, 3))
    assert charged[0] == 0 < charged[1]


def embed(client: Client) -> Answer:
    return client.call("POST", "/v1/embeddings", {"input": ["fatal"]})


def count(client: Client) -> Answer:
    return client.call("POST", COUNT, {"messages": sim(text="fatal")})


def respond(client: Client) -> Answer:
    return client.call("POST", "/v1/responses", {"input": "fatal"})


@pytest.mark.parametrize(
    ("ask", "route"),
    [
        (count, "count"),
        (respond, "generate"),
        pytest.param(embed, "generate", marks=pytest.mark.exhaustive),
    ],
)
def test_other_requests_that_end_their_servers(
    make_gateway: MakeGateway,
    make_llama: MakeLlama,
    account: Account,
    ask: Callable[[Client], Answer],
    route: str,
) -> None:
    llamas = [make_llama(embeddings=True) for _ in range(3)]
    client = Client(make_gateway(*(llama.url for llama in llamas)).url, account.key)
    for llama in llamas:
        llama.set_faults(die=1, on=route)
    for _ in range(3):
        answer = ask(client)
        assert (answer.status, answer.error["code"]) == (400, "request_rejected")
        assert alive(llamas) == 1


def test_one_misfortune_excludes_no_server(client: Client) -> None:
    for _ in range(3):
        # The server lives on, so the next request is served and the same one is not refused.
        assert client.chat(messages=sim("reset_after=0")).status == 502
        assert client.chat(messages=sim("tokens=3")).status == 200
