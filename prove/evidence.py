"""Both sides of the comparison: the simulators' own records, and promptly's database."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from promptly import request_ids
from prove.load import Request
from tests.support.books import BooksReader

Json = dict[str, Any]


@dataclass(frozen=True)
class Count:
    """The tokens of one request as a simulated model server counted them, and its outcome there."""

    prompt_tokens: int
    completion_tokens: int
    outcome: str

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class Charge:
    """One usage event; `started_at` is the Unix time at which promptly received the request."""

    request_id: str
    started_at: float
    user_id: int
    key_id: int
    outcome: str
    tokens: int
    uncharged_tokens: int

    @classmethod
    def of(cls, row: Json) -> Self:
        request_id = row["request_id"]
        return cls(
            request_ids.public_id(request_id),
            request_ids.started_at_ms(request_id) / 1000,
            row["user_id"],
            row["key_id"],
            row["outcome"],
            int(row["charged_paid"] + row["charged_trial"]),
            int(row["uncharged_tokens"]),
        )


@dataclass(frozen=True)
class Payment:
    """A checkout page as its provider knows it, in minor units; `reversed_minor` is taken back."""

    number: str
    is_paid: bool
    reversed_minor: int = 0


@dataclass(frozen=True)
class Purchase:
    """An order and the ledger entries that credit it."""

    number: str
    user_id: int
    pack: str
    tokens_taken: int
    tokens_owed: int
    credits: int
    credited_tokens: int


@dataclass
class Evidence:
    """Everything that a run has left; `sent` and `inbox` are webhooks by provider and event id."""

    requests: list[Request]
    counts: dict[str, list[Count]]
    charges: list[Charge]
    opening: dict[int, int]
    balances: dict[int, int]
    open_holds: int
    verify_differences: int
    purchases: list[Purchase] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)
    sent: set[tuple[str, str]] = field(default_factory=set)
    inbox: dict[tuple[str, str], str] = field(default_factory=dict)
    worker_kills: list[float] = field(default_factory=list)
    looks: int = 0
    overdrawn: int = 0


def from_books(
    books: BooksReader,
    requests: list[Request],
    records: Iterable[Json],
    opening: dict[int, int],
    verify_differences: int,
) -> Evidence:
    """Read what promptly's database has; `records` are the simulated model servers'."""
    balances = books.rows("SELECT user_id, paid_tokens + trial_tokens AS tokens FROM balances")
    inbox = books.rows("SELECT provider, event_id, state FROM webhook_events")
    return Evidence(
        requests=requests,
        counts=counts(records),
        charges=[Charge.of(row) for row in books.rows("SELECT * FROM usage_events")],
        opening=opening,
        balances={row["user_id"]: int(row["tokens"]) for row in balances},
        open_holds=books.open_holds(),
        verify_differences=verify_differences,
        purchases=[Purchase(**row) for row in books.rows(_PURCHASES)],
        inbox={(row["provider"], row["event_id"]): row["state"] for row in inbox},
    )


def counts(records: Iterable[Json]) -> dict[str, list[Count]]:
    """Return the simulator's counts by the tag of the request."""
    found = defaultdict(list)
    for record in records:
        completion = record["completion_tokens"]
        # Without output, the part of the prompt that was processed is all that can be charged.
        prompt = record["prompt_tokens" if completion else "processed_prompt_tokens"]
        found[record["tag"]].append(Count(prompt, completion, record["outcome"]))
    return found


def stripe_payments(truth: Iterable[Json]) -> list[Payment]:
    """Return the payments of the simulated Stripe's `truth()`."""
    return [
        Payment(
            number=row["client_reference_id"],
            is_paid=row["paid"] > 0,
            reversed_minor=min(row["paid"], row["paid"] - row["held"] + row["withheld"]),
        )
        for row in truth
    ]


def btcpay_payments(truth: Iterable[Json]) -> list[Payment]:
    """Return the payments of the simulated BTCPay Server's `truth()`; none is taken back."""
    return [Payment(row["order_id"], row["status"] == "Settled") for row in truth]


_PURCHASES = """
SELECT o.number, o.user_id, o.pack, o.tokens_taken, o.tokens_owed, count(e.id) AS credits,
       coalesce(sum(e.paid_delta), 0)::bigint AS credited_tokens
FROM orders o LEFT JOIN ledger_entries e ON e.kind = 'purchase' AND e.reference = o.number
GROUP BY o.id ORDER BY o.id
"""
