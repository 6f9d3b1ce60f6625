"""What a provider says about an order is applied: the one way an order is credited or reversed.

The order is locked and the truth is newer than any that was applied before (`syncing` sees to
both), so the same truth applied twice, or only the last of many, leads to the same end.
"""

from promptly import money
from promptly.models import Order
from promptly.services.payments import cases, credit, orders, reversals
from promptly.services.payments.snapshot import Reversal, Truth


def apply(order: Order, truth: Truth) -> None:
    """Bring a locked order up to what the provider says."""
    problem = mismatch(order, truth)
    if problem is None or problem[0] != "second_checkout":
        order.provider_status = truth.provider_status
    if problem is not None:
        if truth.has_money:
            _park(order, truth, *problem)
        return
    _adopt(order, truth)
    if order.credited_at is None:
        if truth.status == "paid" and order.user_id is not None:
            credit.credit(order, actor=order.provider)
        elif truth.status == "paid":
            _park(order, truth, "account_deleted", "The account was deleted before the money came.")
        else:
            _follow(order, truth)
    reversals.record(order, _reversals(order, truth))
    reversals.settle(order, actor=order.provider)
    if truth.status == "paid" and truth.oddity == "paid_over":
        _raise(order, truth, "paid_over", f"{_paid(truth)} came for {_price(order)}.")


def mismatch(order: Order, truth: Truth) -> tuple[str, str] | None:
    """Why this truth cannot be this order's: the kind of the case, and what to say."""
    if order.checkout_id not in {None, truth.checkout_id}:
        return "second_checkout", f"The order's own page is {order.checkout_id}."
    if order.approved:
        # An operator has looked at what does not fit.
        return None
    if truth.livemode != order.livemode:
        mode = "live" if truth.livemode else "test"
        return "livemode", f"The page is in {mode} mode, the order is not."
    if truth.currency != order.currency:
        return "currency", f"The page is in {truth.currency}, the order in {order.currency}."
    if truth.amount_minor != order.amount_minor:
        said = "any amount" if truth.amount_minor is None else _shown(truth.amount_minor, truth)
        return "amount", f"The page asks for {said}, the order for {_price(order)}."
    return None


def _adopt(order: Order, truth: Truth) -> None:
    # The answer that named the page may have got lost.
    order.checkout_id = truth.checkout_id
    order.checkout_url = order.checkout_url or truth.url
    order.payment_id = truth.payment_id or order.payment_id


def _follow(order: Order, truth: Truth) -> None:
    """Let an order that is not credited follow its page."""
    if truth.oddity is not None:
        came = f"{_paid(truth)} came for {_price(order)}"
        said = {
            "paid_partial": f"{came} before the time ran out.",
            "paid_late": f"{came} after the time ran out.",
            "paid_over": f"{came} after the time ran out.",
            "unconfirmed": "A payment was seen that was never confirmed.",
        }[truth.oddity]
        # More than the price, but too late: late is what has to be decided.
        kind = "paid_late" if truth.oddity == "paid_over" else truth.oddity
        if _park(order, truth, kind, said):
            return
    elif truth.status in {"open", "processing"}:
        cases.supersede(order, because=f"the payment is {truth.status} again")
    if order.state != truth.status:
        orders.move(order, truth.status)


def _park(order: Order, truth: Truth, kind: str, detail: str) -> bool:
    """Leave it to the operator; False if he has decided this already."""
    case_id, decided = _raise(order, truth, kind, detail)
    if decided:
        return False
    if kind != "second_checkout":
        _adopt(order, truth)
        cases.supersede(order, because=f"more is known: {kind}", keep=case_id)
        if order.credited_at is None:
            orders.move(order, "attention")
    return True


def _raise(order: Order, truth: Truth, kind: str, detail: str) -> tuple[int, bool]:
    case = cases.raise_case(
        kind,
        provider=order.provider,
        checkout_id=truth.checkout_id,
        order_id=order.id,
        detail=detail,
        paid_minor=truth.paid_minor if truth.currency == order.currency else None,
    )
    return case.id, case.resolution is not None


def _reversals(order: Order, truth: Truth) -> tuple[Reversal, ...]:
    """The truth's reversals; BTCPay's taking back that an order was paid is one of them."""
    if truth.provider != "btcpay" or order.credited_at is None:
        return truth.reversals
    known = {row.provider_id for row in reversals.of_order(order.id) if row.kind == "invalidation"}
    invalid = truth.status == "failed"
    if invalid and order.approved and not known:
        # An operator has credited it with his eyes open; whether that still holds is his too.
        if not cases.was_credited_as(order.id, "unconfirmed"):
            _raise(order, truth, "invalid", "BTCPay says that this was not paid after all.")
        return truth.reversals
    if not invalid and not known:
        return truth.reversals
    state = "invalid" if invalid else "settled"
    return (
        *truth.reversals,
        Reversal("invalidation", truth.checkout_id, order.amount_minor, state, active=invalid),
    )


def _price(order: Order) -> str:
    return money.shown(order.amount_minor, order.currency)


def _paid(truth: Truth) -> str:
    return "An unknown amount" if truth.paid_minor is None else _shown(truth.paid_minor, truth)


def _shown(amount_minor: int, truth: Truth) -> str:
    return money.shown(amount_minor, truth.currency)
