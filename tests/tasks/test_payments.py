"""Payment tasks are safe to run twice, concurrently, and without providers."""

from collections.abc import Iterator

import pytest
from flask import Flask

import celeryconfig
from promptly.tasks import payments
from sandbox.btcpay import SimulatedBTCPay
from sandbox.stripe import SimulatedStripe
from tests.conftest import AppFactory
from tests.support.races import run, together
from tests.support.shop import Shop, Site, configuration

TOKENS = 25_000_000


@pytest.fixture
def shop(
    app_factory: AppFactory, stripe_server: SimulatedStripe, btcpay_server: SimulatedBTCPay
) -> Iterator[Shop]:
    app = app_factory(**configuration(stripe_server, btcpay_server))
    site = Site(app)
    shop = Shop(app, site.url, stripe_server, btcpay_server)
    shop.open()
    yield shop
    site.stop()


def shop_without_providers(app: Flask) -> Shop:
    """Return a shop to read and change the tables of; it can neither sell nor reconcile."""
    return Shop(app, "", None, None)  # type: ignore[arg-type]  # both are unused


def delivered(shop: Shop) -> None:
    shop.stripe.wait_until_quiet()
    shop.btcpay.wait_until_quiet()


def test_an_event_is_handled_by_the_first_to_take_it(shop: Shop) -> None:
    user_id = shop.account()
    shop.buy(user_id)
    delivered(shop)
    [event] = shop.events()
    together(
        shop.app,
        *[lambda: payments.handle_event.run(event["id"])] * 5,
        *[payments.sweep.run] * 3,
    )
    run(shop.app, payments.sweep)
    run(shop.app, payments.handle_event, event["id"])
    assert [row["state"] for row in shop.events()] == ["handled"]
    assert shop.paid_tokens(user_id) == TOKENS
    assert shop.mails() == ["receipt"]


def test_a_returning_customer_is_credited_before_the_webhook_comes(shop: Shop) -> None:
    shop.stripe.set_rule("drop")
    user_id = shop.account()
    page = shop.order(user_id)
    order_id = shop.order_of(page)["id"]
    run(shop.app, payments.check_order, order_id)
    assert shop.history(user_id) == ["open"]
    shop.stripe.pay(page)
    together(shop.app, *[lambda: payments.check_order.run(order_id)] * 4)
    run(shop.app, payments.check_order, order_id)
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["paid"], TOKENS)


def test_a_check_while_the_provider_is_away_does_no_harm(shop: Shop) -> None:
    user_id = shop.account()
    page = shop.buy(user_id)
    delivered(shop)
    shop.stripe.set_fault("GET *", status=500)
    run(shop.app, payments.check_order, shop.order_of(page)["id"])
    shop.stripe.clear_faults()
    run(shop.app, payments.sweep)
    assert shop.history(user_id) == ["paid"]


def test_reconciliation_by_beat(shop: Shop) -> None:
    shop.stripe.set_rule("drop")
    shop.btcpay.set_rule("drop")
    user_id = shop.account()
    shop.buy(user_id)
    shop.buy(user_id, method="btcpay")
    together(shop.app, *[payments.reconcile.run] * 3)
    run(shop.app, payments.reconcile)
    assert shop.history(user_id) == ["paid", "paid"]
    rows = shop.rows("SELECT * FROM payment_reconciliations")
    assert {row["actor"] for row in rows} == {"system"}
    assert all(row["complete"] and row["finished_at"] for row in rows)
    assert shop.differences() == []


def test_a_lost_webhook_is_credited_within_fifteen_minutes() -> None:
    every = celeryconfig.beat_schedule["payments-reconcile"]["schedule"]
    assert isinstance(every, float) and every <= 600


def test_without_providers_the_tasks_do_nothing(app: Flask) -> None:
    run(app, payments.sweep)
    run(app, payments.reconcile)
    run(app, payments.purge)
    shop = shop_without_providers(app)
    assert shop.rows("SELECT * FROM payment_reconciliations") == []


def test_events_of_a_provider_that_was_taken_away_are_parked(app: Flask) -> None:
    shop = shop_without_providers(app)
    shop.rows("""
        INSERT INTO webhook_events (provider, event_id, type, object_id)
        VALUES ('stripe', 'evt_1', 'checkout.session.completed', 'cs_1')
    """)
    run(app, payments.sweep)
    [event] = shop.events()
    assert (event["state"], event["reason"]) == (
        "parked",
        "the provider is no longer configured",
    )


def test_old_events_and_reports_are_forgotten(app: Flask) -> None:
    shop = shop_without_providers(app)
    shop.rows("""
        INSERT INTO webhook_events (provider, event_id, type, state, received_at)
        SELECT 'stripe', 'e' || n, 't', 'handled', now() - make_interval(days => n)
        FROM generate_series(1, 200) n
    """)
    shop.rows("""
        INSERT INTO payment_reconciliations (actor, started_at, leased_until)
        SELECT 'system', now() - make_interval(days => n), now() FROM generate_series(1, 200) n
    """)
    together(app, *[payments.purge.run] * 3)
    run(app, payments.purge)
    assert len(shop.events()) == len(shop.rows("SELECT 1 FROM payment_reconciliations")) == 89
