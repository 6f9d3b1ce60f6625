"""Snapshots applied to orders: what is credited, parked, and taken back."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from promptly.models import Balance, LedgerEntry, Order, OutboxMail, User
from promptly.models.states import HoldState
from promptly.services import account_deletion
from promptly.services.ledger import ledger, verification
from promptly.services.payments import apply, cases, orders, reversals
from promptly.services.payments.snapshot import ProviderSnapshot, Reversal
from tests.services.payments.snapshots import dispute, refund, snapshot
from tests.support import factories

TOKENS, PRICE = 1000, 200


@pytest.fixture
def user(session: Session) -> User:
    return factories.user()


@pytest.fixture
def order(user: User) -> Order:
    return factories.order(user.id, tokens=TOKENS, amount_minor=PRICE)


@pytest.fixture
def invoice(user: User) -> Order:
    return factories.order(user.id, tokens=TOKENS, amount_minor=PRICE, provider="btcpay")


def applied(order: Order, *snapshots: ProviderSnapshot) -> None:
    for found in snapshots:
        apply.apply(orders.lock(order.id), found)
    assert verification.verify() == []


def paid_tokens(session: Session, user: User) -> int:
    session.expire_all()
    return session.get_one(Balance, user.id).paid_tokens


def spend(user: User, tokens: int) -> None:
    factories.usage_event(user.id, charged_paid=tokens)


def figures(order: Order) -> tuple[str, int, int]:
    return order.state, order.tokens_taken, order.tokens_owed


def mails(session: Session) -> list[str]:
    return list(session.scalars(select(OutboxMail.kind).order_by(OutboxMail.id)))


def cases_of(order: Order) -> list[tuple[str, str | None]]:
    return [(case.kind, case.resolution) for case in cases.cases_of(order.id)]


def test_a_payment_is_credited_once_with_one_receipt(
    session: Session, user: User, order: Order
) -> None:
    applied(order, snapshot(order), snapshot(order), snapshot(order))
    assert paid_tokens(session, user) == TOKENS
    assert (order.state, order.payment_id) == ("paid", f"pi_{order.id}")
    entry = session.scalars(select(LedgerEntry)).one()
    assert (entry.kind, entry.reference, entry.actor) == ("purchase", order.number, "stripe")
    mail = session.scalars(select(OutboxMail)).one()
    assert mail.payload["number"] == order.number and mail.payload["price"] == "$2.00"
    assert mail.payload["balance_tokens"] == TOKENS


@pytest.mark.parametrize("before", ["created", "open", "processing", "expired", "failed"])
def test_a_payment_is_credited_whatever_was_thought_before(
    session: Session, user: User, before: str
) -> None:
    order = factories.order(user.id, state=before)
    applied(order, snapshot(order))
    assert (order.state, paid_tokens(session, user)) == ("paid", order.tokens)


@pytest.mark.parametrize("status", ["open", "processing", "expired", "failed"])
def test_unpaid_orders_are_not_credited(
    session: Session, user: User, order: Order, status: str
) -> None:
    applied(order, snapshot(order, status))
    assert (order.state, paid_tokens(session, user), mails(session)) == (status, 0, [])


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"amount_minor": PRICE - 1}, "amount"),
        ({"amount_minor": PRICE * 100}, "amount"),
        ({"amount_minor": None}, "amount"),
        ({"currency": "EUR"}, "currency"),
        ({"livemode": True}, "livemode"),
        ({"checkout_id": "cs_other"}, "second_checkout"),
    ],
)
def test_money_that_does_not_fit_is_left_to_the_operator(
    session: Session, user: User, order: Order, changes: dict[str, Any], kind: str
) -> None:
    odd = replace(snapshot(order), **changes)
    applied(order, odd, odd)
    assert paid_tokens(session, user) == 0
    assert cases_of(order) == [(kind, None)]
    assert order.state == ("open" if kind == "second_checkout" else "attention")


def test_a_discrepancy_without_money_raises_no_case(order: Order) -> None:
    applied(order, replace(snapshot(order, "open"), checkout_id="cs_other", status="expired"))
    assert (order.state, cases_of(order)) == ("open", [])


def test_money_for_an_account_that_is_gone(session: Session, user: User, order: Order) -> None:
    account_deletion.remove(user.id)
    session.expire_all()
    applied(order, snapshot(order), snapshot(order))
    assert (order.state, order.user_id) == ("attention", None)
    assert cases_of(order) == [("account_deleted", None)]
    applied(order, snapshot(order, reversals=(refund(PRICE),)))
    assert verification.verify() == []


@pytest.mark.parametrize(
    ("refunded", "spent", "state", "taken", "owed"),
    [
        (50, 0, "partly_refunded", 250, 0),
        (1, 0, "partly_refunded", 5, 0),
        (199, 0, "partly_refunded", 995, 0),
        (PRICE, 0, "refunded", TOKENS, 0),
        (PRICE, 400, "refunded", 600, 400),
        (PRICE, TOKENS, "refunded", 0, TOKENS),
        (100, 400, "partly_refunded", 500, 0),
        (100, 800, "partly_refunded", 200, 300),
    ],
)
def test_a_refund_takes_what_is_unspent_of_its_part(
    session: Session,
    user: User,
    order: Order,
    refunded: int,
    spent: int,
    state: str,
    taken: int,
    owed: int,
) -> None:
    applied(order, snapshot(order))
    if spent:
        spend(user, spent)
    known = snapshot(order, reversals=(refund(refunded),))
    applied(order, known, known)
    assert figures(order) == (state, taken, owed)
    assert paid_tokens(session, user) == TOKENS - spent - taken
    assert mails(session) == ["receipt", "refund_notice"]


@pytest.mark.parametrize("price", [3, 7, 50, 199])
def test_many_small_refunds_take_what_one_of_them_all_would(user: User, price: int) -> None:
    order = factories.order(user.id, tokens=1000, amount_minor=price)
    applied(order, snapshot(order))
    for count in range(1, min(price, 20)):
        found = tuple(refund(1, name=f"re_{number}") for number in range(count))
        applied(order, snapshot(order, reversals=found))
        assert order.tokens_taken == 1000 * count // price
    applied(order, snapshot(order, reversals=(refund(price),)))
    assert figures(order) == ("refunded", 1000, 0)


def test_refunds_never_touch_newer_lots(session: Session, user: User, order: Order) -> None:
    applied(order, snapshot(order))
    ledger.adjust(user.id, 5000, actor="test")
    spend(user, 900)
    applied(order, snapshot(order, reversals=(refund(PRICE),)))
    assert figures(order) == ("refunded", 100, 900)
    assert paid_tokens(session, user) == 5000


def test_held_tokens_are_owed_until_they_are_free(
    session: Session, user: User, order: Order
) -> None:
    applied(order, snapshot(order))
    hold = factories.hold(user.id, held_paid=700)
    refunded = snapshot(order, reversals=(refund(PRICE),))
    applied(order, refunded)
    assert figures(order) == ("refunded", 300, 700)
    assert paid_tokens(session, user) == 700
    assert orders.owing_with_tokens_left(10) == []
    # The request ends at a cost of 200: the rest of the lot is free, and goes to the refund.
    hold.state = HoldState.SETTLED
    balance = session.get_one(Balance, user.id)
    balance.held_paid, balance.open_holds = 0, 0
    spend(user, 200)
    assert orders.owing_with_tokens_left(10) == [order.id]
    applied(order, refunded)
    assert figures(order) == ("refunded", 800, 200)
    assert paid_tokens(session, user) == 0
    assert orders.owing_with_tokens_left(10) == []


@pytest.mark.parametrize(
    ("state", "order_state", "taken"),
    [
        ("needs_response", "disputed", 700),
        ("under_review", "disputed", 700),
        ("lost", "charged_back", 700),
        ("won", "paid", 0),
        ("prevented", "paid", 0),
        ("warning_needs_response", "paid", 0),
        ("warning_closed", "paid", 0),
    ],
)
def test_disputes(
    session: Session, user: User, order: Order, state: str, order_state: str, taken: int
) -> None:
    applied(order, snapshot(order))
    spend(user, 300)
    applied(order, snapshot(order, reversals=(dispute(PRICE, state),)))
    assert figures(order) == (order_state, taken, 300 if taken else 0)
    assert paid_tokens(session, user) == 700 - taken
    assert "refund_notice" not in mails(session)


def test_a_dispute_in_another_currency_is_about_all_of_it(user: User, order: Order) -> None:
    applied(order, snapshot(order), snapshot(order, reversals=(dispute(None),)))
    assert figures(order) == ("disputed", TOKENS, 0)


@pytest.mark.parametrize(
    "undone",
    [(dispute(PRICE, "won"),), (refund(PRICE, "failed"),), (refund(PRICE, "canceled"),)],
)
def test_taken_tokens_are_given_back_exactly(
    session: Session, user: User, order: Order, undone: tuple[Reversal, ...]
) -> None:
    applied(order, snapshot(order))
    spend(user, 300)
    done = dispute(PRICE) if undone[0].kind == "dispute" else refund(PRICE, "pending")
    applied(order, snapshot(order, reversals=(done,)))
    assert figures(order)[1:] == (700, 300)
    applied(order, snapshot(order, reversals=undone))
    assert figures(order) == ("paid", 0, 0)
    assert paid_tokens(session, user) == 700
    kinds = [entry.kind for entry in reversed(ledger.entries(user.id))]
    assert kinds == ["purchase", "purchase_reversed", "purchase_restored"]


def test_a_refund_and_a_dispute_of_one_charge_take_once(
    session: Session, user: User, order: Order
) -> None:
    applied(order, snapshot(order), snapshot(order, reversals=(refund(100),)))
    assert figures(order) == ("partly_refunded", 500, 0)
    applied(order, snapshot(order, reversals=(refund(100), dispute(PRICE))))
    assert figures(order) == ("disputed", TOKENS, 0)
    applied(order, snapshot(order, reversals=(refund(100), dispute(PRICE, "won"))))
    assert figures(order) == ("partly_refunded", 500, 0)
    both = (refund(100), refund(100, name="re_2"), dispute(PRICE, "won"))
    applied(order, snapshot(order, reversals=both))
    assert figures(order) == ("refunded", TOKENS, 0)
    assert paid_tokens(session, user) == 0


def test_the_end_does_not_depend_on_what_became_known_when(session: Session) -> None:
    """A won dispute, a failed refund and a successful one, becoming known in any order."""
    ended = set()
    for steps in permutations(range(3)):
        user = factories.user()
        order = factories.order(user.id, tokens=TOKENS, amount_minor=PRICE)
        first, second, third = (f"{name}_{order.id}" for name in ("re_1", "re_2", "du_1"))
        known = (
            refund(50, name=first),
            refund(PRICE, "failed", second),
            dispute(PRICE, "won", third),
        )
        passing = (
            refund(50, name=first),
            refund(PRICE, "pending", second),
            dispute(PRICE, name=third),
        )
        applied(order, snapshot(order))
        spend(user, 100)
        for count in range(3):
            seen = tuple(passing[step] for step in steps[: count + 1])
            applied(order, snapshot(order, reversals=seen))
        applied(order, snapshot(order, reversals=known))
        ended.add((*figures(order), paid_tokens(session, user)))
    assert ended == {("partly_refunded", 250, 0, 650)}


def test_a_refund_that_is_known_with_its_payment(
    session: Session, user: User, order: Order
) -> None:
    applied(order, snapshot(order, reversals=(refund(PRICE),)))
    assert figures(order) == ("refunded", TOKENS, 0)
    assert paid_tokens(session, user) == 0
    assert mails(session) == ["receipt", "refund_notice"]


@pytest.mark.parametrize(
    ("status", "discrepancy", "kind"),
    [
        ("expired", "paid_partial", "paid_partial"),
        ("expired", "paid_late", "paid_late"),
        ("expired", "paid_over", "paid_late"),
        ("failed", "unconfirmed", "unconfirmed"),
    ],
)
def test_odd_bitcoin_payments_are_listed(
    session: Session, user: User, invoice: Order, status: str, discrepancy: str, kind: str
) -> None:
    odd = snapshot(invoice, status, discrepancy=discrepancy, paid_minor=150)
    applied(invoice, odd, odd)
    assert (invoice.state, cases_of(invoice)) == ("attention", [(kind, None)])
    assert paid_tokens(session, user) == 0
    # The merchant marks it settled in BTCPay, which decides the case.
    applied(invoice, snapshot(invoice))
    assert (invoice.state, cases_of(invoice)) == ("paid", [(kind, "superseded")])
    assert paid_tokens(session, user) == TOKENS


def test_a_partial_payment_that_is_completed_too_late(invoice: Order) -> None:
    applied(invoice, snapshot(invoice, "expired", discrepancy="paid_partial", paid_minor=50))
    applied(invoice, snapshot(invoice, "expired", discrepancy="paid_late", paid_minor=PRICE))
    assert cases_of(invoice) == [("paid_partial", "superseded"), ("paid_late", None)]
    assert invoice.state == "attention"


def test_too_much_bitcoin_is_credited_and_its_surplus_listed(
    session: Session, user: User, invoice: Order
) -> None:
    odd = snapshot(invoice, discrepancy="paid_over", paid_minor=250)
    applied(invoice, odd, odd)
    assert (invoice.state, paid_tokens(session, user)) == ("paid", TOKENS)
    (case,) = cases.cases_of(invoice.id)
    assert (case.kind, case.detail) == ("paid_over", "$2.50 came for $2.00.")


def test_bitcoin_that_is_replaced_before_it_is_confirmed(invoice: Order) -> None:
    for status in ("processing", "open", "processing", "paid"):
        applied(invoice, snapshot(invoice, status))
        assert invoice.state == status


def test_an_invoice_that_turns_invalid_and_valid_again(
    session: Session, user: User, invoice: Order
) -> None:
    applied(invoice, snapshot(invoice))
    spend(user, 100)
    applied(invoice, snapshot(invoice, "failed"), snapshot(invoice, "failed"))
    assert figures(invoice) == ("invalid", 900, 100)
    applied(invoice, snapshot(invoice))
    assert figures(invoice) == ("paid", 0, 0)
    assert paid_tokens(session, user) == 900
    assert len(reversals.of_order(invoice.id)) == 1
