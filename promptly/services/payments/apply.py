"""Apply a provider's snapshot to its order: the only way a provider's report takes effect.

The order is locked and the snapshot is newer than any applied before (`sync` ensures both), so
applying the same snapshot twice, or only the last of many, leads to the same result.
"""

from promptly import money
from promptly.models import Order
from promptly.services.payments import cases, credit, orders, reversals
from promptly.services.payments.snapshot import ProviderSnapshot, Reversal


def apply(order: Order, snapshot: ProviderSnapshot) -> None:
    """Update a locked order to its provider's snapshot."""
    problem = mismatch(order, snapshot)
    if problem is None or problem[0] != "second_checkout":
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
                order, snapshot, "account_deleted", "The account was deleted before the money came."
            )
        else:
            _follow(order, snapshot)
    reversals.record(order, _reversals(order, snapshot))
    reversals.settle(order, actor=order.provider)
    if snapshot.status == "paid" and snapshot.discrepancy == "paid_over":
        _raise(order, snapshot, "paid_over", f"{_paid(snapshot)} came for {_price(order)}.")


def mismatch(order: Order, snapshot: ProviderSnapshot) -> tuple[str, str] | None:
    """Return why this snapshot cannot be this order's: the case's kind and detail; else None."""
    if order.checkout_id not in {None, snapshot.checkout_id}:
        return "second_checkout", f"The order's own page is {order.checkout_id}."
    if order.approved:
        # An operator has accepted the mismatch.
        return None
    if snapshot.livemode != order.livemode:
        mode = "live" if snapshot.livemode else "test"
        return "livemode", f"The page is in {mode} mode, the order is not."
    if snapshot.currency != order.currency:
        return "currency", f"The page is in {snapshot.currency}, the order in {order.currency}."
    if snapshot.amount_minor != order.amount_minor:
        said = (
            "any amount"
            if snapshot.amount_minor is None
            else _shown(snapshot.amount_minor, snapshot)
        )
        return "amount", f"The page asks for {said}, the order for {_price(order)}."
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
        said = {
            "paid_partial": f"{came} before the time ran out.",
            "paid_late": f"{came} after the time ran out.",
            "paid_over": f"{came} after the time ran out.",
            "unconfirmed": "A payment was seen that was never confirmed.",
        }[snapshot.discrepancy]
        # More than the price, but too late: the delay needs the decision.
        kind = "paid_late" if snapshot.discrepancy == "paid_over" else snapshot.discrepancy
        if _park(order, snapshot, kind, said):
            return
    elif snapshot.status in {"open", "processing"}:
        cases.supersede(order, because=f"the payment is {snapshot.status} again")
    if order.state != snapshot.status:
        orders.move(order, snapshot.status)


def _park(order: Order, snapshot: ProviderSnapshot, kind: str, detail: str) -> bool:
    """Leave the order to the operator; return False if they have decided this case already."""
    case_id, decided = _raise(order, snapshot, kind, detail)
    if decided:
        return False
    if kind != "second_checkout":
        _adopt(order, snapshot)
        cases.supersede(order, because=f"more is known: {kind}", keep=case_id)
        if order.credited_at is None:
            orders.move(order, "attention")
    return True


def _raise(order: Order, snapshot: ProviderSnapshot, kind: str, detail: str) -> tuple[int, bool]:
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
        if not cases.was_credited_as(order.id, "unconfirmed"):
            _raise(order, snapshot, "invalid", "BTCPay says that this was not paid after all.")
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
