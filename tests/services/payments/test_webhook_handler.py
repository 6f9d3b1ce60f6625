"""Events that are forged, concern no order of ours, or arrive while a provider or we fail."""

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from promptly.services.payments import circuit_breaker, orders, sync, webhook_handler, webhook_inbox
from promptly.services.payments.sync import Synced
from promptly.transactions import transaction
from sandbox.btcpay import forgeries as btcpay_forgeries
from sandbox.stripe import forgeries as stripe_forgeries
from tests.support.shop import Shop

TOKENS = 25_000_000


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("kind", stripe_forgeries.KINDS)
def test_no_forged_event_of_stripes_credits(shop: Shop, kind: str, thin: bool) -> None:
    user_id = shop.account()
    page = shop.order(user_id)
    sent = shop.stripe.forge(kind, session=page, thin=thin)
    # The simulator's thin event always has a type, if only an unknown one.
    stored = kind in stripe_forgeries.FOREIGN or (kind, thin) == ("no_type", True)
    assert sent["status"] == (200 if stored else 400), sent
    shop.work()
    assert len(shop.events()) == stored
    # Signed, well-formed forgeries make us ask the provider, which reports no payment.
    assert {event["state"] for event in shop.events()} <= {"ignored", "parked", "handled"}
    assert all(event["reason"] or event["state"] == "handled" for event in shop.events())
    assert (shop.order_of(page)["state"], shop.paid_tokens(user_id)) == ("open", 0)


@pytest.mark.parametrize("kind", btcpay_forgeries.KINDS)
def test_no_forged_event_of_btcpays_credits(shop: Shop, kind: str) -> None:
    user_id = shop.account()
    page = shop.order(user_id, method="btcpay")
    sent = shop.btcpay.forge(kind, invoice=page)
    stored = kind in btcpay_forgeries.FOREIGN
    assert sent["status"] == (200 if stored else 400), sent
    shop.work()
    assert {event["state"] for event in shop.events()} <= {"ignored", "parked", "handled"}
    assert (shop.order_of(page)["state"], shop.paid_tokens(user_id)) == ("open", 0)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"amount_total": 100}, "amount"),
        ({"amount_total": 20_000}, "amount"),
        ({"currency": "eur"}, "currency"),
        ({"livemode": True}, "livemode"),
    ],
)
def test_an_event_that_stripe_contradicts_is_parked(
    shop: Shop, changes: dict[str, object], kind: str
) -> None:
    user_id = shop.account()
    page = shop.order(user_id)
    shop.stripe.alter(page, **changes)
    shop.stripe.pay(page)
    shop.stripe.wait_until_quiet()
    shop.work()
    assert [case["kind"] for case in shop.cases()] == [kind]
    assert (shop.order_of(page)["state"], shop.paid_tokens(user_id)) == ("attention", 0)


def test_an_event_that_btcpay_contradicts_is_parked(shop: Shop) -> None:
    user_id = shop.account()
    page = shop.order(user_id, method="btcpay")
    shop.btcpay.alter(page, amount="0.01")
    shop.btcpay.pay(page)
    shop.btcpay.wait_until_quiet()
    shop.work()
    assert [case["kind"] for case in shop.cases()] == ["amount"]
    assert shop.paid_tokens(user_id) == 0


def test_thin_events_lead_to_the_same(shop: Shop) -> None:
    user_id = shop.account()
    page = shop.order(user_id)
    endpoint = f"{shop.site_url}/stripe/webhook"
    shop.stripe.set_endpoint(endpoint, thin=True)
    try:
        shop.stripe.pay(page)
        shop.stripe.refund(shop.stripe.charge_of(page), 100)
        shop.stripe.wait_until_quiet()
    finally:
        shop.stripe.set_endpoint(endpoint)
    shop.work()
    order = shop.order_of(page)
    assert (order["state"], order["tokens_taken"]) == ("partly_refunded", 12_500_000)
    assert {event["state"] for event in shop.events()} == {"handled"}


