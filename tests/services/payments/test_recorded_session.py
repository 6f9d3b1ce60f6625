"""Everything that is sent to both providers while packs are bought and refunded in every way.

With PROMPTLY_RECORDED_CALLS set to a directory, the calls and webhooks are also written there, one
JSON object per line, so that other tools can hold them against what the providers publish.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import jsonschema

from promptly.services.payments import checkout
from sandbox.btcpay import schema
from tests.services.payments.odd_invoices import LONG_AGO, deliver, expire
from tests.support.shop import Json, Shop
from tests.support.stripe_parameters import faults_of

CHAIN, LNURL = "BTC-CHAIN", "BTC-LNURL"

# Written instead of the ids in a path.
STORE, ONE = "/api/v1/stores/{store}", "{id}"

STRIPE_CALLS = {
    "POST /v1/checkout/sessions",
    "GET /v1/checkout/sessions",
    "GET /v1/checkout/sessions/{id}",
    "GET /v1/payment_intents/{id}",
    "GET /v1/charges/{id}",
    "GET /v1/disputes/{id}",
    "GET /v1/events",
    "GET /v1/refunds",
    "GET /v1/disputes",
    "POST /v1/refunds",
    "GET /v1/radar/early_fraud_warnings/{id}",
}
BTCPAY_CALLS = {
    f"POST {STORE}/invoices",
    f"GET {STORE}/invoices",
    f"GET {STORE}/invoices/{ONE}",
    f"GET {STORE}/invoices/{ONE}/payment-methods",
    f"POST {STORE}/invoices/{ONE}/refund",
    f"GET {STORE}/pull-payments",
    "GET /api/v1/server/info",
    f"GET /api/v1/pull-payments/{ONE}",
    f"GET /api/v1/pull-payments/{ONE}/payouts",
}


def test_every_call_is_one_that_the_providers_describe(shop: Shop) -> None:
    by_card(shop)
    by_bitcoin(shop)
    shop.reconcile()
    stripe, btcpay, events = shop.stripe.requests(), shop.btcpay.requests(), shop.btcpay.attempts()
    if directory := os.environ.get("PROMPTLY_RECORDED_CALLS"):
        write(Path(directory), "stripe-calls", stripe)
        write(Path(directory), "btcpay-calls", btcpay)
        write(Path(directory), "btcpay-webhooks", events)
    assert {item["status"] for item in (*stripe, *btcpay, *events)} == {200}
    assert {f"{item['method']} {path_of(item)}" for item in stripe} >= STRIPE_CALLS
    assert {f"{item['method']} {path_of(item)}" for item in btcpay} == BTCPAY_CALLS
    assert [fault for item in stripe for fault in faults_of(item)] == []
    for item in btcpay:
        described = schema.of_answer(item["method"], item["path"], item["status"])
        jsonschema.validate(json.loads(item["answer"]), described)
    for item in events:
        event = json.loads(item["body"])
        jsonschema.validate(event, schema.EVENTS[event["type"]])
    assert {json.loads(item["body"])["type"] for item in events} >= {
        "InvoiceSettled",
        "InvoiceExpiredPaidPartial",
        "InvoicePaidAfterExpiration",
        "InvoiceInvalid",
        "InvoiceRefund",
    }


def by_card(shop: Shop) -> None:
    """Buy at once and by a delayed method, with tax, invoices and terms; refund and dispute."""
    settings = replace(
        shop.settings,
        checkout_tax="inclusive",
        checkout_invoices=True,
        terms_url="https://example.com/terms",
    )
    with shop.app.app_context():
        checkout.start(shop.account(), "pro", "stripe", settings)
    shop.stripe.pay(str(shop.orders()[-1]["checkout_id"]))
    page = shop.buy(shop.account())
    deliver(shop)
    shop.refund(shop.order_of(page)["number"], 50)
    shop.refund(shop.order_of(page)["number"])
    for succeeded in (True, False):
        delayed = shop.order(shop.account())
        shop.stripe.pay(delayed, delayed=True)
        deliver(shop)
        shop.stripe.settle(delayed, succeeded=succeeded)
    shop.stripe.expire(shop.order(shop.account()))
    disputed = shop.buy(shop.account())
    deliver(shop)
    charge = shop.stripe.charge_of(disputed)
    shop.stripe.warn_of_fraud(charge)
    shop.stripe.close_dispute(shop.stripe.open_dispute(charge)["id"], "lost")
    deliver(shop)


def by_bitcoin(shop: Shop) -> None:
    """Pay in full, too much, in part, late and without confirmation; refund each."""
    paid, over, part, late, unconfirmed = (
        shop.order(shop.account(), method="btcpay") for _ in range(5)
    )
    shop.btcpay.pay(paid, method=LNURL)
    deliver(shop)
    done = shop.refund(shop.order_of(paid)["number"])
    shop.btcpay.claim(str(done.provider_id))
    shop.reconcile()
    shop.btcpay.pay_out(str(done.provider_id))
    shop.btcpay.pay(over, share="1.5")
    shop.btcpay.pay(part, share="0.3")
    shop.btcpay.pay(part, share="0.4", method=CHAIN)
    shop.btcpay.confirm(part)
    for page in (part, late):
        expire(shop, page)
    shop.btcpay.pay(late, method=CHAIN)
    shop.btcpay.confirm(late)
    shop.btcpay.pay(unconfirmed, method=CHAIN)
    shop.btcpay.alter(unconfirmed, monitored=LONG_AGO)
    shop.btcpay.advance(0)
    deliver(shop)
    for case in shop.cases():
        choice = "refund" if case["kind"] in {"paid_over", "paid_partial", "paid_late"} else None
        shop.decide(choice or "dismiss", case["id"])
    deliver(shop)


def path_of(call: Json) -> str:
    """Return a call's path with placeholders for its ids."""
    parts = str(call["path"]).split("/")
    after = {
        "stores": "{store}",
        **dict.fromkeys(
            (
                "invoices",
                "pull-payments",
                "sessions",
                "payment_intents",
                "charges",
                "refunds",
                "disputes",
                "early_fraud_warnings",
            ),
            ONE,
        ),
    }
    named = zip(["", *parts], parts, strict=False)
    return "/".join(after.get(before, part) for before, part in named)


def write(directory: Path, name: str, items: list[Json]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(item) for item in items)
    (directory / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
