"""Without webhooks: our orders and the providers' lists, compared both ways and corrected."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from promptly.errors import NotFound
from promptly.models import Order, Reconciliation
from promptly.services.payments import (
    credit,
    orders,
    reconciliation,
    reconciliation_report,
    refunds,
    slices,
    sync,
    webhook_handler,
)
from promptly.services.payments.sync import Synced
from promptly.transactions import transaction
from tests.support import factories
from tests.support.races import together
from tests.support.shop import Shop

TOKENS = 25_000_000


@pytest.fixture
def deaf(shop: Shop) -> Shop:
    """A shop whose webhooks are all dropped."""
    shop.stripe.set_rule("drop")
    shop.btcpay.set_rule("drop")
    return shop


@pytest.mark.parametrize("method", ["stripe", "btcpay"])
def test_a_payment_whose_webhooks_were_lost(deaf: Shop, method: str) -> None:
    user_id = deaf.account()
    page = deaf.buy(user_id, method=method)
    report = deaf.reconcile()
    number = deaf.order_of(page)["number"]
    assert report["changed"] == [{"number": number, "before": "open", "after": "paid"}]
    assert report["complete"] and report["problems"] == []
    assert deaf.paid_tokens(user_id) == TOKENS
    assert deaf.mails() == ["receipt"]
    # The next run finds nothing to do.
    again = deaf.reconcile()
    assert (again["orders_checked"], again["changed"], again["events_missed"]) == (0, [], 0)


def test_all_that_can_become_of_a_card_payment(deaf: Shop) -> None:
    user_id = deaf.account()
    page = deaf.order(user_id)
    deaf.stripe.pay(page, delayed=True)
    deaf.reconcile()
    assert deaf.history(user_id) == ["processing"]
    deaf.stripe.settle(page)
    deaf.reconcile()
    assert (deaf.history(user_id), deaf.paid_tokens(user_id)) == (["paid"], TOKENS)
    charge = deaf.stripe.charge_of(page)
    refund = deaf.stripe.refund(charge, 100)
    report = deaf.reconcile()
    assert report["events_missed"] > 0 and report["events_handled"] >= report["events_missed"]
    assert deaf.history(user_id) == ["partly_refunded"]
    deaf.stripe.fail_refund(refund["id"])
    deaf.reconcile()
    assert deaf.history(user_id) == ["paid"]
    dispute = deaf.stripe.open_dispute(charge)
    deaf.reconcile()
    assert (deaf.history(user_id), deaf.paid_tokens(user_id)) == (["disputed"], 0)
    deaf.stripe.close_dispute(dispute["id"], "lost")
    deaf.reconcile()
    assert deaf.history(user_id) == ["charged_back"]


def test_a_debit_that_fails_and_a_page_that_expires(deaf: Shop) -> None:
    user_id = deaf.account()
    page = deaf.order(user_id)
    deaf.stripe.pay(page, delayed=True)
    deaf.stripe.settle(page, succeeded=False)
    deaf.stripe.expire(deaf.order(user_id, "pro"))
    deaf.reconcile()
    assert deaf.history(user_id) == ["expired", "failed"]
    assert deaf.paid_tokens(user_id) == 0


def test_all_that_can_become_of_an_invoice(deaf: Shop) -> None:
    user_id = deaf.account()
    page = deaf.order(user_id, method="btcpay")
    deaf.btcpay.pay(page, method="BTC-CHAIN")
    deaf.reconcile()
    assert deaf.history(user_id) == ["processing"]
    deaf.btcpay.confirm(page)
    deaf.reconcile()
    assert deaf.history(user_id) == ["paid"]
    late = deaf.order(user_id, "pro", "btcpay")
    deaf.btcpay.alter(late, expires=1)
    deaf.btcpay.advance(0)
    deaf.reconcile()
    assert deaf.history(user_id) == ["expired", "paid"]
    # Our order has expired; its late payment is found in BTCPay's list.
    deaf.btcpay.pay(late, method="BTC-CHAIN")
    deaf.reconcile()
    assert deaf.history(user_id) == ["attention", "paid"]
    deaf.btcpay.mark(late, "Settled")
    deaf.reconcile()
    assert deaf.history(user_id) == ["paid", "paid"]
    deaf.btcpay.mark(late, "Invalid")
    deaf.reconcile()
    assert deaf.history(user_id) == ["invalid", "paid"]
    assert deaf.paid_tokens(user_id) == TOKENS


def test_a_checkout_that_is_open_stays_open(deaf: Shop) -> None:
    user_id = deaf.account()
    deaf.order(user_id)
    deaf.order(user_id, method="btcpay")
    report = deaf.reconcile()
    assert (report["orders_checked"], report["changed"]) == (2, [])
    assert deaf.history(user_id) == ["open", "open"]


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("stripe", "GET /v1/checkout/sessions*"),
        ("stripe", "GET /v1/events"),
        ("btcpay", "GET /api/v1/stores/*"),
    ],
)
def test_a_provider_that_is_away_does_not_hold_up_the_other(
    deaf: Shop, name: str, route: str
) -> None:
    user_id = deaf.account()
    for method in ("stripe", "btcpay"):
        deaf.buy(user_id, method=method)
    provider = deaf.stripe if name == "stripe" else deaf.btcpay
    provider.set_fault(route, status=503)
    report = deaf.reconcile()
    assert not report["complete"] and [text.split(":")[0] for text in report["problems"]] == [name]
    other = "btcpay" if name == "stripe" else "stripe"
    assert {row["state"] for row in deaf.orders() if row["provider"] == other} == {"paid"}
    provider.clear_faults()
    assert deaf.reconcile()["complete"]
    assert deaf.history(user_id) == ["paid", "paid"]


def test_a_run_looks_back_beyond_an_incomplete_one(deaf: Shop) -> None:
    """Without marks, from before there were any, it looks back to the last complete run."""
    user_id = deaf.account()
    page = deaf.buy(user_id)
    deaf.reconcile()
    deaf.rows("DELETE FROM sweep_states")
    deaf.rows("UPDATE payment_reconciliations SET started_at = now() - interval '3 days'")
    # Since the complete run: a refund two days ago, and an incomplete run an hour ago.
    deaf.stripe.refund(deaf.stripe.charge_of(page))
    two_days_ago = deaf.stripe.events()[-1]["created"] - 2 * 86400
    for event in deaf.stripe.events():
        deaf.stripe.alter(event["id"], created=two_days_ago)
    deaf.rows(
        "INSERT INTO payment_reconciliations (actor, started_at, leased_until, finished_at)"
        " SELECT 'test', t, t, t FROM (SELECT now() - interval '1 hour' AS t) x"
    )
    deaf.reconcile()
    assert deaf.history(user_id) == ["refunded"]


def test_a_long_list_is_continued_where_the_last_run_stopped(
    deaf: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciliation, "MOST_LISTED", 3)
    monkeypatch.setattr(slices, "MOST_IN_SLICE", 3)
    pages = []
    for hours in range(8, 0, -1):
        pages.append(deaf.order(deaf.account()))
        created = deaf.stripe.object(pages[-1])["created"] - hours * 3600
        deaf.stripe.pay(pages[-1])
        deaf.stripe.alter(pages[-1], created=created)
    # Nothing but the list of pages finds them: the events are too old.
    deaf.rows("UPDATE orders SET state = 'expired'")
    for event in deaf.stripe.events():
        deaf.stripe.alter(event["id"], created=event["created"] - 40 * 86400)
    report = deaf.reconcile()
    assert any(text.startswith("stripe pages: read until 20") for text in report["problems"])
    states = [deaf.order_of(page)["state"] for page in pages]
    assert states == sorted(states, reverse=True), "the oldest first"
    assert states[0] == "paid" and states[-1] == "expired"
    runs = 1
    while not deaf.reconcile()["complete"]:
        runs += 1
        assert runs < 10
    assert {deaf.order_of(page)["state"] for page in pages} == {"paid"}
    monkeypatch.undo()
    assert deaf.reconcile()["pages_listed"] == len(pages), "each run looks back a day"


def test_each_provider_keeps_its_own_mark(deaf: Shop) -> None:
    deaf.btcpay.set_fault("GET /api/v1/stores/*", status=503)
    assert not deaf.reconcile()["complete"]
    marks = [row["name"] for row in deaf.rows("SELECT name FROM sweep_states ORDER BY name")]
    assert marks == ["payments stripe events", "payments stripe pages"]


def test_events_that_need_no_subscription_are_not_missed(deaf: Shop) -> None:
    page = deaf.buy(deaf.account())
    deaf.reconcile()
    deaf.stripe.refund(deaf.stripe.charge_of(page), 50)
    # charge.refunded belongs to the manual's list, refund.created does not.
    assert deaf.reconcile()["events_missed"] == 1
    assert {"refund.created", "charge.refunded"} <= {event["type"] for event in deaf.events()}


def test_thin_events_are_not_missed_either(shop: Shop) -> None:
    """A thin event has an id of its own, and names the one that Stripe lists."""
    shop.stripe.set_endpoint(f"{shop.site_url}/stripe/webhook", thin=True)
    shop.buy(shop.account())
    shop.stripe.wait_until_quiet()
    assert shop.reconcile()["events_missed"] == 0
    assert len({event["event_id"] for event in shop.events()}) == len(shop.events()) == 1


def test_many_open_orders_do_not_hold_up_the_lists(
    deaf: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_id = deaf.account()
    page = deaf.buy(user_id)
    deaf.rows("UPDATE orders SET state = 'expired'")
    for _ in range(9):
        deaf.order(deaf.account())
    for event in deaf.stripe.events():
        deaf.stripe.alter(event["id"], created=event["created"] - 40 * 86400)
    seconds = [0.0]

    def slow_sync(*arguments: Any) -> Synced | None:
        seconds[0] += 10
        return real(*arguments)

    real = sync.sync
    monkeypatch.setattr(sync, "sync", slow_sync)
    monkeypatch.setattr(reconciliation, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    report = deaf.reconcile()
    assert report["orders_left"] > 0 and deaf.order_of(page)["state"] == "paid", report


def test_a_silent_provider_does_not_hold_up_the_refunds_of_the_other(deaf: Shop) -> None:
    numbers = []
    for method in ("stripe", "btcpay"):
        page = deaf.buy(deaf.account(), method=method)
        deaf.reconcile()
        numbers.append(deaf.order_of(page)["number"])
    deaf.stripe.set_fault("POST /v1/refunds", status=429)
    with deaf.app.app_context(), transaction():
        for number in numbers:
            refunds.request_refund(number, amount_minor=None, actor="test")
    assert deaf.reconcile()["refunds_finished"] == 1
    states = deaf.rows("SELECT state FROM payment_reversals ORDER BY id")
    assert [row["state"] for row in states] == ["requested", "offered"]


def test_two_do_not_run_at_once(deaf: Shop) -> None:
    user_id = deaf.account()
    for pack in ("starter", "standard", "pro"):
        deaf.buy(user_id, pack)

    def run() -> bool:
        row: Reconciliation | None = reconciliation.run(deaf.settings, actor="test")
        return row is not None

    results = together(deaf.app, *[run] * 4)
    assert results.count(True) >= 1
    assert deaf.history(user_id) == ["paid"] * 3
    assert deaf.mails() == ["receipt"] * 3
    rows = deaf.rows("SELECT * FROM payment_reconciliations")
    assert len(rows) == results.count(True)


def test_a_run_that_died_is_followed_by_another(deaf: Shop) -> None:
    insert = (
        "INSERT INTO payment_reconciliations (actor, leased_until)"
        " VALUES ('dead', now() + make_interval(mins => :minutes))"
    )
    deaf.rows(insert, minutes=5)
    with deaf.app.app_context():
        assert reconciliation.run(deaf.settings, actor="test") is None
    deaf.rows("UPDATE payment_reconciliations SET leased_until = now()")
    assert deaf.reconcile()["complete"]


def test_one_order_that_is_beyond_help_does_not_hold_up_the_others(deaf: Shop) -> None:
    lost, user_id = deaf.account(), deaf.account()
    deaf.order(lost)
    deaf.rows("UPDATE orders SET checkout_id = 'cs_of_another_account'")
    deaf.buy(user_id)
    report = deaf.reconcile()
    assert (report["orders_refused"], report["complete"]) == (1, True)
    assert deaf.history(user_id) == ["paid"]
    [order] = deaf.orders(lost)
    assert order["state"] == "open" and order["last_error"]


def test_a_bug_with_one_order_does_not_hold_up_the_others(
    deaf: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = deaf.account(), deaf.account()
    deaf.buy(first)
    deaf.buy(second)
    real = credit.credit

    def broken(order: Order, **values: Any) -> bool:
        if order.user_id == first:
            raise KeyError("a bug")
        return real(order, **values)

    monkeypatch.setattr(credit, "credit", broken)
    report = deaf.reconcile()
    assert any("KeyError" in text for text in report["problems"]) and not report["complete"]
    assert deaf.history(second) == ["paid"]


def test_events_that_wait_are_handled(shop: Shop) -> None:
    user_id = shop.account()
    shop.buy(user_id)
    shop.stripe.wait_until_quiet()
    report = shop.reconcile()
    assert report["events_handled"] == 1
    assert {event["state"] for event in shop.events()} == {"handled"}
    with shop.app.app_context():
        assert not webhook_handler.handle(shop.settings)


def test_owed_tokens_are_collected_once_they_are_free(deaf: Shop) -> None:
    user_id = deaf.account()
    page = deaf.buy(user_id)
    deaf.reconcile()
    with deaf.app.app_context(), transaction():
        factories.hold(user_id, held_paid=1000)
    deaf.stripe.refund(deaf.stripe.charge_of(page))
    deaf.reconcile()
    assert deaf.order_of(page)["tokens_owed"] == 1000
    deaf.rows("UPDATE balances SET held_paid = 0, open_holds = 0")
    deaf.rows("UPDATE holds SET state = 'settled'")
    assert deaf.reconcile()["orders_collected"] == 1
    assert (deaf.order_of(page)["tokens_owed"], deaf.paid_tokens(user_id)) == (0, 0)
    assert deaf.reconcile()["orders_collected"] == 0


@pytest.mark.slow
def test_many_orders_at_once(deaf: Shop) -> None:
    """The order count exceeds one page of each provider list."""
    user_id = deaf.account()
    buy = partial(deaf.order, user_id, "starter", "stripe")
    for _ in range(110):
        deaf.stripe.pay(buy())
        # Otherwise the next click would continue it: nobody has heard of the payment yet.
        deaf.rows("UPDATE orders SET expires_at = now()")
    report = deaf.reconcile()
    assert len(report["changed"]) == reconciliation_report.MOST_CHANGES_REPORTED
    assert report["pages_listed"] == 110
    assert deaf.paid_tokens(user_id) == 110 * 5_000_000


def test_an_account_sees_only_its_own_orders(shop: Shop) -> None:
    mine, other = shop.account(), shop.account()
    shop.order(mine)
    number = str(shop.orders(mine)[0]["number"])
    with shop.app.app_context(), transaction():
        assert orders.find_own(mine, number).number == number
        with pytest.raises(NotFound):
            orders.find_own(other, number)
        assert orders.history(other).rows == []
