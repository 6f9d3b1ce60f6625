"""The two webhook routes: they store or refuse an event and do nothing else."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import redis
from flask import Flask
from werkzeug.test import TestResponse

from promptly.extensions import db
from promptly.models import WebhookEvent
from promptly.secret import Secret
from tests.conftest import AppFactory
from tests.invariants.test_keys_stay_secret import everything_in, everything_in_redis
from tests.support.races import together
from tests.support.signing import (
    BTCPAY_SECRET,
    CONFIGURED,
    STRIPE_SECRET,
    btcpay_headers,
    encode,
    invoice_event,
    snapshot,
    stripe_headers,
    thin,
)


def to_stripe(app: Flask, event: Any, **signing: Any) -> TestResponse:
    body = event if isinstance(event, bytes) else encode(event)
    headers = stripe_headers(body, **signing)
    return app.test_client().post("/stripe/webhook", data=body, headers=headers)


def to_btcpay(app: Flask, event: Any, **signing: Any) -> TestResponse:
    body = event if isinstance(event, bytes) else encode(event)
    headers = btcpay_headers(body, **signing)
    return app.test_client().post("/btcpay/webhook", data=body, headers=headers)


def stored(app: Flask) -> list[tuple[str, str, str | None, str]]:
    with app.app_context():
        rows = db.session.query(WebhookEvent).order_by(WebhookEvent.id).all()
        return [(row.event_id, row.type, row.object_id, row.state) for row in rows]


def test_events_are_stored_and_queued_once(shop: Flask, redis_url: str) -> None:
    for _ in range(3):
        assert to_stripe(shop, snapshot()).status_code == 200
        assert to_stripe(shop, thin()).status_code == 200
        assert to_btcpay(shop, invoice_event()).status_code == 200
    repeated = invoice_event("d2", originalDeliveryId="d1", isRedelivery=True)
    assert to_btcpay(shop, repeated).status_code == 200
    assert stored(shop) == [
        ("evt_1", "checkout.session.completed", "cs_1", "pending"),
        ("evt_thin", "charge.refunded", "ch_1", "pending"),
        ("d1", "InvoiceSettled", "inv1", "pending"),
    ]
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen("payments") == 3
    # Only ids of an event's content are kept.
    assert "amount_total" not in everything_in_redis(redis_url)


def test_nothing_of_an_events_content_is_kept(shop: Flask, shop_database: str) -> None:
    event = snapshot()
    event["data"]["object"] |= {"customer_details": {"email": "ada@example.com"}}
    assert to_stripe(shop, event).status_code == 200
    assert "ada@example.com" not in everything_in(shop_database)


def test_each_of_several_secrets_is_good(shop: Flask) -> None:
    assert to_stripe(shop, snapshot("evt_1"), secret="whsec_old").status_code == 200
    assert to_stripe(shop, snapshot("evt_2"), secret=STRIPE_SECRET).status_code == 200
    assert len(stored(shop)) == 2


def header(value: str | None) -> dict[str, str]:
    return {} if value is None else {"Stripe-Signature": value, "BTCPay-Sig": value}


BODY = encode(snapshot())


@pytest.mark.parametrize("path", ["/stripe/webhook", "/btcpay/webhook"])
@pytest.mark.parametrize(
    "headers",
    [
        header(None),
        header(""),
        header("t=,v1="),
        header("t=x,v1=00"),
        header("t=1700000000,v0=00"),
        header("v1=00"),
        header("t=1700000000,v1=é"),
        header("\xff\xfe"),
        header("sha256="),
        header("sha256=" + "0" * 64),
        stripe_headers(BODY, secret="another"),
        stripe_headers(BODY, age_seconds=301),
        stripe_headers(BODY + b" "),
        btcpay_headers(BODY, secret="another"),
        btcpay_headers(BODY, secret=""),
        btcpay_headers(BODY + b" "),
        {"BTCPay-Sig": btcpay_headers(BODY)["BTCPay-Sig"].removeprefix("sha256=")},
    ],
)
def test_events_not_signed_by_the_provider_are_refused(
    shop: Flask, path: str, headers: dict[str, str]
) -> None:
    answer = shop.test_client().post(path, data=BODY, headers=headers)
    assert answer.status_code == 400
    assert "signature" in answer.text and answer.mimetype == "text/plain"
    assert stored(shop) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"{}",
        BODY[:-5],
        b"[" + BODY + b"]",
        encode(snapshot(object="list")),
        encode(snapshot(object=None)),
        encode({**snapshot(), "id": None}),
        encode({**snapshot(), "id": ""}),
        encode({**snapshot(), "id": "e" * 256}),
        encode({**snapshot(), "id": "evt_\0"}),
        encode(snapshot(type=7)),
        encode(snapshot(data=None)),
        encode(snapshot(data={"object": []})),
        encode(snapshot(data={"object": {}})),
        encode(thin(related_object=None)),
        encode(thin(related_object={"type": "charge"})),
    ],
)
def test_what_is_signed_but_no_event_is_refused_by_stripes_route(shop: Flask, body: bytes) -> None:
    assert to_stripe(shop, body).status_code == 400
    assert stored(shop) == []


def test_a_body_that_is_not_text(shop: Flask) -> None:
    headers = stripe_headers(BODY)
    answer = shop.test_client().post("/stripe/webhook", data=b"\xff\xfe" + BODY, headers=headers)
    assert answer.status_code == 400
    assert to_btcpay(shop, b"\xff\xfe").status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        encode(invoice_event())[:-5],
        encode(invoice_event(invoiceId=None)),
        encode(invoice_event(type=None)),
        encode({"type": "InvoiceSettled", "invoiceId": "inv1", "storeId": "store1"}),
    ],
)
def test_what_is_signed_but_no_event_is_refused_by_btcpays_route(shop: Flask, body: bytes) -> None:
    assert to_btcpay(shop, body).status_code == 400
    assert stored(shop) == []


@pytest.mark.parametrize(
    ("send", "event", "reason"),
    [
        (to_stripe, snapshot(type="invoice.paid"), "type"),
        (to_stripe, snapshot(type="balance.available", data={"object": {}}), "type"),
        (to_stripe, snapshot(type="balance.available", data=None), "type"),
        (to_stripe, thin(type="v2.core.health.event", related_object=None), "type"),
        (to_stripe, snapshot(livemode=True), "mode"),
        (to_stripe, snapshot(livemode=None), "mode"),
        (to_stripe, snapshot(account="acct_other"), "account"),
        (to_stripe, thin(context="acct_other"), "account"),
        (to_btcpay, invoice_event(type="PayoutCreated", invoiceId=None), "type"),
        (to_btcpay, invoice_event(type="InvoiceCreated"), "type"),
        (to_btcpay, invoice_event(storeId="another"), "store"),
    ],
)
def test_ignored_events_are_stored_with_the_reason(
    shop: Flask, send: Callable[[Flask, Any], TestResponse], event: dict[str, Any], reason: str
) -> None:
    assert send(shop, event).status_code == 200
    with shop.app_context():
        row = db.session.query(WebhookEvent).one()
        assert row.state == "ignored" and reason in (row.reason or "")


@pytest.mark.parametrize(
    "missing",
    ["stripe_secret_key", "stripe_webhook_secret", "btcpay_webhook_secret", "btcpay_api_key"],
)
def test_without_a_secret_the_route_answers_404(app_factory: AppFactory, missing: str) -> None:
    empty: Any = () if missing == "stripe_webhook_secret" else Secret("")
    app = app_factory(**{**CONFIGURED, missing: empty})
    send = to_stripe if missing.startswith("stripe") else to_btcpay
    event = snapshot() if missing.startswith("stripe") else invoice_event()
    # An empty secret yields valid signatures too: it must not be accepted.
    for secret in ("", STRIPE_SECRET, BTCPAY_SECRET):
        assert send(app, event, secret=secret).status_code == 404
    assert stored(app) == []


def test_a_body_that_is_too_large(shop: Flask) -> None:
    body = encode(snapshot(padding="x" * 300_000))
    assert to_stripe(shop, body).status_code == 413
    assert stored(shop) == []


def test_twenty_copies_at_once_are_one_event(shop: Flask) -> None:
    answers = together(shop, *[partial(to_stripe, shop, snapshot())] * 20)
    assert [answer.status_code for answer in answers] == [200] * 20
    assert len(stored(shop)) == 1


def test_without_redis_events_are_stored_all_the_same(app_factory: AppFactory) -> None:
    app = app_factory(**CONFIGURED, redis_url="redis://127.0.0.1:1/0")
    assert to_stripe(app, snapshot()).status_code == 200
    assert to_btcpay(app, invoice_event()).status_code == 200
    assert [row[3] for row in stored(app)] == ["pending", "pending"]


def test_without_postgresql_the_provider_shall_try_again(app_factory: AppFactory) -> None:
    app = app_factory(**CONFIGURED, database_url="postgresql://nobody@127.0.0.1:1/none")
    assert to_stripe(app, snapshot()).status_code == 503
    assert to_btcpay(app, invoice_event()).status_code == 503
