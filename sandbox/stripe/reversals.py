"""Reversals of payments: refunds and disputes."""

from typing import Any

from sandbox.provider.control import Refused
from sandbox.stripe import objects
from sandbox.stripe.account import Account
from sandbox.stripe.errors import ApiError, missing
from sandbox.stripe.objects import Object

OPEN = ("needs_response", "under_review")
INQUIRY = ("warning_needs_response", "warning_under_review")
CLOSED = ("won", "lost", "warning_closed", "prevented")


def refund(account: Account, params: dict[str, Any], status: str = "succeeded") -> Object:
    """Refund a charge, fully or in part; a "pending" refund completes later.

    Raises ApiError where Stripe would refuse.
    """
    charge = _charge(account, params)
    left = charge["amount"] - charge["amount_refunded"]
    if not charge["paid"]:
        raise ApiError("This charge has not succeeded: nothing can be refunded.", executed=True)
    if charge["refunded"]:
        raise ApiError(
            f"Charge {charge['id']} has already been refunded.",
            code="charge_already_refunded",
            executed=True,
        )
    if _is_disputed(account, charge):
        raise ApiError(
            f"Charge {charge['id']} has been charged back; cannot issue a refund.",
            code="charge_disputed",
            executed=True,
        )
    amount = params.get("amount", left)
    if amount > left:
        raise ApiError(
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})",
            param="amount",
            executed=True,
        )
    made = account.add(objects.refund(charge, amount, params, status, account.now()))
    before = {name: charge[name] for name in ("amount_refunded", "refunded")}
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    account.emit("refund.created", made)
    account.emit("charge.refunded", charge, before)
    return made


def succeed_refund(account: Account, refund_id: str) -> Object:
    """Let a pending refund succeed. Raises Refused if it is not pending."""
    found = account.get("refund", refund_id)
    if found["status"] != "pending":
        raise Refused(f"this refund is {found['status']}")
    found["status"] = "succeeded"
    account.emit("refund.updated", found, {"status": "pending"})
    account.emit("charge.refund.updated", found, {"status": "pending"})
    return found


def fail_refund(account: Account, refund_id: str, *, lowers_charge: bool) -> Object:
    """Let a refund fail after the fact: the money returns to the shop.

    Stripe does not document clearly whether that lowers the charge's ``amount_refunded``;
    ``lowers_charge`` decides it here. Raises Refused if the refund has failed already.
    """
    found = account.get("refund", refund_id)
    if found["status"] == "failed":
        raise Refused("this refund has failed already")
    before = {"status": found["status"], "failure_reason": found["failure_reason"]}
    found |= {
        "status": "failed",
        "failure_reason": "expired_or_canceled_card",
        "failure_balance_transaction": found["balance_transaction"],
    }
    if lowers_charge:
        charge = account.get("charge", found["charge"])
        charge["amount_refunded"] -= found["amount"]
        charge["refunded"] = False
    account.emit("refund.updated", found, before)
    account.emit("charge.refund.updated", found, before)
    account.emit("refund.failed", found, before)
    return found


def open_dispute(account: Account, charge_id: str, *, amount: int | None, status: str) -> Object:
    """Dispute a charge as the customer, or inquire about it (``warning_*``: no money moves).

    Raises Refused for an unknown status or an unpaid charge.
    """
    if status not in OPEN + INQUIRY:
        raise Refused(f"status must be one of {', '.join(OPEN + INQUIRY)}")
    charge = account.get("charge", charge_id)
    if not charge["paid"]:
        raise Refused("the charge is not paid")
    asked = charge["amount"] if amount is None else amount
    made = account.add(objects.dispute(charge, asked, status, account.now()))
    charge["disputed"] = True
    account.emit("charge.dispute.created", made)
    if status in OPEN:
        account.emit("charge.dispute.funds_withdrawn", made)
    return made


def update_dispute(account: Account, dispute_id: str, *, status: str) -> Object:
    """Change an open dispute's status, for example from an inquiry to one that withdraws the money.

    Raises Refused if it is closed, or for an unknown status.
    """
    found = account.get("dispute", dispute_id)
    if status not in OPEN + INQUIRY or found["status"] in CLOSED:
        raise Refused(f"a dispute that is {found['status']} cannot become {status}")
    before = {"status": found["status"]}
    found |= {"status": status, "is_charge_refundable": status in INQUIRY}
    if before["status"] in INQUIRY and status in OPEN:
        account.emit("charge.dispute.funds_withdrawn", found)
    account.emit("charge.dispute.updated", found, before)
    return found


def close_dispute(account: Account, dispute_id: str, *, status: str) -> Object:
    """Close a dispute. Raises Refused if it is closed already, or for an unknown status."""
    found = account.get("dispute", dispute_id)
    if status not in CLOSED:
        raise Refused(f"status must be one of {', '.join(CLOSED)}")
    if found["status"] in CLOSED:
        raise Refused(f"the dispute is {found['status']}")
    before = {"status": found["status"]}
    found["status"] = status
    if status == "won" and before["status"] in OPEN:
        account.emit("charge.dispute.funds_reinstated", found)
    account.emit("charge.dispute.closed", found, before)
    return found


def warn_of_fraud(account: Account, charge_id: str) -> Object:
    """Let the card's issuer report a charge as probably fraudulent; no money moves."""
    charge = account.get("charge", charge_id)
    made = account.add(objects.early_fraud_warning(charge, account.now()))
    account.emit("radar.early_fraud_warning.created", made)
    return made


def truth(account: Account) -> list[dict[str, Any]]:
    """Return the money that the account holds for each session, oldest session first.

    ``held`` is the amount paid, less refunds and lost disputes; ``withheld`` is the part of it
    in disputes that are still open.
    """
    found = []
    for session in reversed(account.every("checkout.session")):
        intent = account.objects.get(session["payment_intent"] or "")
        charge = account.objects.get(intent["latest_charge"]) if intent else None
        paid = charge["amount_captured"] if charge else 0
        refunded = _sum(account, "refund", charge, ("succeeded", "pending", "requires_action"))
        lost = _sum(account, "dispute", charge, ("lost",))
        found.append(
            {
                "session_id": session["id"],
                "charge_id": charge["id"] if charge else None,
                "client_reference_id": session["client_reference_id"],
                "metadata": session["metadata"],
                "status": session["status"],
                "payment_status": session["payment_status"],
                "currency": session["currency"],
                "paid": paid,
                "refunded": refunded,
                "lost": lost,
                "held": paid - refunded - lost,
                "withheld": _sum(account, "dispute", charge, OPEN),
            }
        )
    return found


def _sum(account: Account, kind: str, charge: Object | None, statuses: tuple[str, ...]) -> int:
    if charge is None:
        return 0
    return sum(
        int(item["amount"])
        for item in account.every(kind)
        if item["charge"] == charge["id"] and item["status"] in statuses
    )


def _is_disputed(account: Account, charge: Object) -> bool:
    return _sum(account, "dispute", charge, (*OPEN, "lost")) > 0


def _charge(account: Account, params: dict[str, Any]) -> Object:
    if ("charge" in params) == ("payment_intent" in params):
        raise ApiError("One of the following params should be provided: payment_intent or charge.")
    if "charge" in params:
        return account.get("charge", params["charge"])
    intent = account.get("payment_intent", params["payment_intent"])
    if intent["latest_charge"] is None:
        raise missing("charge", intent["id"], "payment_intent")
    return account.get("charge", intent["latest_charge"])
