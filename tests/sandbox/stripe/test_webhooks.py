"""Webhook delivery: signatures that the SDK accepts, retries, and every delivery rule."""

import json
import time
from typing import Any

import pytest
from stripe import SignatureVerificationError, StripeClient, Webhook, WebhookSignature

from sandbox.process import SandboxError
from sandbox.provider.http import Request
from sandbox.stripe import SimulatedStripe, forgeries
from sandbox.stripe.webhooks import EVENTS
from tests.sandbox.receiver import Receiver
from tests.sandbox.stripe.conftest import NewSession

COMPLETED = "checkout.session.completed"


def event_of(request: Request, secret: str) -> Any:
    """Return a delivery as verified and parsed by the SDK."""
    signature = request.headers["stripe-signature"]
    return Webhook.construct_event(request.body, signature, secret)


@pytest.fixture
def shop(stripe: SimulatedStripe, receiver: Receiver) -> Receiver:
    """A shop's endpoint, subscribed to the events that a shop needs."""
    stripe.set_endpoint(receiver.url)
    return receiver


def test_a_snapshot_is_delivered_as_the_sdk_expects_it(
    stripe: SimulatedStripe, client: Any, shop: Receiver, new_session: NewSession
) -> None:
    session = new_session()
    stripe.pay(session.id)
    [request] = shop.wait_for(1)
    event = event_of(request, stripe.webhook_secret)
    assert (event.type, event.livemode) == (COMPLETED, False)
    assert event.data.object.id == session.id
    assert event.data.object.payment_status == "paid"
    assert request.body.startswith(b'{\n  "id"')
    stripe.wait_until_quiet()
    assert len(shop.requests) == 1  # no event outside the subscription
    assert client.events.retrieve(event.id).data.object.id == session.id


def test_thin_notifications(
    stripe: SimulatedStripe, receiver: Receiver, new_session: NewSession
) -> None:
    stripe.set_endpoint(receiver.url, thin=True)
    session = new_session()
    stripe.pay(session.id)
    [request] = receiver.wait_for(1)
    parse = StripeClient(stripe.secret_key).parse_event_notification
    signature = request.headers["stripe-signature"]
    found: Any = parse(request.body, signature, stripe.webhook_secret)
    assert (found.type, found.related_object.id) == (f"v1.{COMPLETED}", session.id)
    assert found.related_object.url == f"/v1/checkout/sessions/{session.id}"
    assert "payment_status" not in request.body.decode()


def test_the_object_of_a_notification_can_be_fetched(
    stripe: SimulatedStripe, receiver: Receiver, new_session: NewSession
) -> None:
    """A snapshot event and a thin notification of one payment have different ids."""
    stripe.set_endpoints([{"url": receiver.url}, {"url": receiver.url, "thin": True}])
    session = new_session()
    stripe.pay(session.id)
    bodies = [json.loads(item.body) for item in receiver.wait_for(2)]
    [notification] = [item for item in bodies if item["object"] == "v2.core.event"]
    [snapshot] = [item for item in bodies if item["object"] == "event"]
    assert notification["snapshot_event"] == snapshot["id"] != notification["id"]
    client = StripeClient(stripe.secret_key, base_addresses={"api": stripe.url})
    found: Any = client.parse_event_notification_without_verification(json.dumps(notification))
    assert found.fetch_related_object().payment_status == "paid"
    stripe.wait_until_quiet()
    assert client.v1.events.retrieve(snapshot["id"]).pending_webhooks == 0


def test_while_a_secret_is_rolled_both_sign(
    stripe: SimulatedStripe, receiver: Receiver, new_session: NewSession
) -> None:
    stripe.set_endpoint(receiver.url, secrets=["whsec_old", "whsec_new"])
    stripe.pay(new_session().id)
    [request] = receiver.wait_for(1)
    for secret in ("whsec_old", "whsec_new"):
        assert event_of(request, secret).type == COMPLETED
    with pytest.raises(SignatureVerificationError):
        event_of(request, stripe.webhook_secret)


def test_refused_deliveries_are_tried_again_until_they_run_out(
    stripe: SimulatedStripe, client: Any, shop: Receiver, new_session: NewSession
) -> None:
    shop.statuses = [500, 400, 302]  # anything but a 2xx
    session = new_session()
    stripe.pay(session.id)
    shop.wait_for(4)
    stripe.wait_until_quiet()
    assert [item["status"] for item in stripe.attempts(session.id)] == [500, 400, 302, 200]
    unseen = {"delivery_success": False, "types": [COMPLETED]}
    assert client.events.list(unseen).data == []

    shop.statuses = [500] * 4
    lost = new_session()
    stripe.pay(lost.id)
    stripe.wait_until_quiet()
    assert [item["state"] for item in stripe.messages(lost.id)] == ["failed"]
    [event] = client.events.list(unseen).data
    assert event.data.object.id == lost.id
    # A delivery by hand still works; the event then counts as delivered.
    stripe.deliver(event.id)
    assert client.events.list(unseen).data == []


