from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly.extensions import db
from promptly.models import Order
from promptly.services.imports.outcome import Reason
from promptly.services.ledger import verification
from promptly.services.payments import lots
from promptly.services.usage import rollups, statistics
from tests.services.imports.test_accounts import balance_of, bring, reasons, user_of
from tests.support import factories, model_gateway


def test_purchases_become_credited_orders(session: Session) -> None:
    paid_at = datetime(2025, 6, 1, 12, tzinfo=UTC)
    found = [
        model_gateway.purchase("cs_live_1", 5_000_000, 50, paid_at=paid_at),
        model_gateway.purchase("Inv1", 1000, 7, method="btcpay", paid_at=paid_at),
        model_gateway.purchase("cs_test_2"),
    ]
    old = model_gateway.account(balance_tokens=1500, purchases=found)
    [outcome] = bring(old)
    assert (outcome.purchases, outcome.listed) == (3, [])
    orders = session.query(Order).order_by(Order.id).all()
    assert [(one.provider, one.checkout_id, one.pack, one.livemode) for one in orders] == [
        ("stripe", "cs_live_1", "starter", True),
        ("btcpay", "Inv1", "imported", True),
        ("stripe", "cs_test_2", "imported", False),
    ]
    first = orders[0]
    assert (first.state, first.credited_at, first.created_at) == ("paid", paid_at, paid_at)
    assert (first.tokens, first.amount_minor, first.currency) == (5_000_000, 50, "USD")
    # The oldest were spent first.
    assert [lot.unspent_tokens for lot in lots.of_account(user_of(old).id)] == [0, 500, 1000]
    assert verification.verify() == []


def test_sales_of_the_past_are_in_the_totals(session: Session) -> None:
    paid_at = datetime(2025, 6, 1, 12, tzinfo=UTC)
    bring(model_gateway.account(purchases=[model_gateway.purchase("cs_live_1", paid_at=paid_at)]))
    statistics.refresh(rollups.roll_up())
    [row] = statistics.revenue(paid_at.date(), paid_at.date())
    assert (row["purchases"], row["amount_minor"]) == (1, 200)


def test_tokens_without_a_purchase_are_a_lot_of_their_own(session: Session) -> None:
    old = model_gateway.account(balance_tokens=1700, purchases=[model_gateway.purchase()])
    bring(old)
    found = lots.of_account(user_of(old).id)
    assert [(lot.kind, lot.unspent_tokens) for lot in found] == [
        ("purchase", 1000), ("import", 700),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        {"method": "cash"},
        {"method": None},
        {"reference": None},
        {"reference": ""},
        {"tokens": 0},
        {"amount_cents": 0},
        {"amount_cents": None},
    ],
)
def test_payments_that_cannot_be_orders_are_listed(
    session: Session, values: dict[str, Any]
) -> None:
    old = model_gateway.account(balance_tokens=1000, purchases=[model_gateway.purchase(**values)])
    [outcome] = bring(old)
    assert reasons(outcome) == [Reason.PURCHASE_NOT_AN_ORDER]
    assert balance_of(old).paid_tokens == 1000
    assert session.query(Order).count() == 0


def test_a_payment_that_another_account_has_is_listed(session: Session) -> None:
    order = factories.order(factories.user().id)
    old = model_gateway.account(
        balance_tokens=1000, purchases=[model_gateway.purchase(str(order.checkout_id))]
    )
    [outcome] = bring(old)
    assert reasons(outcome) == [Reason.PURCHASE_KNOWN]
    assert balance_of(old).paid_tokens == 1000
    assert db.session.scalar(text("SELECT count(*) FROM orders")) == 1