def test_money_of_another_shop_in_the_same_stripe_account_is_ignored(shop: Shop) -> None:
    page = shop.order(shop.account())
    shop.stripe.alter(page, metadata={"order": "someone-elses"}, id=page)
    shop.rows("DELETE FROM orders")
    shop.stripe.pay(page)
    shop.stripe.wait_until_quiet()
    shop.work()
    [event] = shop.events()
    assert (event["state"], event["reason"]) == ("ignored", "promptly did not create the page")
    assert shop.cases() == []


def test_money_for_an_order_that_is_not_here_is_a_case(shop: Shop) -> None:
    """As after restoring an old backup."""
    page = shop.order(shop.account())
    shop.rows("DELETE FROM orders")
    shop.stripe.pay(page)
    shop.stripe.wait_until_quiet()
    shop.work()
    shop.reconcile()
    [event] = shop.events()
    assert event["state"] == "parked" and "there is no order P-" in event["reason"]
    [case] = shop.cases()
    assert (case["kind"], case["paid_minor"], case["order_id"]) == ("unknown_order", 200, None)


@pytest.mark.parametrize(
    "route", ["GET /v1/checkout/sessions/*", "GET /v1/refunds", "GET /v1/disputes"]
)
@pytest.mark.parametrize(
    "values", [{"status": 500}, {"status": 401}, {"status": 429}, {"cut": True}]
)
def test_events_wait_while_stripe_is_away(
    shop: Shop, route: str, values: dict[str, object]
) -> None:
    user_id = shop.account()
    page = shop.buy(user_id)
    shop.stripe.wait_until_quiet()
    shop.stripe.set_fault(route, **values)
    shop.work()
    [event] = shop.events()
    assert (event["state"], event["attempts"], shop.paid_tokens(user_id)) == ("pending", 1, 0)
    assert "Stripe" in event["reason"] and event["leased_by"] is None
    assert shop.order_of(page)["leased_by"] is None
    shop.stripe.clear_faults()
    shop.rows("UPDATE webhook_events SET next_at = now()")
    shop.work()
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["paid"], TOKENS)


def test_events_wait_while_btcpay_is_away(shop: Shop) -> None:
    user_id = shop.account()
    shop.buy(user_id, method="btcpay")
    shop.btcpay.wait_until_quiet()
    shop.btcpay.set_fault("GET /api/v1/stores/*", status=502)
    shop.work()
    assert {event["state"] for event in shop.events()} == {"pending", "ignored"}
    shop.btcpay.clear_faults()
    shop.rows("UPDATE webhook_events SET next_at = now()")
    shop.work()
    assert shop.paid_tokens(user_id) == TOKENS


