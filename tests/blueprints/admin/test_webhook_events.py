"""Webhook events in the panel: the list, one event, and its replay."""

import pytest
from sqlalchemy import text

from promptly.services import paging
from promptly.services.payments import webhook_inbox
from promptly.services.payments.webhook_events import ReceivedEvent
from promptly.transactions import transaction
from tests.blueprints.admin.panel import XSS, Panel
from tests.support import factories
from tests.support.factories import order as make_order
from tests.support.shop import Shop


def record(pages: Panel, count: int = 1, provider: str = "stripe", **columns: object) -> None:
    with pages.app.app_context(), transaction() as session:
        for number in range(count):
            webhook_inbox.record(ReceivedEvent(provider, f"{provider}{number}", "a.type", "object"))
        for name, value in columns.items():
            session.execute(
                text(f"UPDATE webhook_events SET {name} = :value WHERE provider = :provider"),
                {"value": value, "provider": provider},
            )


def listed(pages: Panel, query: str = "") -> list[int]:
    page = pages.page(f"/admin/webhooks{query}")
    return [number for number in range(1, 20) if f'href="/admin/webhooks/{number}"' in page]


def test_none_yet(pages: Panel) -> None:
    assert "No events received yet." in pages.words("/admin/webhooks")
    assert "No matching events." in pages.words("/admin/webhooks?state=parked")
    for path in ("1", str(2**63 - 1), str(2**63), "x"):
        pages.page(f"/admin/webhooks/{path}", 404)


def test_the_list_page_by_page_and_filtered(pages: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    record(pages, 3)
    record(pages, 2, "btcpay", state="parked", reason="Why not.")
    assert listed(pages) == [1, 2, 3, 4, 5]
    assert listed(pages, "?state=parked") == listed(pages, "?provider=btcpay") == [4, 5]
    assert listed(pages, "?state=parked&provider=stripe") == []
    assert listed(pages, "?state=x&provider=y") == [1, 2, 3, 4, 5]
    assert "parked Why not." in pages.words("/admin/webhooks")
    monkeypatch.setattr(paging, "PAGE_SIZE", 2)
    assert [listed(pages, query) for query in ("", "?before=4", "?before=2", "?after=3")] == [
        [4, 5], [2, 3], [1], [4, 5],
    ]  # fmt: skip


def test_one_event_and_its_purchase(pages: Panel) -> None:
    record(pages)
    with pages.app.app_context(), transaction() as session:
        user = factories.user("ann@example.com")
        order = make_order(user.id)
        session.execute(text("UPDATE webhook_events SET order_id = :id"), {"id": order.id})
        number = order.number
    words = pages.words("/admin/webhooks/1")
    for sentence in ("State pending", "stripe0", f"Purchase {number} of ann@example.com",
                     "Attempts 0, next attempt", "Processed not yet"):  # fmt: skip
        assert sentence in words, sentence


def test_provider_data_is_shown_as_text(pages: Panel) -> None:
    record(pages, type=XSS, object_id=XSS, event_id=XSS, reason=XSS)
    pages.page("/admin/webhooks")
    pages.page("/admin/webhooks/1")


def test_replay_applies_what_was_parked(shop: Shop, shop_pages: Panel) -> None:
    user_id = shop.account()
    page = shop.buy(user_id)
    order = shop.order_of(page)
    with shop.app.app_context(), transaction() as session:
        webhook_inbox.record(ReceivedEvent("stripe", "evt_1", "checkout.session.completed", page))
        session.execute(
            text("UPDATE webhook_events SET state = 'parked', reason = 'it rained', attempts = 25,"
                 " order_id = :id"), {"id": order["id"]}
        )  # fmt: skip
    path = "/admin/webhooks/1"
    fields = shop_pages.form(path, f"{path}/replay")
    assert fields["user_id"] == str(user_id)
    words = shop_pages.words(shop_pages.post(f"{path}/replay", fields))
    assert "The event will be processed" in words and "State pending" in words
    assert shop_pages.audited() == [
        ("webhook.replay", user_id, "1", {"state": "parked", "attempts": 25}, {"state": "pending"})
    ]
    shop.work()
    assert shop.paid_tokens(user_id) == 25_000_000
    assert "State processed" in shop_pages.words(path)
    # A second replay credits nothing.
    shop_pages.post(f"{path}/replay", fields)
    shop.work()
    assert shop.paid_tokens(user_id) == 25_000_000


@pytest.mark.parametrize("change", [{"csrf_token": "x"}, {"user_id": "7"}])
def test_forms_that_do_not_fit(pages: Panel, change: dict[str, str]) -> None:
    record(pages, state="parked")
    path = "/admin/webhooks/1/replay"
    pages.post(path, pages.form("/admin/webhooks/1", path) | change, 400)
    assert pages.audited() == [] and "State parked" in pages.words("/admin/webhooks/1")
    assert pages.client.get(path).status_code == 405
