"""Checkout, driven by Stripe's own SDK and by a browser's requests."""

import re
from typing import Any

import pytest
import requests
import stripe as stripe_sdk
from stripe import InvalidRequestError
from stripe.checkout import Session

from sandbox.process import SandboxError
from sandbox.stripe import SimulatedStripe, calls
from tests.sandbox.stripe.conftest import NewSession, parameters


def url_of(session: Session) -> str:
    assert session.url is not None
    return session.url


def post(session: Session, **form: str) -> requests.Response:
    return requests.post(url_of(session), data=form, allow_redirects=False, timeout=10)


def test_a_session_is_created_shown_and_paid_by_card(
    stripe: SimulatedStripe, client: Any, new_session: NewSession
) -> None:
    session = new_session()
    assert re.fullmatch(r"cs_test_\w{58}", session.id)
    assert (session.status, session.payment_status) == ("open", "unpaid")
    assert (session.amount_total, session.currency, session.livemode) == (200, "usd", False)
    assert session.payment_intent is None
    shown = requests.get(url_of(session), timeout=10)
    assert "2.00 USD" in shown.text and 'value="ada@example.com"' in shown.text
    assert not re.search(r'(src|href)="http', shown.text)

    answer = post(session, action="pay", method="card", email="grace@example.com")
    assert answer.status_code == 303
    assert answer.headers["Location"] == f"http://shop.example/back?session={session.id}"

    paid = client.checkout.sessions.retrieve(
        session.id, {"expand": ["payment_intent.latest_charge"]}
    )
    assert (paid.status, paid.payment_status, paid.url) == ("complete", "paid", None)
    assert paid.customer_details.email == "grace@example.com"
    intent = paid.payment_intent
    assert (intent.status, intent.metadata["order"]) == ("succeeded", "1")
    assert (intent.latest_charge.amount, intent.latest_charge.paid) == (200, True)
    found = client.checkout.sessions.list({"payment_intent": intent.id})
    assert [item.id for item in found.data] == [session.id]
    assert stripe.truth_of(session.id)["held"] == 200
    assert "has been paid" in requests.get(url_of(session), timeout=10).text


@pytest.mark.parametrize("succeeded", [True, False])
def test_a_bank_debit_is_settled_later(
    stripe: SimulatedStripe, client: Any, new_session: NewSession, succeeded: bool
) -> None:
    session = new_session()
    assert post(session, action="pay", method="debit", email="a@b.example").status_code == 303
    waiting = client.checkout.sessions.retrieve(session.id)
    assert (waiting.status, waiting.payment_status) == ("complete", "unpaid")
    stripe.settle(session.id, succeeded=succeeded)
    ended = client.checkout.sessions.retrieve(session.id)
    assert ended.payment_status == ("paid" if succeeded else "unpaid")
    assert stripe.truth_of(session.id)["held"] == (200 if succeeded else 0)
    with pytest.raises(SandboxError, match="no payment"):
        stripe.settle(session.id)
    word = "succeeded" if succeeded else "failed"
    types = [event["type"] for event in stripe.events()]
    assert types.index("checkout.session.completed") < types.index(
        f"checkout.session.async_payment_{word}"
    )


def test_a_customer_may_cancel_be_declined_and_come_back(
    stripe: SimulatedStripe, client: Any, new_session: NewSession
) -> None:
    session = new_session()
    assert post(session, action="cancel").headers["Location"].endswith("/cancelled")
    declined = post(session, action="pay", method="declined", email="a@b.example")
    assert (declined.status_code, "declined" in declined.text) == (402, True)
    assert client.checkout.sessions.retrieve(session.id).status == "open"
    assert post(session, action="pay", method="card", email="a@b.example").status_code == 303
    # Pressing the button twice pays once.
    assert "has been paid" in post(session, action="pay", method="card").text
    assert stripe.truth_of(session.id)["held"] == 200


def test_sessions_expire(stripe: SimulatedStripe, client: Any, new_session: NewSession) -> None:
    by_hand, by_time, paid = new_session(), new_session(), new_session()
    stripe.pay(paid.id)
    assert client.checkout.sessions.expire(by_hand.id).status == "expired"
    with pytest.raises(InvalidRequestError, match="expired"):
        client.checkout.sessions.expire(by_hand.id)
    stripe.advance(24 * 3600 + 1)
    assert client.checkout.sessions.retrieve(by_time.id).status == "expired"
    assert client.checkout.sessions.retrieve(paid.id).status == "complete"
    assert len(stripe.events("checkout.session.expired")) == 2
    assert "Expired" in requests.get(url_of(by_time), timeout=10).text
    with pytest.raises(SandboxError, match="is expired"):
        stripe.pay(by_time.id)


