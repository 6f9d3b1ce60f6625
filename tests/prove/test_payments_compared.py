"""Rows about payments and webhooks: each promise differs by as much as it was broken."""

from dataclasses import replace

import pytest

from promptly.packs import parse_packs
from prove.comparison import compare
from prove.evidence import Evidence, Payment, Purchase, btcpay_payments, stripe_payments

PACKS = {pack.name: pack for pack in parse_packs("small:3000:50,large:10000:160")}
BOUGHT = Purchase("P-1", 1, "small", 0, 0, credits=1, credited_tokens=3000)
# A third of the price: 3000 * 17 // 50 tokens, some of them spent.
REFUNDED = Purchase("P-2", 1, "small", 1000, 20, credits=1, credited_tokens=3000)
UNPAID = Purchase("P-3", 1, "large", 0, 0, credits=0, credited_tokens=0)
TRUTH = [Payment("P-1", True), Payment("P-2", True, 17), Payment("P-3", False)]


def evidence(*purchases: Purchase, balance: int = 5100, **others: object) -> Evidence:
    found = Evidence([], {}, [], {1: 100}, {1: balance}, 0, 0)
    found.purchases, found.payments = list(purchases), TRUTH
    found.sent = {("stripe", "evt_1"), ("btcpay", "x")}
    found.inbox = {("stripe", "evt_1"): "handled", ("btcpay", "x"): "ignored"}
    return replace(found, **others)  # type: ignore[arg-type]


def differences(found: Evidence) -> dict[str, int]:
    return {row.title.strip(): row.difference for row in compare(found, PACKS) if row.difference}


def test_clean_books_agree() -> None:
    assert differences(evidence(BOUGHT, REFUNDED, UNPAID)) == {}


@pytest.mark.parametrize(
    ("purchases", "balance", "expected"),
    [
        # Credited twice.
        (
            (replace(BOUGHT, credits=2, credited_tokens=6000), REFUNDED, UNPAID),
            8100,
            {"packs credited twice": 1, "their tokens": 3000, "balances": 3000},
        ),
        # Never credited.
        (
            (replace(BOUGHT, credits=0, credited_tokens=0), REFUNDED, UNPAID),
            2100,
            {"packs paid, credited": 1, "their tokens": 3000, "balances": 3000},
        ),
        # Credited without a payment, in place of another one: deviations add up.
        (
            (
                replace(BOUGHT, credits=0, credited_tokens=0),
                REFUNDED,
                replace(UNPAID, credits=1, credited_tokens=3000),
            ),
            5100,
            {"packs paid, credited": 2, "their tokens": 6000},
        ),
        # A refund that took too little.
        (
            (BOUGHT, replace(REFUNDED, tokens_taken=900), UNPAID),
            5200,
            {"tokens of refunds and disputes, taken back or owed": 100},
        ),
        # Overdrawn.
        ((BOUGHT, REFUNDED, UNPAID), -1, {"overdrawn balances, in 0 looks": 1, "balances": 5101}),
    ],
)
def test_what_differs(
    purchases: tuple[Purchase, ...], balance: int, expected: dict[str, int]
) -> None:
    found = differences(evidence(*purchases, balance=balance))
    assert {
        name.removeprefix("tokens of all ").partition(":")[0]: number
        for name, number in found.items()
    } == expected


def test_webhooks_lost_or_waiting() -> None:
    inbox = {("stripe", "evt_1"): "pending", ("btcpay", "y"): "parked"}
    found = differences(evidence(BOUGHT, REFUNDED, UNPAID, inbox=inbox))
    assert found == {"webhook events sent, recorded": 1, "webhook events not processed": 2}


def test_the_providers_truth() -> None:
    row = {"client_reference_id": "P-1", "paid": 50, "held": 30, "withheld": 10}
    assert stripe_payments([row]) == [Payment("P-1", True, 30)]
    rows = [{"order_id": "P-1", "status": "Settled"}, {"order_id": "P-2", "status": "Processing"}]
    assert btcpay_payments(rows) == [Payment("P-1", True), Payment("P-2", False)]
