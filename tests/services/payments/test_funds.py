"""The money of an order, received and given back, and the tokens that follow it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from promptly.models import Order, PaymentReversal
from promptly.services.payments import funds
from promptly.services.payments.funds import Funds
from tests.support import factories

TOKENS, PRICE = 1000, 200


def row(
    amount: int, kind: str = "refund", *, counts: bool = True, active: bool = True
) -> PaymentReversal:
    return PaymentReversal(kind=kind, amount_minor=amount, counts=counts, active=active)


def of(received: int | None, *rows: PaymentReversal) -> Funds:
    return Funds.of(Order(amount_minor=PRICE, received_minor=received), rows)


@pytest.mark.parametrize(
    ("received", "rows", "left", "tokens"),
    [
        (PRICE, [], PRICE, 0),
        (None, [row(50)], 150, 250),
        (PRICE, [row(50), row(50, active=False)], 150, 250),
        # Less than the price came and was credited: half of it is for half of the tokens.
        (40, [row(20)], 20, 500),
        (40, [row(40)], 0, TOKENS),
        # The rest came later.
        (PRICE, [row(40)], 160, 200),
        # More than the price came: all of it can go back, the surplus without any tokens.
        (300, [row(300)], 0, TOKENS),
        (300, [row(100, counts=False)], 200, 0),
        (300, [row(100, counts=False), row(100)], 100, 500),
        # Credited for nothing.
        (0, [], 0, 0),
        (0, [row(5, "dispute")], 0, TOKENS),
        # A bank takes what was refunded already.
        (PRICE, [row(150), row(PRICE, "dispute")], 0, TOKENS),
        (PRICE, [row(PRICE, "invalidation")], 0, TOKENS),
    ],
)
def test_what_is_left_and_the_tokens_reversed(
    received: int | None, rows: list[PaymentReversal], left: int, tokens: int
) -> None:
    found = of(received, *rows)
    assert (found.left_minor, found.share_reversed(TOKENS)) == (left, tokens)


@given(
    received=st.integers(0, 10**6),
    amounts=st.lists(st.tuples(st.integers(1, 10**6), st.booleans()), max_size=5),
)
def test_refunds_within_what_is_left_never_exceed_what_came(
    received: int, amounts: list[tuple[int, bool]]
) -> None:
    rows: list[PaymentReversal] = []
    taken = 0
    for amount, is_surplus in amounts:
        before = of(received, *rows)
        most = before.surplus_left_minor if is_surplus else before.left_minor
        if not most:
            continue
        rows.append(row(min(amount, most), counts=not is_surplus))
        after = of(received, *rows)
        assert 0 <= after.returned_minor == sum(item.amount_minor for item in rows) <= received
        assert after.left_minor == received - after.returned_minor
        assert taken <= after.share_reversed(TOKENS) <= TOKENS
        taken = after.share_reversed(TOKENS)


def test_a_price_of_tokens_is_the_part_of_what_was_paid() -> None:
    assert of(40).price_of(250, TOKENS) == 10
    assert of(300).price_of(TOKENS, TOKENS) == 300
    assert of(300, row(100, counts=False)).price_of(TOKENS, TOKENS) == 200


def test_what_came_may_shrink_below_what_went_back(session: Session) -> None:
    order = factories.order(None)
    funds.receive(order, 150, "USD")
    funds.store(order, [row(120)])
    session.flush()
    funds.receive(order, 100, "EUR")
    session.flush()
    assert (order.received_minor, order.returned_minor, order.paid_in) == (100, 100, "EUR")


def test_the_constraint_refuses_more_than_came(session: Session) -> None:
    order = factories.order(None)
    funds.receive(order, 150, "USD")
    order.returned_minor = 151
    with pytest.raises(IntegrityError, match="returns_at_most_received"), session.begin_nested():
        session.flush()


def test_of_another_currency_nothing_is_a_surplus() -> None:
    order = Order(amount_minor=PRICE, received_minor=300, received_currency="EUR")
    assert Funds.of(order, []).surplus_left_minor == 0
