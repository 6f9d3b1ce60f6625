"""Mails to customers when money goes back: one for each change, whoever makes it."""

from typing import Any

import pytest

from promptly.services.payments import case_decisions, refunds
from promptly.transactions import transaction
from tests.support.shop import Shop


def notices(shop: Shop) -> list[tuple[str, str, int, str]]:
    """Return the refund and dispute notices: kind, event, tokens taken, and amount refunded."""
    kinds = "'refund_notice', 'dispute_notice'"
    rows = shop.rows(f"SELECT kind, payload FROM outbox WHERE kind IN ({kinds}) ORDER BY id")
    names = ("event", "taken_tokens", "refunded")
    return [(row["kind"], *(row["payload"][name] for name in names)) for row in rows]


def settle(shop: Shop) -> None:
    """Handle all events and reconcile, then handle events again, which must change nothing."""
    for provider in (shop.stripe, shop.btcpay):
        provider.wait_until_quiet()
    shop.work(workers=4)
    shop.reconcile()
    shop.work()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("won", [("disputed", 25_000_000), ("over", 0)]),
        ("lost", [("disputed", 25_000_000), ("charged_back", 25_000_000)]),
    ],
)
def test_disputes(shop: Shop, status: str, expected: list[Any]) -> None:
    user_id = shop.account()
    page = shop.buy(user_id)
    settle(shop)
    dispute = shop.stripe.open_dispute(shop.stripe.charge_of(page))
    settle(shop)
    shop.stripe.close_dispute(dispute["id"], status)
    settle(shop)
    assert notices(shop) == [("dispute_notice", event, taken, "$0.00") for event, taken in expected]


def test_an_inquiry_sends_no_notice(shop: Shop) -> None:
    page = shop.buy(shop.account())
    settle(shop)
    shop.stripe.open_dispute(shop.stripe.charge_of(page), status="warning_needs_response")
    settle(shop)
    assert notices(shop) == []


def test_refunds_in_parts_and_one_that_fails(shop: Shop) -> None:
    user_id = shop.account()
    page = shop.buy(user_id)
    settle(shop)
    charge = shop.stripe.charge_of(page)
    shop.stripe.refund(charge, 50)
    settle(shop)
    second = shop.stripe.refund(charge, 100)
    settle(shop)
    shop.stripe.fail_refund(second["id"])
    settle(shop)
    assert notices(shop) == [
        ("refund_notice", "refunded", 6_250_000, "$0.50"),
        ("refund_notice", "refunded", 18_750_000, "$1.50"),
        ("refund_notice", "refund_failed", 6_250_000, "$0.50"),
    ]


def test_bitcoin_that_was_not_paid_after_all(shop: Shop) -> None:
    page = shop.buy(shop.account(), method="btcpay")
    settle(shop)
    # As after a chain reorganisation, or when BTCPay's operator marks the invoice invalid.
    shop.btcpay.alter(page, status="Invalid", additional="Marked")
    settle(shop)
    assert notices(shop) == [("dispute_notice", "invalid", 25_000_000, "$0.00")]


def test_a_refund_of_an_uncredited_payment(shop: Shop) -> None:
    """The customer of an underpaid invoice is mailed the link to claim the refund."""
    page = shop.order(shop.account(), method="btcpay")
    shop.btcpay.pay(page, share="0.5")
    shop.btcpay.advance(31 * 60)
    settle(shop)
    [case] = shop.cases()
    assert (case["kind"], notices(shop)) == ("paid_partial", [])
    with shop.app.app_context():
        with transaction():
            _, refund_id = case_decisions.resolve(case["id"], "refund", actor="test")
        assert refund_id is not None
        outcome = refunds.execute_refund(refund_id, shop.settings)
    settle(shop)
    assert outcome is not None and outcome.link
    [mail] = shop.rows("SELECT kind, payload FROM outbox WHERE kind <> 'payment_notice'")
    assert mail["kind"] == "refund_notice" and mail["payload"]["claim_url"] == outcome.link
    assert not mail["payload"]["credited"]
