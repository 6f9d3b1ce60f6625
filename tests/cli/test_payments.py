"""The operator's payment commands, on one shop."""

from typing import Any

import pytest

from promptly.secret import Secret
from sandbox.btcpay import SimulatedBTCPay
from sandbox.stripe import SimulatedStripe
from tests.cli.test_commands import answer, flask
from tests.conftest import AppFactory
from tests.support.shop import Shop, configuration

TOKENS = 25_000_000


@pytest.fixture
def shop(
    app_factory: AppFactory, stripe_server: SimulatedStripe, btcpay_server: SimulatedBTCPay
) -> Shop:
    """A shop without webhooks: `payments reconcile` does all the work."""
    app = app_factory(**configuration(stripe_server, btcpay_server))
    shop = Shop(app, "", stripe_server, btcpay_server)
    shop.open()
    return shop


def test_a_purchase_from_order_to_refund(shop: Shop) -> None:
    user_id = shop.account()
    page = shop.buy(user_id)
    report = answer(shop.app, "payments", "reconcile")
    assert report["complete"] is True and report["changed"][0]["after"] == "paid"
    [row] = answer(shop.app, "payments", "list")
    assert (row["state"], row["price"], row["tokens"]) == ("paid", "$2.00", TOKENS)
    number = row["number"]
    shop.spend(user_id, TOKENS // 2)
    shown = answer(shop.app, "payments", "show", number)
    assert (shown["checkout_id"], shown["refundable"], shown["unspent"]) == (page, "$2.00", "$1.00")
    done = answer(shop.app, "payments", "refund", number, "--yes")
    assert (done["refund_state"], done["order_state"]) == ("succeeded", "partly_refunded")
    assert (done["tokens_taken"], done["tokens_owed"]) == (TOKENS // 2, 0)
    done = answer(shop.app, "payments", "refund", number, "--amount", "0.50", "--yes")
    assert done["tokens_owed"] == TOKENS // 4
    done = answer(shop.app, "payments", "refund", number, "--full", "--yes")
    assert (done["order_state"], done["tokens_owed"]) == ("refunded", TOKENS // 2)
    [owing] = answer(shop.app, "payments", "list", "--owed")
    assert owing["number"] == number
    shown = answer(shop.app, "payments", "show", number)
    assert [item["amount"] for item in shown["reversals"]] == ["$1.00", "$0.50", "$0.50"]
    assert {item["actor"].split(":")[0] for item in shown["reversals"]} == {"cli"}
    assert answer(shop.app, "payments", "list", "--state", "open") == []
    assert len(answer(shop.app, "payments", "list", "--user-id", str(user_id))) == 1
    assert answer(shop.app, "ledger", "verify")["clean"] is True
    # The output for humans.
    assert number in flask(shop.app, "payments", "list").stdout
    assert "succeeded" in flask(shop.app, "payments", "show", number).stdout
    assert "complete" in flask(shop.app, "payments", "reconcile").stdout


def test_a_refund_asks_first_and_names_what_is_wrong(shop: Shop) -> None:
    shop.buy(shop.account())
    answer(shop.app, "payments", "reconcile")
    number = shop.orders()[0]["number"]
    flask(shop.app, "payments", "refund", number, code=1)
    assert shop.rows("SELECT * FROM payment_reversals") == []
    assert (
        "amount"
        in flask(shop.app, "payments", "refund", number, "--amount", "1,5", "--yes", code=1).stderr
    )
    flask(shop.app, "payments", "refund", number, "--amount", "9.99", "--yes", code=1)
    flask(shop.app, "payments", "refund", number, "--amount", "1", "--full", "--yes", code=2)
    flask(shop.app, "payments", "refund", "P-none", "--yes", code=1)
    flask(shop.app, "payments", "show", "P-none", code=1)
    # Stripe's refusal is reported and sets the exit code.
    shop.stripe.set_fault("POST /v1/refunds", status=400)
    done = answer(shop.app, "payments", "refund", number, "--full", "--yes", code=1)
    assert done["refund_state"] == "failed" and done["refund_error"]
    # A dispute that no webhook has reported is found before anything is refunded.
    shop.stripe.open_dispute(shop.stripe.charge_of(shop.orders()[0]["checkout_id"]))
    refused = flask(shop.app, "payments", "refund", number, "--full", "--yes", code=1)
    assert "all of it was given back" in refused.stderr


def test_a_refund_by_hand(shop: Shop) -> None:
    shop.buy(shop.account(), method="btcpay")
    answer(shop.app, "payments", "reconcile")
    number = shop.orders()[0]["number"]
    done = answer(shop.app, "payments", "refund", number, "--full", "--by-hand", "--yes")
    assert (done["refund_state"], done["order_state"]) == ("by_hand", "refunded")
    refunded, reconciled = answer(shop.app, "audit", "list")
    assert (refunded["action"], refunded["subject"]) == ("payment.refund", number)
    assert (refunded["before"]["state"], refunded["after"]["state"]) == ("paid", "refunded")
    assert reconciled["action"] == "payment.reconcile"


def test_a_case_is_listed_and_resolved(shop: Shop) -> None:
    page = shop.order(shop.account(), method="btcpay")
    shop.btcpay.alter(page, expires=1)
    shop.btcpay.advance(0)
    shop.btcpay.pay(page, method="BTC-CHAIN")
    answer(shop.app, "payments", "reconcile")
    [case] = answer(shop.app, "payments", "attention")
    choices = {item["choice"]: item for item in case["choices"]}
    # Nothing is confirmed yet that a refund could give back.
    assert (case["kind"], list(choices)) == ("paid_late", ["credit", "dismiss"])
    assert choices["credit"]["tokens"] == TOKENS
    assert choices["credit"]["label"] == "Credit 25,000,000 tokens"
    arguments = ("payments", "resolve", str(case["case"]), "--choice")
    asked = flask(shop.app, *arguments, "credit", code=1).stderr
    assert "Credit 25,000,000 tokens?" in asked and "No money moves." in asked
    flask(shop.app, *arguments, "take_back", "--yes", code=1)
    unconfirmed = flask(shop.app, *arguments, "refund", "--yes", code=1)
    assert "no confirmed payment" in unconfirmed.stderr
    shop.btcpay.confirm(page)
    asked = flask(shop.app, *arguments, "refund", code=1).stderr
    assert "Refund $2.00?" in asked and "No tokens are taken: none were credited." in asked
    listed = flask(shop.app, "payments", "attention").stdout
    assert "Refund $2.00: BTCPay opens a page where the customer claims $2.00" in listed
    done = answer(shop.app, *arguments, "refund", "--note", "as asked by mail", "--yes")
    assert done["resolution"] == "refund" and done["link"].startswith(shop.btcpay.url)
    [waiting] = answer(shop.app, "payments", "refunds")
    assert (waiting["state"], waiting["link"], waiting["amount"], waiting["case"]) == (
        "offered", done["link"], "$2.00", case["case"],
    )  # fmt: skip
    assert "not claimed yet" in flask(shop.app, "payments", "refunds").stdout
    assert "already" in flask(shop.app, *arguments, "credit", "--yes", code=1).stderr
    assert answer(shop.app, "payments", "attention") == []
    shown = answer(shop.app, "payments", "show", shop.orders()[0]["number"])
    assert shown["cases"][0]["note"] == "as asked by mail"
    [resolved] = answer(shop.app, "audit", "list", "--action", "payment.resolve")
    assert (resolved["subject"], resolved["after"]["choice"]) == (str(case["case"]), "refund")


def test_webhooks(shop: Shop) -> None:
    shop.buy(shop.account())
    shop.rows("""
        INSERT INTO webhook_events (provider, event_id, type, object_id, state, reason)
        VALUES ('stripe', 'evt_1', 'checkout.session.completed', 'cs_none', 'parked', 'a reason')
    """)
    [row] = answer(shop.app, "webhooks", "list", "--state", "parked")
    assert (row["object_id"], row["reason"]) == ("cs_none", "a reason")
    assert answer(shop.app, "webhooks", "show", str(row["id"]))["event_id"] == "evt_1"
    assert answer(shop.app, "webhooks", "replay", str(row["id"]))["state"] == "pending"
    shop.work()
    shown = answer(shop.app, "webhooks", "show", str(row["id"]))
    assert shown["state"] == "parked" and "no such page" in shown["reason"]
    flask(shop.app, "webhooks", "show", "999", code=1)
    flask(shop.app, "webhooks", "replay", "999", code=1)
    assert "parked" in flask(shop.app, "webhooks", "list").stdout


def test_reconcile_says_when_it_could_not(shop: Shop) -> None:
    shop.stripe.set_fault("GET *", status=503)
    report = answer(shop.app, "payments", "reconcile", code=1)
    shop.stripe.clear_faults()
    assert report["complete"] is False and "stripe" in report["problems"][0]
    shop.rows("""
        INSERT INTO payment_reconciliations (actor, leased_until)
        VALUES ('x', now() + interval '1 minute')
    """)
    assert "already" in flask(shop.app, "payments", "reconcile", code=1).stderr


def findings(shop: Shop, app_factory: AppFactory, **values: Any) -> list[tuple[str, str]]:
    app = app_factory(**{**configuration(shop.stripe, shop.btcpay), **values})
    found = answer(app, "doctor", code=1)["findings"]  # no llama-server runs
    return [(item["level"], item["message"]) for item in found if item["check"] == "Payments"]


@pytest.mark.parametrize(
    ("values", "level", "part"),
    [
        ({}, "ok", "Stripe accepts our key"),
        ({}, "ok", "BTCPay accepts our key"),
        ({}, "warning", "starter costs $0.50"),
        ({}, "warning", "are worker and beat running"),
        ({"stripe_secret_key": Secret("sk_test_other")}, "error", "Stripe refuses our key (401)"),
        ({"btcpay_api_key": Secret("other")}, "error", "BTCPay refuses our key"),
        ({"btcpay_url": "http://127.0.0.1:1"}, "error", "BTCPay does not answer"),
        ({"stripe_webhook_secret": ()}, "error", "STRIPE_WEBHOOK_SECRET is not set"),
        ({"btcpay_store_id": "", "btcpay_webhook_secret": Secret("")}, "error",
         "BTCPAY_STORE_ID, BTCPAY_WEBHOOK_SECRET are not set"),
        ({"stripe_webhook_secret": (Secret("x"),)}, "error", "begin with whsec_"),
        ({"stripe_secret_key": Secret("pk_live_1")}, "error", "begin with sk_"),
        ({"base_url": "https://llm.example.com"}, "warning", "test mode"),
        # An unusual spelling of a loopback address.
        ({"btcpay_url": "http://127.1:1"}, "warning", "BASE_URL is local"),
        ({"stripe_secret_key": Secret("sk_live_1")}, "error", "not https"),
    ],
)  # fmt: skip
def test_doctor_looks_at_payments(
    shop: Shop, app_factory: AppFactory, values: dict[str, Any], level: str, part: str
) -> None:
    found = findings(shop, app_factory, **values)
    assert any((item[0], part in item[1]) == (level, True) for item in found), found


def test_doctor_reports_pending_work(shop: Shop) -> None:
    shop.rows("""
        INSERT INTO payment_cases (provider, checkout_id, kind, detail)
        VALUES ('stripe', 'cs_1', 'unknown_order', 'x')
    """)
    shop.rows("""
        INSERT INTO webhook_events (provider, event_id, type, state)
        VALUES ('stripe', 'evt_1', 't', 'parked')
    """)
    answer(shop.app, "payments", "reconcile")
    found = answer(shop.app, "doctor", code=1)["findings"]
    told = [item["message"] for item in found if item["check"] == "Payments"]
    assert any("1 case needs your decision" in text for text in told)
    assert any("1 webhook event is parked" in text for text in told)
    assert not any("worker and beat" in text for text in told)


def test_doctor_without_any_way_to_pay(app_factory: AppFactory) -> None:
    found = answer(app_factory(), "doctor", code=1)["findings"]
    assert any("nothing can be bought" in item["message"] for item in found)
