"""Bodies that end the model servers behind the gateway, and counts that cannot be true."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest

from sandbox.llama import SimulatedLlama
from tests.abuse.arena import VARIABLES, Arena
from tests.abuse.sockets import at_once
from tests.blueprints.v1.client import Answer, Client, sim
from tests.plugins.stacks import MakeStack
from tests.support.books import wait_for

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]

PAID = 100_000
CROWD = 12

# Redis is shared: no body is sent again in another test.
numbers = itertools.count()


class Mortal(Arena):
    """An arena with several model servers."""

    llamas: list[SimulatedLlama]

    def alive(self) -> int:
        return sum(llama.is_running for llama in self.llamas)

    def deaths_noticed(self) -> int:
        return self.gateway.log_text().count('"model server died"')


@pytest.fixture
def make_mortal(make_stack: MakeStack) -> Iterator[Callable[[int], Mortal]]:
    """Factory of arenas in which each of two attacks may end so many servers."""
    with ExitStack() as stacks:

        def make(deaths: int) -> Mortal:
            stack = stacks.enter_context(make_stack("mortal", **VARIABLES))
            # The neighbour needs one that is left.
            llamas = [stack.simulated_llama(slots=8) for _ in range(2 * deaths + 2)]
            urls = [llama.url for llama in llamas]
            arena = Mortal(stack, llamas[0], stack.gateway(*urls, workers=2))
            arena.llamas = llamas
            return arena

        yield make


def test_a_body_that_ends_its_servers(make_mortal: Callable[[int], Mortal]) -> None:
    mortal = make_mortal(2)
    client = Client(mortal.gateway.url, mortal.trial_account().key)

    def attack() -> None:
        fatal = sim("die", text=f"fatal {next(numbers)}")
        before = mortal.alive()
        # The first ends two servers; the crowd with the same body reaches none.
        answers = [client.chat(messages=fatal)]
        wait_for(lambda: mortal.alive() == before - 2, "the end of two servers")
        answers += at_once(8, partial(client.chat, messages=fatal))
        assert {(each.status, each.error["code"]) for each in answers} == {
            (400, "request_rejected")
        }
        assert mortal.alive() == before - 2
        assert client.chat(messages=sim("tokens=3")).status == 200

    mortal.withstand(attack)


@pytest.mark.parametrize("first", [1, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_copies_of_a_body_that_ends_its_servers(
    make_mortal: Callable[[int], Mortal], first: int
) -> None:
    # As many servers as had a copy when the first death was noticed, and one more.
    mortal = make_mortal(first + 1)
    clients = [Client(mortal.gateway.url, mortal.trial_account().key) for _ in range(first + CROWD)]

    def attack() -> None:
        # Each server takes a second to die of it.
        fatal = sim("die headers_ms=1000", text=f"fatal {next(numbers)}")
        before, noticed = mortal.alive(), mortal.deaths_noticed()
        with ThreadPoolExecutor(len(clients)) as pool:

            def send(crowd: list[Client]) -> list[Future[Answer]]:
                return [pool.submit(client.chat, messages=fatal) for client in crowd]

            sent = send(clients[:first])
            wait_for(lambda: mortal.deaths_noticed() > noticed, "the first death")
            sent += send(clients[first:])
            answers = [each.result() for each in sent]
        assert {(answer.status, answer.error["code"]) for answer in answers} <= {
            (400, "request_rejected"),
            (503, "upstream_unavailable"),
        }
        assert before - (first + 1) <= mortal.alive() < before
        assert clients[0].chat(messages=sim("tokens=3")).status == 200

    mortal.withstand(attack)


@pytest.mark.parametrize(
    "lie",
    [
        "negative",
        pytest.param("beyond_int4", marks=pytest.mark.exhaustive),
        pytest.param("beyond_int8", marks=pytest.mark.exhaustive),
        pytest.param("infinite", marks=pytest.mark.exhaustive),
    ],
)
def test_counts_that_cannot_be_true(arena: Arena, lie: str) -> None:
    books = arena.stack.books
    accounts = [books.account(paid_tokens=PAID) for _ in range(4)]

    def attack() -> None:
        # Streams and plain answers in turn, of four accounts at once.
        clients = itertools.cycle(Client(arena.gateway.url, each.key) for each in accounts)
        kinds = itertools.cycle([True, False])

        def send() -> Answer:
            messages = sim(f"tokens=5 lie={lie}")
            return next(clients).chat(messages=messages, stream=next(kinds))

        # A lie may take all that is left: 402, or 429 while others still hold tokens.
        assert {answer.status for answer in at_once(16, send)} <= {200, 402, 429, 502}

    arena.withstand(attack)
    wait_for(lambda: not any(map(books.open_holds, accounts)), "the end of all holds")
    for account in accounts:
        events = books.events(account)
        assert events
        assert all(event["charged_tokens"] >= 0 for event in events)
        spent = sum(event["charged_tokens"] for event in events)
        assert books.balance(account)["available_tokens"] == PAID - spent
    assert books.differences() == []
