"""Purchases in the panel: list, filters, detail page, and a check with the provider."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from promptly.models import PaymentReversal
from promptly.models.states import CaseKind, OrderState
from promptly.services import paging
from promptly.services.payments import cases, orders, webhook_inbox
from promptly.services.payments.webhook_events import ReceivedEvent
from promptly.transactions import transaction
from tests.blueprints.admin.panel import XSS, Panel
from tests.support import factories
from tests.support.factories import order as make_order
from tests.support.shop import Shop


def make(pages: Panel, count: int = 1, email: str | None = None, **values: Any) -> list[str]:
    """Create purchases of a new account; return their numbers, oldest first."""
    with pages.app.app_context(), transaction():
        user = factories.user(email)
        return [make_order(user.id, **values).number for _ in range(count)]


def test_no_purchase_yet(pages: Panel) -> None:
    assert "No purchases yet." in pages.words("/admin/purchases")
    assert "No matching purchases. Show all" in pages.words("/admin/purchases?q=x")


def test_the_list_page_by_page(pages: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "PAGE_SIZE", 2)
    numbers = make(pages, 5)[::-1]
    shown, path = [], "/admin/purchases?provider=stripe"
    for _ in range(3):
        page = pages.page(path)
        shown.append([number for number in numbers if number in page])
        path = page.split('rel="next"')[0].rsplit('href="', 1)[1][:-2].replace("&amp;", "&")
    assert shown == [numbers[:2], numbers[2:4], numbers[4:]]
    assert 'rel="next"' not in page and "provider=stripe&amp;after=" in page


def test_filters(pages: Panel) -> None:
    [first] = make(pages, email="ann@example.com")
    [second] = make(pages, email="bob@example.com", provider="btcpay", state="expired")
    with pages.app.app_context(), transaction() as session:
        session.execute(
            text("UPDATE orders SET credited_at = now(), tokens_owed = 5 WHERE number = :number"),
            {"number": first},
        )
    for query, found in (
        ("", {first, second}), ("q=ann%40", {first}), (f"q={second.lower()}", {second}),
        ("provider=btcpay", {second}), ("state=expired", {second}), ("owed=1", {first}),
        ("state=nonsense&provider=other&before=x&after=-1", {first, second}),
        ("q=nobody", set()), ("before=1", set()), ("user_id=1", {first}), ("user_id=9", set()),
        ("user_id=1&state=expired", set()), ("user_id=x", {first, second}),
    ):  # fmt: skip
        page = pages.page(f"/admin/purchases?{query}")
        assert {number for number in (first, second) if f"/{number}" in page} == found, query
    assert "test mode" in pages.words("/admin/purchases?q=ann")
    assert "Only account 1 ." in pages.words("/admin/purchases?user_id=1")
    assert f'href="/admin/purchases/{first}"' in pages.page("/admin/users/1")


def test_typed_and_stored_data_is_shown_as_text(pages: Panel) -> None:
    [number] = make(pages, email="<script>alert(1)</script>@example.com")
    with pages.app.app_context(), transaction() as session:
        session.execute(
            text("UPDATE orders SET pack = :evil, last_error = :evil, provider_status = :evil,"
                 " checkout_id = :evil, payment_id = :evil"), {"evil": XSS}
        )  # fmt: skip
    for path in (f"/admin/purchases?q={XSS.replace('<', '%3C')}", "/admin/purchases",
                 f"/admin/purchases/{number}"):  # fmt: skip
        pages.page(path)


@pytest.mark.parametrize("state", OrderState)
def test_every_state_has_a_page(pages: Panel, state: str) -> None:
    [number] = make(pages, state=state)
    assert number in pages.words(f"/admin/purchases/{number}")


def test_one_with_all_about_it(pages: Panel) -> None:
    with pages.app.app_context(), transaction() as session:
        user = factories.user("ann@example.com", paid_tokens=1000)
        order = make_order(user.id, state="disputed")
        order.credited_at, order.approved, order.livemode = datetime.now(UTC), True, True
        order.reversed_minor, order.refunded_minor, order.tokens_taken = 50, 50, 250
        for kind, state, active in (("refund", "succeeded", True), ("dispute", "won", False)):
            session.add(
                PaymentReversal(order_id=order.id, kind=kind, provider="stripe", amount_minor=50,
                                state=state, active=active, actor="cli:root", provider_id=kind)
            )  # fmt: skip
        cases.raise_case(
            CaseKind.SECOND_CHECKOUT,
            provider="stripe",
            checkout_id="cs",
            order_id=order.id,
            detail="Twice.",
        )
        webhook_inbox.record(ReceivedEvent("stripe", "evt_1", "charge.refunded", "ch_1"))
        session.execute(text("UPDATE webhook_events SET order_id = :id"), {"id": order.id})
        factories.mail("receipt", user_id=user.id).payload = {"number": order.number}
        factories.mail("low_balance", user_id=user.id)
        number, user_id = order.number, user.id
    page = pages.page(f"/admin/purchases/{number}")
    words = pages.words(f"/admin/purchases/{number}")
    for sentence in (
        "ann@example.com", "1,000 tokens for $2.00", "by an operator's decision",
        "Given back $0.50", "250 tokens", "refund succeeded $0.50 cli:root",
        "dispute won no tokens taken back",
        "Case 1: paid twice . Twice. Needs a decision.", "charge.refunded pending",
        "receipt pending", "At most $1.50",
    ):  # fmt: skip
        assert sentence in words, sentence
    assert "low balance" not in words
    for path in (
        f"/admin/users/{user_id}",
        "/admin/cases/1",
        "/admin/webhooks/1",
        "/admin/outbox/1",
    ):
        assert f'href="{path}"' in page


def test_a_purchase_of_a_deleted_account(pages: Panel) -> None:
    with pages.app.app_context(), transaction():
        order = make_order(None, state="paid")
        order.credited_at = datetime.now(UTC)
        number = order.number
    words = pages.words(f"/admin/purchases/{number}")
    assert "Account deleted" in words and "No events received for this purchase." in words


def test_there_must_be_such_a_purchase(pages: Panel) -> None:
    for path in ("P-1", "P-2222-2222-2222", "%00", "x" * 300):
        pages.page(f"/admin/purchases/{path}", 404)
        pages.page(f"/admin/purchases/{path}/refund?amount=1", 404)


def test_a_provider_that_is_not_configured_is_not_called(pages: Panel) -> None:
    [number] = make(pages)
    assert "Check with Stripe now" not in pages.words(f"/admin/purchases/{number}")
    with pages.app.app_context(), transaction():
        user_id = orders.find(number).user_id
    fields = {"csrf_token": pages.token(), "user_id": str(user_id)}
    shown = pages.post(f"/admin/purchases/{number}/check", fields, 400)
    assert "no longer configured" in shown and pages.audited() == []


def test_asking_the_provider_applies_what_it_says(shop: Shop, shop_pages: Panel) -> None:
    user_id = shop.account()
    number = shop.order_of(shop.buy(user_id))["number"]
    path = f"/admin/purchases/{number}"
    fields = shop_pages.form(path, f"{path}/check")
    location = shop_pages.post(f"{path}/check", fields)
    assert "has been fetched and applied" in shop_pages.words(location)
    assert shop.orders()[0]["state"] == "paid" and shop.paid_tokens(user_id) == 25_000_000
    assert shop_pages.audited() == [
        ("payment.check", user_id, number, {"state": "open"}, {"state": "paid"})
    ]
    # The message appears on this purchase's page only.
    newest = shop.order_of(shop.order(user_id))["number"]
    act = location.rpartition("=")[2]
    shown = shop_pages.words(f"/admin/purchases/{newest}?act={act}")
    assert "has been fetched and applied" not in shown


def test_a_provider_that_does_not_answer(shop: Shop, shop_pages: Panel) -> None:
    number = shop.order_of(shop.buy(shop.account()))["number"]
    shop.stripe.set_fault(status=500)
    path = f"/admin/purchases/{number}"
    location = shop_pages.post(f"{path}/check", shop_pages.form(path, f"{path}/check"))
    assert "The check with the provider failed" in shop_pages.words(location)
    assert shop.orders()[0]["state"] == "open"
