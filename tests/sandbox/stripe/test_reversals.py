"""Refunds and disputes, and the money that the account holds after each."""

from typing import Any

import pytest
from stripe import InvalidRequestError

from sandbox.process import SandboxError
from sandbox.stripe import SimulatedStripe
from tests.sandbox.stripe.conftest import NewSession


@pytest.fixture
def paid(stripe: SimulatedStripe, new_session: NewSession) -> dict[str, Any]:
    """A paid session of 600 cents."""
    session = new_session(600)
    stripe.pay(session.id)
    return stripe.truth_of(session.id)


def held(stripe: SimulatedStripe, paid: dict[str, Any]) -> int:
    return int(stripe.truth_of(paid["session_id"])["held"])


def test_refunds_add_up_on_the_charge(
    stripe: SimulatedStripe, client: Any, paid: dict[str, Any]
) -> None:
    charge = paid["charge_id"]
    intent = stripe.object(charge)["payment_intent"]
    client.refunds.create({"charge": charge, "amount": 100}, {"idempotency_key": "refund-1"})
    client.refunds.create({"charge": charge, "amount": 100}, {"idempotency_key": "refund-1"})
    assert held(stripe, paid) == 500
    assert client.charges.retrieve(charge).amount_refunded == 100
    with pytest.raises(InvalidRequestError, match="greater than unrefunded"):
        client.refunds.create({"charge": charge, "amount": 501})
    client.refunds.create({"payment_intent": intent, "metadata": {"order": "1"}})
    full = client.charges.retrieve(charge)
    assert (full.amount_refunded, full.refunded, held(stripe, paid)) == (600, True, 0)
    with pytest.raises(InvalidRequestError) as caught:
        client.refunds.create({"charge": charge})
    assert caught.value.code == "charge_already_refunded"
    amounts = [item.amount for item in client.refunds.list({"charge": charge}).data]
    assert amounts == [500, 100]
    events = stripe.events("charge.refunded")
    assert [item["data"]["object"]["amount_refunded"] for item in events] == [100, 600]


@pytest.mark.parametrize("lowers_charge", [True, False])
def test_a_refund_that_fails_gives_the_money_back(
    stripe: SimulatedStripe, paid: dict[str, Any], lowers_charge: bool
) -> None:
    refund = stripe.refund(paid["charge_id"], 250)
    assert held(stripe, paid) == 350
    stripe.fail_refund(refund["id"], lowers_charge=lowers_charge)
    assert held(stripe, paid) == 600
    assert stripe.object(paid["charge_id"])["amount_refunded"] == (0 if lowers_charge else 250)
    [event] = stripe.events("refund.failed")
    assert event["data"]["object"]["status"] == "failed"
    with pytest.raises(SandboxError, match="failed already"):
        stripe.fail_refund(refund["id"])


def test_a_refund_may_take_its_time(stripe: SimulatedStripe, paid: dict[str, Any]) -> None:
    refund = stripe.refund(paid["charge_id"], 250, pending=True)
    assert (refund["status"], held(stripe, paid)) == ("pending", 350)
    assert stripe.succeed_refund(refund["id"])["status"] == "succeeded"
    assert len(stripe.events("refund.updated")) == 1
    with pytest.raises(SandboxError, match="is succeeded"):
        stripe.succeed_refund(refund["id"])


def test_an_inquiry_may_become_a_dispute(stripe: SimulatedStripe, paid: dict[str, Any]) -> None:
    dispute = stripe.open_dispute(paid["charge_id"], status="warning_needs_response")["id"]
    stripe.update_dispute(dispute, "warning_under_review")
    stripe.update_dispute(dispute, "needs_response")
    assert stripe.truth_of(paid["session_id"])["withheld"] == 600
    stripe.close_dispute(dispute, "lost")
    assert held(stripe, paid) == 0
    assert len(stripe.events("charge.dispute.updated")) == 2
    with pytest.raises(SandboxError, match="lost cannot become"):
        stripe.update_dispute(dispute, "under_review")


@pytest.mark.parametrize(
    ("opened", "closed", "withheld", "left"),
    [
        ("needs_response", "lost", 600, 0),
        ("needs_response", "won", 600, 600),
        ("warning_needs_response", "warning_closed", 0, 600),
        ("needs_response", "prevented", 600, 600),
    ],
)
def test_a_dispute_withholds_and_perhaps_loses_the_money(
    stripe: SimulatedStripe,
    client: Any,
    paid: dict[str, Any],
    opened: str,
    closed: str,
    withheld: int,
    left: int,
) -> None:
    dispute = stripe.open_dispute(paid["charge_id"], status=opened)
    assert stripe.truth_of(paid["session_id"])["withheld"] == withheld
    assert held(stripe, paid) == 600
    listed = client.disputes.list({"charge": paid["charge_id"]}).data
    assert [(item.id, item.status) for item in listed] == [(dispute["id"], opened)]
    if withheld:
        with pytest.raises(InvalidRequestError) as caught:
            client.refunds.create({"charge": paid["charge_id"]})
        assert caught.value.code == "charge_disputed"
    stripe.close_dispute(dispute["id"], closed)
    truth = stripe.truth_of(paid["session_id"])
    assert (truth["held"], truth["withheld"]) == (left, 0)
    assert client.disputes.retrieve(dispute["id"]).status == closed
    kinds = ("charge.dispute.created", "charge.dispute.closed")
    statuses = [stripe.events(kind)[0]["data"]["object"]["status"] for kind in kinds]
    assert statuses == [opened, closed]
    with pytest.raises(SandboxError, match=f"is {closed}"):
        stripe.close_dispute(dispute["id"], "won")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"amount": 0}, "amount"),
        ({"amount": "1.50"}, "amount"),
        ({"amount": 601}, "amount"),
        ({"currency": "usd"}, "currency"),
        ({"charge": "ch_none"}, "charge"),
        ({"reason": "regret"}, "reason"),
        ({"metadata": {"row": "x" * 501}}, "metadata[row]"),
        ({"payment_intent": "pi_of_another_charge"}, None),
    ],
)
def test_wrong_parameters_of_a_refund_are_refused(
    stripe: SimulatedStripe,
    client: Any,
    paid: dict[str, Any],
    change: dict[str, Any],
    param: str | None,
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        client.refunds.create({"charge": paid["charge_id"], "amount": 1} | change)
    assert caught.value.param == param
    assert held(stripe, paid) == 600
