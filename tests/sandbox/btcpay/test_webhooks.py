"""Webhook delivery: signatures over the raw bytes, redeliveries, and every delivery rule."""

import hashlib
import hmac
import json

import pytest

from sandbox.btcpay import SimulatedBTCPay, forgeries
from sandbox.process import SandboxError
from sandbox.provider.http import Request
from tests.sandbox.btcpay.conftest import NewInvoice, Object, validate
from tests.sandbox.receiver import Receiver


def is_signed(request: Request, secret: str) -> bool:
    digest = hmac.new(secret.encode(), request.body, hashlib.sha256).hexdigest()
    return request.headers.get("btcpay-sig") == f"sha256={digest}"


def events(receiver: Receiver) -> list[Object]:
    return [json.loads(request.body) for request in receiver.requests]


def types(receiver: Receiver) -> list[str]:
    return [event["type"].removeprefix("Invoice") for event in events(receiver)]


@pytest.fixture
def shop(btcpay: SimulatedBTCPay, receiver: Receiver) -> Receiver:
    """A shop's endpoint, subscribed to all events."""
    btcpay.set_webhook(receiver.url)
    return receiver


def test_every_step_is_reported_in_order_and_signed(
    btcpay: SimulatedBTCPay, shop: Receiver, new_invoice: NewInvoice
) -> None:
    invoice = new_invoice()
    btcpay.pay(invoice["id"], share="1.5", method="BTC-CHAIN")
    btcpay.confirm(invoice["id"])
    btcpay.wait_until_quiet()
    assert types(shop) == ["Created", "ReceivedPayment", "Processing", "PaymentSettled", "Settled"]
    assert all(is_signed(request, btcpay.webhook_secret) for request in shop.requests)
    assert shop.requests[0].body.startswith(b'{\n  "deliveryId"')
    found = events(shop)
    assert {event["invoiceId"] for event in found} == {invoice["id"]}
    assert {event["metadata"]["orderId"] for event in found} == {"order-1"}
    assert (found[-1]["overPaid"], found[-1]["manuallyMarked"]) == (True, False)
    assert found[1]["payment"]["value"] == "0.00003000"
    assert not any("status" in event or "amount" in event for event in found)
    assert validate(btcpay) == (1, 5)


def test_expiry_late_payment_and_marks(
    btcpay: SimulatedBTCPay, shop: Receiver, new_invoice: NewInvoice
) -> None:
    invoice = new_invoice()["id"]
    btcpay.pay(invoice, share="0.5")
    btcpay.advance(16 * 60)
    btcpay.pay(invoice, share="0.5", method="BTC-CHAIN")
    btcpay.mark(invoice, "Settled")
    btcpay.mark(invoice, "Invalid")
    btcpay.wait_until_quiet()
    assert types(shop) == [
        "Created",
        "ReceivedPayment",
        "PaymentSettled",
        "Expired",
        "ExpiredPaidPartial",
        "ReceivedPayment",
        "PaidAfterExpiration",
        "Settled",
        "Invalid",
    ]
    found = events(shop)
    assert (found[1]["afterExpiration"], found[5]["afterExpiration"]) == (False, True)
    assert found[3]["partiallyPaid"] is True
    assert found[-2]["manuallyMarked"] is found[-1]["manuallyMarked"] is True


@pytest.mark.parametrize(
    ("status", "attempts"), [(500, 2), (503, 2), (408, 2), (429, 2), (400, 1), (404, 1)]
)
def test_only_some_refusals_are_tried_again(
    btcpay: SimulatedBTCPay, shop: Receiver, new_invoice: NewInvoice, status: int, attempts: int
) -> None:
    shop.statuses = [status]
    new_invoice()
    btcpay.wait_until_quiet()
    found = events(shop)
    assert len(found) == attempts
    assert [event["isRedelivery"] for event in found] == [False, True][:attempts]
    assert {event["originalDeliveryId"] for event in found} == {found[0]["deliveryId"]}
    assert len({event["deliveryId"] for event in found}) == attempts
    [message] = btcpay.messages()
    assert message["state"] == ("delivered" if attempts == 2 else "failed")


def test_a_failing_delivery_holds_up_those_behind_it(
    btcpay: SimulatedBTCPay, shop: Receiver, new_invoice: NewInvoice
) -> None:
    shop.statuses = [500, 500]
    first, second = new_invoice()["id"], new_invoice()["id"]
    btcpay.wait_until_quiet()
    assert [event["invoiceId"] for event in events(shop)] == [first, first, first, second]


def test_duplicates_drops_and_other_orders(
    btcpay: SimulatedBTCPay, shop: Receiver, new_invoice: NewInvoice
) -> None:
    btcpay.set_rule("drop", types="InvoiceCreated")
    btcpay.set_rule("hold")
    btcpay.pay(new_invoice()["id"])
    states = [item["state"] for item in btcpay.messages()]
    assert states == ["dropped", "held", "held", "held", "held"]
    btcpay.release("reversed")
    assert types(shop) == ["Settled", "Processing", "PaymentSettled", "ReceivedPayment"]
    settled = btcpay.messages()[-1]["id"]
    attempts = btcpay.deliver(settled, copies=20)
    assert [item["status"] for item in attempts] == [200] * 20
    again = [event for event in events(shop) if event["originalDeliveryId"] == settled]
    assert len(again) == len({event["deliveryId"] for event in again}) == 21


@pytest.mark.parametrize("kind", forgeries.KINDS)
def test_forgeries_are_as_described(
    btcpay: SimulatedBTCPay, shop: Receiver, new_invoice: NewInvoice, kind: str
) -> None:
    btcpay.set_rule("drop")
    invoice = new_invoice()["id"]
    assert btcpay.forge(kind, invoice=invoice)["status"] == 200
    [request] = shop.requests
    assert is_signed(request, btcpay.webhook_secret) is (kind not in forgeries.UNSIGNED)
    if kind in forgeries.MALFORMED and kind not in ("array", "null", "no_invoice", "no_type"):
        with pytest.raises(ValueError):
            json.loads(request.body)
        return
    event = json.loads(request.body)
    if isinstance(event, dict):
        assert (event["invoiceId"] == invoice) is (kind not in ("foreign_invoice", "no_invoice"))
        assert (event["storeId"] == btcpay.store_id) is (kind != "other_store")


def test_an_unknown_forgery_or_no_webhook(btcpay: SimulatedBTCPay, receiver: Receiver) -> None:
    with pytest.raises(SandboxError, match="no webhook"):
        btcpay.forge("wrong_secret")
    btcpay.set_webhook(receiver.url)
    with pytest.raises(SandboxError, match="kind must be"):
        btcpay.forge("nice")