def test_a_delay(stripe: SimulatedStripe, shop: Receiver, new_session: NewSession) -> None:
    stripe.set_rule("delay", seconds=0.4, times=1)
    began = time.monotonic()
    stripe.pay(new_session().id)
    shop.wait_for(1)
    assert time.monotonic() - began >= 0.4


def test_duplicates_at_the_same_time(
    stripe: SimulatedStripe, shop: Receiver, new_session: NewSession
) -> None:
    shop.slow_seconds = 0.2
    stripe.set_rule("duplicate", copies=5, types=COMPLETED, times=1)
    stripe.pay(new_session().id)
    assert len({request.body for request in shop.wait_for(5)}) == 1
    stripe.wait_until_quiet()
    [message] = stripe.messages()
    attempts = stripe.deliver(message["id"], copies=20)
    assert [item["status"] for item in attempts] == [200] * 20
    assert max(item["at"] for item in attempts) < min(
        item["at"] + item["seconds"] for item in attempts
    )


def test_dropped_held_and_reordered(
    stripe: SimulatedStripe, shop: Receiver, new_session: NewSession
) -> None:
    stripe.set_rule("drop", types="checkout.session.async_payment_*")
    stripe.set_rule("hold")
    session = new_session()
    stripe.pay(session.id, delayed=True)
    stripe.settle(session.id)
    stripe.refund(stripe.charge_of(session.id), 100)
    stripe.refund(stripe.charge_of(session.id))
    states = [(item["type"], item["state"]) for item in stripe.messages()]
    assert states == [
        (COMPLETED, "held"),
        ("checkout.session.async_payment_succeeded", "dropped"),
        ("charge.refunded", "held"),
        ("charge.refunded", "held"),
    ]
    assert shop.requests == []
    stripe.release("reversed")
    found = [event_of(item, stripe.webhook_secret).to_dict() for item in shop.requests]
    refunded = [item["data"]["object"].get("amount_refunded") for item in found]
    assert refunded == [200, 100, None]


def test_release_takes_an_order(
    stripe: SimulatedStripe, shop: Receiver, new_session: NewSession
) -> None:
    stripe.set_rule("hold")
    for _ in range(3):
        stripe.pay(new_session().id)
    ids = [item["id"] for item in stripe.messages()]
    order = [ids[1], ids[2], ids[0]]
    assert [item["message"] for item in stripe.release(order)] == order
    assert [json.loads(item.body)["id"] for item in shop.requests] == order


def test_a_fresh_signature_for_a_test_that_sends_itself(
    stripe: SimulatedStripe, shop: Receiver, new_session: NewSession
) -> None:
    stripe.set_rule("drop")
    stripe.pay(new_session().id)
    signed = stripe.signed(stripe.messages()[0]["id"])
    WebhookSignature.verify_header(
        signed.body, signed.headers["Stripe-Signature"], stripe.webhook_secret, 5
    )


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("kind", forgeries.KINDS)
def test_forgeries_are_as_described(
    stripe: SimulatedStripe, shop: Receiver, new_session: NewSession, kind: str, thin: bool
) -> None:
    session = new_session()
    assert stripe.forge(kind, session=session.id, thin=thin)["status"] == 200
    [request] = shop.requests

    def verify() -> None:
        signature = request.headers.get("stripe-signature")
        WebhookSignature.verify_header(request.body, signature, stripe.webhook_secret, 300)

    if kind in forgeries.UNSIGNED:
        with pytest.raises(SignatureVerificationError):
            verify()
        return
    if kind == "not_utf8":
        with pytest.raises(UnicodeDecodeError):
            verify()
        return
    verify()
    if kind in ("truncated", "empty", "not_json"):
        with pytest.raises(ValueError):
            json.loads(request.body)
        return
    event = json.loads(request.body)
    if kind in ("array", "null"):
        assert not isinstance(event, dict)
        return
    is_thin = thin or kind == "thin_null"
    assert event["object"] == ("v2.core.event" if is_thin else "event")
    item = event["related_object"] if is_thin else event["data"]["object"]
    if kind == "thin_null":
        assert item is None
        return
    assert (item["id"] == session.id) is (kind != "foreign_session")


def test_an_unknown_forgery_is_refused(stripe: SimulatedStripe, shop: Receiver) -> None:
    with pytest.raises(SandboxError, match="kind must be"):
        stripe.forge("nice")
    assert set(EVENTS) == {
        "checkout.session.completed",
        "checkout.session.expired",
        "checkout.session.async_payment_succeeded",
        "checkout.session.async_payment_failed",
        "charge.refunded",
        "refund.failed",
        "refund.updated",
        "charge.dispute.created",
        "charge.dispute.updated",
        "charge.dispute.closed",
    }
