"""Apply a provider's snapshot to its order: the only way a provider's report takes effect.

The order is locked and the snapshot is newer than any applied before (`sync` ensures both), so
applying the same snapshot twice, or only the last of many, leads to the same result.
"""

from promptly import money
from promptly.models import Order
from promptly.models.states import CaseKind
from promptly.services.payments import cases, credit, orders, reversals
from promptly.services.payments.snapshot import ProviderSnapshot, Reversal


def apply(order: Order, snapshot: ProviderSnapshot) -> None:
    """Update a locked order to its provider's snapshot."""
    problem = mismatch(order, snapshot)
    if problem is None or problem[0] != CaseKind.SECOND_CHECKOUT:
        order.provider_status = snapshot.provider_status
    if problem is not None:
        if snapshot.has_money:
            _park(order, snapshot, *problem)
        return
    _adopt(order, snapshot)
    if order.credited_at is None:
        if snapshot.status == "paid" and order.user_id is not None:
            credit.credit(order, actor=order.provider)
        elif snapshot.status == "paid":
            _park(
                order,
                snapshot,
                CaseKind.ACCOUNT_DELETED,
                "The account was deleted before the money came.",
            )
        else:
            _follow(order, snapshot)
    reversals.record(order, _reversals(order, snapshot))
    reversals.settle(order, actor=order.provider)
    if snapshot.status == "paid" and snapshot.discrepancy == CaseKind.PAID_OVER:
        _raise(order, snapshot, CaseKind.PAID_OVER, f"{_paid(snapshot)} came for {_price(order)}.")


def mismatch(order: Order, snapshot: ProviderSnapshot) -> tuple[CaseKind, str] | None:
    """Return why this snapshot cannot be this order's: the case's kind and detail; else None."""
    if order.checkout_id not in {None, snapshot.checkout_id}:
        return CaseKind.SECOND_CHECKOUT, f"The order's own page is {order.checkout_id}."
    if order.approved:
        # An operator has accepted the mismatch.
        return None
    if snapshot.livemode != order.livemode:
        mode = "live" if snapshot.livemode else "test"
        return CaseKind.LIVEMODE, f"The page is in {mode} mode, the order is not."
    if snapshot.currency != order.currency:
        return (
            CaseKind.CURRENCY,
            f"The page is in {snapshot.currency}, the order in {order.currency}.",
        )
    if snapshot.amount_minor != order.amount_minor:
        amount = (
            "any amount"
            if snapshot.amount_minor is None
            else _shown(snapshot.amount_minor, snapshot)
        )
        return CaseKind.AMOUNT, f"The page asks for {amount}, the order for {_price(order)}."
    return None


def _adopt(order: Order, snapshot: ProviderSnapshot) -> None:
    # The answer that named the page may have been lost.
    order.checkout_id = snapshot.checkout_id
    order.checkout_url = order.checkout_url or snapshot.url
    order.payment_id = snapshot.payment_id or order.payment_id


def _follow(order: Order, snapshot: ProviderSnapshot) -> None:
    """Let an order that is not credited follow its page's status."""
    if snapshot.discrepancy is not None:
        came = f"{_paid(snapshot)} came for {_price(order)}"
        detail = {
            CaseKind.PAID_PARTIAL: f"{came} before the time ran out.",
            CaseKind.PAID_LATE: f"{came} after the time ran out.",
            CaseKind.PAID_OVER: f"{came} after the time ran out.",
            CaseKind.UNCONFIRMED: "A payment was seen that was never confirmed.",
        }[snapshot.discrepancy]
        # More than the price, but too late: the delay needs the decision.
        kind = snapshot.discrepancy
        if kind == CaseKind.PAID_OVER:
            kind = CaseKind.PAID_LATE
        if _park(order, snapshot, kind, detail):
            return
    elif snapshot.status in {"open", "processing"}:
        cases.supersede(order, because=f"the payment is {snapshot.status} again")
    if order.state != snapshot.status:
        orders.move(order, snapshot.status)


def _park(order: Order, snapshot: ProviderSnapshot, kind: CaseKind, detail: str) -> bool:
    """Leave the order to the operator; return False if they have decided this case already."""
    case_id, decided = _raise(order, snapshot, kind, detail)
    if decided:
        return False
    if kind != CaseKind.SECOND_CHECKOUT:
        _adopt(order, snapshot)
        cases.supersede(order, because=f"more is known: {kind}", keep=case_id)
        if order.credited_at is None:
            orders.move(order, "attention")
    return True


def _raise(
    order: Order, snapshot: ProviderSnapshot, kind: CaseKind, detail: str
) -> tuple[int, bool]:
    case = cases.raise_case(
        kind,
        provider=order.provider,
        checkout_id=snapshot.checkout_id,
        order_id=order.id,
        detail=detail,
        paid_minor=snapshot.paid_minor if snapshot.currency == order.currency else None,
    )
    return case.id, case.resolution is not None


def _reversals(order: Order, snapshot: ProviderSnapshot) -> tuple[Reversal, ...]:
    """Return the snapshot's reversals, and an invalidation if BTCPay has withdrawn the payment."""
    if snapshot.provider != "btcpay" or order.credited_at is None:
        return snapshot.reversals
    known = {row.provider_id for row in reversals.of_order(order.id) if row.kind == "invalidation"}
    invalid = snapshot.status == "failed"
    if invalid and order.approved and not known:
        # An operator credited it knowingly; whether to keep the credit is their decision too.
        if not cases.was_credited_as(order.id, CaseKind.UNCONFIRMED):
            _raise(
                order, snapshot, CaseKind.INVALID, "BTCPay reports that it was not paid after all."
            )
        return snapshot.reversals
    if not invalid and not known:
        return snapshot.reversals
    state = "invalid" if invalid else "settled"
    return (
        *snapshot.reversals,
        Reversal("invalidation", snapshot.checkout_id, order.amount_minor, state, active=invalid),
    )


def _price(order: Order) -> str:
    return money.shown(order.amount_minor, order.currency)


def _paid(snapshot: ProviderSnapshot) -> str:
    return (
        "An unknown amount"
        if snapshot.paid_minor is None
        else _shown(snapshot.paid_minor, snapshot)
    )


def _shown(amount_minor: int, snapshot: ProviderSnapshot) -> str:
    return money.shown(amount_minor, snapshot.currency)
