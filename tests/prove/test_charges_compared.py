"""Real requests and their charges agree; rows that were altered by SQL differ."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from prove import evidence
from prove.comparison import compare
from prove.load import CHARGED_KINDS, Request, send
from sandbox.llama import SimulatedLlama
from tests.plugins.stacks import MakeStack
from tests.support.books import BooksReader, wait_for
from tests.support.kinds import PLAIN, STREAMED
from tests.support.servers import Gateway

OPENING = 100_000
ALTERED = ("usage_events", "holds", "balances")
FIRST = "(SELECT min(request_id::text)::uuid FROM usage_events WHERE outcome = '{}')"
WHOLE, LEFT = FIRST.format("completed"), FIRST.format("client_disconnected")
COPY = (
    "INSERT INTO usage_events SELECT (jsonb_populate_record(e, jsonb_build_object("
    "'{column}', {value}, 'charged_paid', 0))).* FROM usage_events e"
    f" WHERE request_id = {WHOLE.replace('{', '{{')}"
)
BALANCES = "tokens of all balances: opening + bought - taken back - charged"
CUT = "tokens of requests that a kill or an empty balance cut"
VERIFY = "differences that `flask ledger verify` found"


@dataclass
class Shop:
    books: BooksReader
    llama: SimulatedLlama
    gateway: Gateway
    requests: list[Request]
    opening: dict[int, int]

    def differences(self) -> dict[str, int]:
        """Return the rows that differ, by their titles."""
        found = evidence.from_books(
            self.books,
            self.requests,
            self.llama.requests(),
            self.opening,
            len(self.books.differences()),
        )
        return {row.title.strip(): row.difference for row in compare(found, {}) if row.difference}


@pytest.fixture(scope="module")
def shop(make_stack: MakeStack) -> Iterator[Shop]:
    """A gateway that has answered every kind of request, was left by clients, and has refused."""
    with make_stack("prove") as stack:
        llama = stack.simulated_llama(embeddings=True, slots=8)
        gateway = stack.gateway(llama.url)
        account, empty = stack.books.account(OPENING), stack.books.account(60)
        requests = [send(gateway.port, account, kind, "tokens=5") for kind in CHARGED_KINDS]
        long = "tokens=400 delay_ms=10"
        requests += [
            send(gateway.port, account, kind, long, stay_seconds=0.5) for kind in (PLAIN, STREAMED)
        ]
        # More than the balance covers; then nothing is left.
        requests += [send(gateway.port, empty, STREAMED, "tokens=400") for _ in range(2)]
        wait_for(lambda: stack.books.open_holds() == 0, "no open hold")
        opening = {account.user_id: OPENING, empty.user_id: 60}
        yield Shop(stack.books, llama, gateway, requests, opening)


def test_real_books_agree(shop: Shop) -> None:
    ends = [request.end for request in shop.requests]
    assert ends == ["whole"] * len(CHARGED_KINDS) + ["left"] * 2 + ["whole", "refused"]
    assert shop.differences() == {}


def test_a_refused_connection_is_broken(shop: Shop) -> None:
    account = shop.books.account(0)
    assert send(1, account, PLAIN, "").end == "broken"


@pytest.fixture
def altered_shop(shop: Shop) -> Iterator[Shop]:
    """The shop; its charges, holds and balances are restored after the test."""
    for table in ALTERED:
        shop.books.rows(f"CREATE TABLE kept_{table} AS TABLE {table}")
    yield shop
    for table in ALTERED:
        shop.books.rows(f"DELETE FROM {table}")
        shop.books.rows(f"INSERT INTO {table} SELECT * FROM kept_{table}")
        shop.books.rows(f"DROP TABLE kept_{table}")


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            f"UPDATE usage_events SET charged_paid = charged_paid + 5 WHERE request_id = {WHOLE}",
            {"their tokens": 5, BALANCES: 5, VERIFY: 2},
        ),
        (
            f"UPDATE usage_events SET charged_paid = charged_paid - 1 WHERE request_id = {LEFT}",
            {"tokens of requests that their client left": 1, BALANCES: 1, VERIFY: 2},
        ),
        (
            # A second charge of a request, of no tokens.
            f"{COPY.format(column='created_at', value='created_at + interval $$1 ms$$')}",
            {
                "requests answered in full, each charged once": 1,
                "requests charged twice": 1,
                VERIFY: 1,
            },
        ),
        (
            f"{COPY.format(column='request_id', value='md5($$another$$)::uuid')}",
            {"charges without a request": 1, VERIFY: 1},
        ),
        (
            f"UPDATE usage_events SET outcome = 'recovered', charged_paid = charged_paid + 300"
            f" WHERE request_id = {LEFT}",
            {CUT: 300, BALANCES: 300, VERIFY: 2},
        ),
        (
            "UPDATE balances SET paid_tokens = paid_tokens + 7"
            " WHERE user_id = (SELECT min(user_id) FROM balances)",
            {BALANCES: 7, VERIFY: 1},
        ),
        (
            "INSERT INTO holds (request_id, user_id, endpoint, model)"
            " SELECT md5('another')::uuid, min(user_id), 'x', 'x' FROM balances",
            {"open holds": 1, VERIFY: 1},
        ),
    ],
)
def test_altered_books_differ(altered_shop: Shop, statement: str, expected: dict[str, int]) -> None:
    altered_shop.books.rows(statement)
    assert altered_shop.differences() == expected


def test_a_request_that_was_never_charged(altered_shop: Shop) -> None:
    altered_shop.books.rows(f"DELETE FROM usage_events WHERE request_id = {WHOLE}")
    found = altered_shop.differences()
    assert found.pop(BALANCES) > 0
    assert found == {
        "requests answered in full, each charged once": 1,
        "requests served, not charged, no worker killed": 1,
        VERIFY: 1,
    }
