"""Lists of orders: filters, and searches by number or by part of an address."""

from typing import Any

from sqlalchemy.orm import Session

from promptly.models.states import EventState
from promptly.services.paging import Cursor
from promptly.services.payments import orders, webhook_inbox
from promptly.services.payments.webhook_events import ReceivedEvent
from tests.support import factories


def found(**filters: Any) -> list[int]:
    return [order.id for order, _ in orders.page(50, **filters).rows]


def test_filters_and_searches(session: Session) -> None:
    ann, bob = factories.user("ann@example.com"), factories.user("b_b@example.com")
    first = factories.order(ann.id)
    second = factories.order(bob.id, provider="btcpay", state="expired")
    nobody = factories.order(None, state="paid")
    nobody.credited_at = nobody.created_at
    nobody.tokens_owed = 5
    session.flush()
    assert found() == [nobody.id, second.id, first.id]
    assert found(user_id=ann.id) == found(search="ANN@") == found(state="open") == [first.id]
    assert found(provider="btcpay") == found(search="b_b@example") == [second.id]
    # An underscore is not a wildcard.
    assert found(search="n_n") == []
    assert found(owed=True) == found(search=f" {nobody.number.lower()} ") == [nobody.id]
    assert found(search="P-2222-2222-2222") == found(search="nobody@example.org") == []
    [(order, address)] = orders.page(1, Cursor(nobody.id)).rows
    assert (order.id, address) == (second.id, "b_b@example.com")
    assert orders.page(1).rows[0][1] is None


def test_every_number_is_searched_as_one(session: Session) -> None:
    for _ in range(20):
        order = factories.order(None)
        assert found(search=order.number) == [order.id]


def test_events_are_filtered(session: Session) -> None:
    order = factories.order(factories.user().id)
    for name, provider in (("a", "stripe"), ("b", "btcpay")):
        webhook_inbox.record(ReceivedEvent(provider, name, "x", None))
    newest, oldest = webhook_inbox.page().rows
    newest.order_id, oldest.state = order.id, EventState.PARKED
    session.flush()
    assert (
        webhook_inbox.page(order_id=order.id).rows
        == webhook_inbox.page(provider="btcpay").rows
        == [newest]
    )
    assert (
        webhook_inbox.page(state="parked").rows == [oldest] and webhook_inbox.count("parked") == 1
    )