def test_lists_are_filtered_and_paged(
    stripe: SimulatedStripe, client: Any, new_session: NewSession
) -> None:
    made = [new_session().id for _ in range(7)]
    stripe.pay(made[0])
    old = stripe.object(made[1])["created"] - 1000
    stripe.alter(made[1], created=old)
    sessions = client.checkout.sessions
    every = sessions.list({"limit": 3})
    assert ([item.id for item in every.data], every.has_more) == (made[:-4:-1], True)
    assert len({item.id for item in every.auto_paging_iter()}) == 7
    assert [item.id for item in sessions.list({"status": "complete"}).data] == made[:1]
    recent = sessions.list({"created": {"gte": old + 1}, "limit": 100})
    assert {item.id for item in recent.data} == set(made) - {made[1]}


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"colour": "red"}, "colour", "parameter_unknown"),
        ({"payment_intent_data": {"colour": "red"}}, "payment_intent_data[colour]", None),
        ({"line_items": [{"quantity": 1}]}, "line_items[0][price_data]", "parameter_missing"),
        ({"success_url": "shop"}, "success_url", "url_invalid"),
        ({"customer_email": "nobody"}, "customer_email", "email_invalid"),
        ({"expires_at": 5}, "expires_at", None),
        ({"client_reference_id": ""}, "client_reference_id", "parameter_invalid_empty"),
        ({"mode": "subscription"}, "mode", None),
        ({"metadata": {"order": "x" * 501}}, "metadata[order]", None),
        ({"expand": ["colour"]}, "expand", None),
        ({"automatic_tax": {"enabled": "yes"}}, "automatic_tax[enabled]", None),
        ({"invoice_creation": {"footer": "x"}}, "invoice_creation[footer]", "parameter_unknown"),
        (
            {"consent_collection": {"terms_of_service": "always"}},
            "consent_collection[terms_of_service]",
            None,
        ),
        (
            {"custom_text": {"terms_of_service_acceptance": {"message": "Agreed."}}},
            "custom_text[terms_of_service_acceptance]",
            None,
        ),
        ({"customer_creation": "never"}, "customer_creation", None),
        ({"tax_id_collection": {"required": "never"}}, "tax_id_collection[enabled]", None),
    ],
)
def test_wrong_parameters_are_refused_by_name(
    stripe: SimulatedStripe, client: Any, change: dict[str, Any], param: str, code: str | None
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        client.checkout.sessions.create(parameters(**change))
    assert caught.value.param == param
    assert code is None or caught.value.code == code


def test_prices_that_stripe_does_not_take(client: Any, new_session: NewSession) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        new_session(49)
    assert caught.value.code == "amount_too_small"
    odd = {"currency": "xau", "product_data": {"name": "gold"}, "unit_amount": 500}
    with pytest.raises(InvalidRequestError, match="currency"):
        client.checkout.sessions.create(parameters(line_items=[{"price_data": odd, "quantity": 1}]))


def test_our_parameters_are_those_of_the_sdk() -> None:
    """Stripe's SDK knows every parameter accepted here by the same name."""
    create = stripe_sdk.params.checkout.SessionCreateParams
    listing = stripe_sdk.params.checkout.SessionListParams
    pairs = [
        (calls.CREATE_SESSION, create),
        (calls.PAYMENT_INTENT_DATA, "SessionCreateParamsPaymentIntentData"),
        (calls.LINE_ITEM, "SessionCreateParamsLineItem"),
        (calls.PRICE_DATA, "SessionCreateParamsLineItemPriceData"),
        (calls.PRODUCT_DATA, "SessionCreateParamsLineItemPriceDataProductData"),
        (calls.LIST_SESSIONS, listing),
        (calls.CREATE_REFUND, stripe_sdk.params.RefundCreateParams),
        (calls.LIST_REFUNDS, stripe_sdk.params.RefundListParams),
        (calls.LIST_EVENTS, stripe_sdk.params.EventListParams),
        (calls.LIST_DISPUTES, stripe_sdk.params.DisputeListParams),
        (calls.LIST_CHARGES, stripe_sdk.params.ChargeListParams),
    ]
    for ours, theirs in pairs:
        known = getattr(stripe_sdk.params.checkout, theirs) if isinstance(theirs, str) else theirs
        assert set(ours.checks) <= set(known.__annotations__), known


def test_objects_have_the_fields_of_the_sdk(
    stripe: SimulatedStripe, new_session: NewSession
) -> None:
    """Every field is one of Stripe's; absent ones are those that Stripe shows only on demand."""
    session = new_session()
    stripe.pay(session.id)
    charge = stripe.charge_of(session.id)
    refund = stripe.refund(charge, 50)
    dispute = stripe.open_dispute(charge, status="warning_needs_response")
    shown_on_demand = {"line_items", "refunds", "level3", "account", "context"}
    for item, kind in [
        (stripe.object(session.id), stripe_sdk.checkout.Session),
        (stripe.object(stripe.object(session.id)["payment_intent"]), stripe_sdk.PaymentIntent),
        (stripe.object(charge), stripe_sdk.Charge),
        (refund, stripe_sdk.Refund),
        (dispute, stripe_sdk.Dispute),
        (stripe.events()[0], stripe_sdk.Event),
    ]:
        fields = {name for name in kind.__annotations__ if not name.startswith("_")}
        fields -= {"OBJECT_NAME"}
        assert set(item) - fields == set(), kind
        assert fields - set(item) <= shown_on_demand, kind
