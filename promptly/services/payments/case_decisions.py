"""Carry out an operator's decision of a case, in the transaction that records it."""

from promptly.errors import InvalidRequest
from promptly.extensions import db
from promptly.models import Order, PaymentCase
from promptly.services.payments import cases, credit, orders, refunds, reversals
from promptly.services.payments.snapshot import Reversal

# State of an order whose case was dismissed without a credit; `failed` for other kinds.
_DISMISSED = {"paid_partial": "expired", "paid_late": "expired"}


def resolve(
    case_id: int, choice: str, *, actor: str, note: str | None = None
) -> tuple[PaymentCase, int | None]:
    """Decide a case; for a refund, also return its row's id, for `refunds.execute_refund`.

    Raises NotFound, and InvalidRequest if the case does not offer this choice, has been decided
    already, or the choice cannot be carried out any more.
    """
    order_id = cases.find(case_id).order_id
    # Lock the order before its cases, as everywhere.
    order = None if order_id is None else orders.lock(order_id)
    case = cases.decide(case_id, choice, actor=actor, note=note)
    refund_id = None
    if order is not None and choice == cases.CREDIT:
        _credit(order, actor)
    elif order is not None and choice == cases.REFUND:
        refund_id = _refund(order, case, actor)
    elif order is not None and choice == cases.TAKE_BACK:
        _take_back(order, case, actor)
    elif order is not None and order.state == "attention":
        orders.move(order, _DISMISSED.get(case.kind, "failed"))
    db.session.refresh(case)
    return case, refund_id


def _credit(order: Order, actor: str) -> None:
    if not credit.credit(order, actor=actor, approved=True):
        why = "has been credited already" if order.credited_at else "has no account any more"
        raise InvalidRequest(f"This order {why}.")
    # Reversals from before the credit count from now on.
    reversals.settle(order, actor=actor)


def _refund(order: Order, case: PaymentCase, actor: str) -> int:
    surplus = case.kind == "paid_over"
    amount = (case.paid_minor or 0) - (order.amount_minor if surplus else 0)
    if amount <= 0:
        raise InvalidRequest(
            "The amount to refund is unknown, or below the currency's smallest unit. Refund it at "
            "the provider and dismiss this case."
        )
    return refunds.request_uncredited(order, amount, actor, surplus=surplus)


def _take_back(order: Order, case: PaymentCase, actor: str) -> None:
    invalid = Reversal("invalidation", case.checkout_id, order.amount_minor, "invalid", active=True)
    reversals.record(order, [invalid])
    reversals.settle(order, actor=actor)
