"""Bodies that end the model servers behind the gateway, and counts that cannot be true."""

import itertools
from collections.abc import Iterator
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
# Each body may end two, and the neighbour needs one that is left after two attacks.
SERVERS = 6


class Mortal(Arena):
    """An arena with several model servers."""

    llamas: list[SimulatedLlama]

    def alive(self) -> int:
        return sum(llama.is_running for llama in self.llamas)


@pytest.fixture(scope="module")
def mortal(make_stack: MakeStack) -> Iterator[Mortal]:
    with make_stack("mortal", **VARIABLES) as stack:
        llamas = [stack.simulated_llama(slots=8) for _ in range(SERVERS)]
        urls = [llama.url for llama in llamas]
        arena = Mortal(stack, llamas[0], stack.gateway(*urls, workers=2))
        arena.llamas = llamas
        yield arena


def test_a_body_that_ends_its_servers(mortal: Mortal) -> None:
    client = Client(mortal.gateway.url, mortal.trial_account().key)
    numbers = itertools.count()

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

        assert {answer.status for answer in at_once(16, send)} <= {200, 402, 502}

    arena.withstand(attack)
    wait_for(lambda: not any(map(books.open_holds, accounts)), "the end of all holds")
    for account in accounts:
        events = books.events(account)
        assert events
        assert all(event["charged_tokens"] >= 0 for event in events)
        spent = sum(event["charged_tokens"] for event in events)
        assert books.balance(account)["available_tokens"] == PAID - spent
    assert books.differences() == []