def test_a_provider_that_hangs_does_not_keep_the_workers_waiting(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mail and the recovery of dead requests share the Celery workers with payments."""
    monkeypatch.setattr("promptly.clients.stripe.READ_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(circuit_breaker, "SLOW_SECONDS", 0.2)
    users = [shop.account() for _ in range(8)]
    for user_id in users:
        shop.buy(user_id)
    shop.buy(users[0], method="btcpay")
    shop.stripe.wait_until_quiet()
    shop.btcpay.wait_until_quiet()
    shop.stripe.pause()
    shop.work()
    shop.stripe.resume()
    # One event ran into the timeout, the others were postponed; BTCPay's is handled.
    attempts = [row["attempts"] for row in shop.events() if row["provider"] == "stripe"]
    assert sorted(attempts) == [0] * 7 + [1]
    assert shop.paid_tokens(users[0]) == TOKENS
    circuit_breaker.reset()
    shop.rows("UPDATE webhook_events SET next_at = now()")
    shop.work()
    assert [shop.paid_tokens(user_id) for user_id in users] == [2 * TOKENS] + [TOKENS] * 7


def test_retries_wait_longer_and_end(shop: Shop) -> None:
    shop.buy(shop.account())
    shop.stripe.wait_until_quiet()
    shop.stripe.set_fault("GET /v1/checkout/sessions/*", status=400)
    waits = []
    for _ in range(webhook_inbox.MAX_ATTEMPTS):
        shop.rows("UPDATE webhook_events SET next_at = now()")
        shop.work()
        [row] = shop.rows("SELECT extract(epoch FROM next_at - now()) AS wait FROM webhook_events")
        waits.append(float(row["wait"]))
    [event] = shop.events()
    assert event["state"] == "parked" and "given up after" in event["reason"]
    assert [round(wait) for wait in waits[:3]] == [10, 20, 40]
    assert max(waits) <= webhook_inbox.LONGEST_DELAY_SECONDS
    # An operator's replay, or reconciliation, can still apply it.
    shop.stripe.clear_faults()
    with shop.app.app_context(), transaction():
        webhook_inbox.replay(event["id"])
    shop.work()
    assert shop.order_of(shop.orders()[0]["checkout_id"])["state"] == "paid"


def test_an_event_waits_while_its_order_is_being_processed(shop: Shop) -> None:
    user_id = shop.account()
    page = shop.buy(user_id)
    shop.stripe.wait_until_quiet()
    order = shop.order_of(page)
    with shop.app.app_context():
        with transaction():
            lease = orders.lease(order["id"])
            assert lease is not None and orders.lease(order["id"]) is None
        assert webhook_handler.handle(shop.settings)
        [event] = shop.events()
        assert (event["state"], event["attempts"], event["order_id"]) == ("pending", 0, order["id"])
        assert not webhook_handler.handle(shop.settings)
        with transaction():
            held = orders.locked_by(order["id"], lease.holder)
            assert held is not None
            orders.release(held)
            webhook_inbox.wake(order["id"])
        assert webhook_handler.handle(shop.settings)
    assert shop.paid_tokens(user_id) == TOKENS


def test_an_event_whose_order_is_free_again_is_handled_at_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_id = shop.account()
    page = shop.buy(user_id)
    shop.stripe.wait_until_quiet()
    order = shop.order_of(page)
    really_sync = sync.sync

    def meanwhile_released(*given: Any) -> Synced | None:
        found = really_sync(*given)
        assert lease is not None
        with transaction():
            held = orders.locked_by(order["id"], lease.holder)
            assert held is not None
            orders.release(held)
            # The event is leased by this handler, so `wake` skips it.
            webhook_inbox.wake(order["id"])
        return found

    with shop.app.app_context():
        with transaction():
            lease = orders.lease(order["id"])
            assert lease is not None
        with monkeypatch.context() as patched:
            patched.setattr("promptly.services.payments.sync.sync", meanwhile_released)
            assert webhook_handler.handle(shop.settings)
        [event] = shop.events()
        assert (event["state"], event["attempts"], event["leased_by"]) == ("pending", 0, None)
        assert webhook_handler.handle(shop.settings)
    assert shop.paid_tokens(user_id) == TOKENS


def test_a_fault_of_our_own_is_tried_again_with_patience(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_id = shop.account()
    shop.buy(user_id)
    shop.stripe.wait_until_quiet()

    def broken(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr("promptly.services.payments.credit.credit", broken)
        with shop.app.app_context(), pytest.raises(KeyError):
            webhook_handler.handle(shop.settings)
    [event] = shop.events()
    assert (event["state"], event["reason"]) == ("pending", "unexpected: KeyError")
    # Once the failed attempt's lease on the order expires, the retry succeeds.
    shop.rows("UPDATE orders SET leased_until = now()")
    shop.rows("UPDATE webhook_events SET next_at = now()")
    shop.work()
    assert shop.paid_tokens(user_id) == TOKENS


def test_old_events_are_forgotten(app: Flask) -> None:
    with app.app_context(), transaction() as session:
        session.execute(
            text("""
                INSERT INTO webhook_events (provider, event_id, type, state, received_at)
                SELECT 'stripe', 'e' || n, 't', 'handled', now() - make_interval(days => n)
                FROM generate_series(81, 101, 5) n
            """)
        )
        session.execute(text("UPDATE webhook_events SET state = 'pending' WHERE event_id = 'e101'"))
        assert webhook_inbox.purge(90) == 2
        left = session.scalars(text("SELECT event_id FROM webhook_events ORDER BY id")).all()
        # A pending event is never purged.
        assert left == ["e81", "e86", "e101"]
