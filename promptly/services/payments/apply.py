"""Apply a provider's snapshot to its order: the only way a provider's report takes effect.

The order is locked and the snapshot is newer than any applied before (`sync` ensures both), so
applying the same snapshot twice, or only the last of many, leads to the same result.
"""

from promptly import money
from promptly.models import Order, PaymentCase
from promptly.models.states import CaseKind
from promptly.services.payments import (
    cases,
    credit,
    funds,
    orders,
    part_payments,
    reversals,
    surplus,
)
from promptly.services.payments.snapshot import ProviderSnapshot, Reversal

# Mismatches of an order's own page, in real money: it came, and a refund can give it back.
_OWN_MONEY = frozenset({CaseKind.AMOUNT, CaseKind.CURRENCY})


def apply(order: Order, snapshot: ProviderSnapshot) -> None:
    """Update a locked order to its provider's snapshot."""
    problem = mismatch(order, snapshot)
    if problem is None or problem[0] != CaseKind.SECOND_CHECKOUT:
        order.provider_status = snapshot.provider_status
    if problem is not None and problem[0] not in _OWN_MONEY:
        if snapshot.has_money:
            _park(order, snapshot, *problem)
        return
    confirmed = _receive(order, snapshot)
    reversals.record(order, snapshot.reversals)
    # Before the case is looked at: it may be decided by a refund that has failed.
    reversals.reopen_cases(order)
    if problem is not None:
        if snapshot.has_money:
            _park(order, snapshot, *problem)
    else:
        _apply_own(order, snapshot, confirmed)
    reversals.settle(order, actor=order.provider)
    if problem is None:
        surplus.note(order, snapshot)


def _apply_own(order: Order, snapshot: ProviderSnapshot, confirmed: bool) -> None:
    """Follow the order's own page; `confirmed`: more money is confirmed than before."""
    _adopt(order, snapshot)
    part_payments.record(order, snapshot)
    if order.credited_at is None:
        if snapshot.status == "paid" and order.user_id is not None:
            credit.credit(order, actor=order.provider)
        elif snapshot.status == "paid":
            _park(order, snapshot, *_ownerless(order))
        else:
            _follow(order, snapshot, confirmed)
    reversals.record(order, _invalidations(order, snapshot))


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
    order.expires_at = snapshot.expires_at or order.expires_at
    if snapshot.tax_minor is not None:
        order.tax_minor = snapshot.tax_minor


def _receive(order: Order, snapshot: ProviderSnapshot) -> bool:
    """Store what was received; return whether it is more than before."""
    if snapshot.received_minor is None:
        return False
    before = order.received_minor
    funds.receive(order, snapshot.received_minor, snapshot.currency)
    return before is not None and snapshot.received_minor > before


def _ownerless(order: Order) -> tuple[CaseKind, str]:
    """Return the kind and detail of the case of money that came for an order without an account."""
    if order.pack == orders.UNKNOWN_PACK:
        return (
            CaseKind.UNKNOWN_ORDER,
            "Money came on a page that is not of an order in these books.",
        )
    return CaseKind.ACCOUNT_DELETED, "The account was deleted before the money came."


def _follow(order: Order, snapshot: ProviderSnapshot, confirmed: bool) -> None:
    """Let an order that is not credited follow its page's status."""
    if snapshot.discrepancy is not None:
        came = f"{_paid(snapshot)} came for {_price(order)}"
        detail = {
            CaseKind.PAID_PARTIAL: f"{came} before the time ran out.",
            CaseKind.PAID_LATE: f"{came} after the time ran out.",
            CaseKind.PAID_OVER: f"{came} after the time ran out.",
            CaseKind.UNCONFIRMED: "A payment was seen that was never confirmed.",
        }[snapshot.discrepancy]
        if snapshot.status == "failed" and snapshot.discrepancy != CaseKind.UNCONFIRMED:
            detail = f"{came}, and the invoice was marked as invalid."
        # More than the price, but too late: the delay needs the decision.
        kind = snapshot.discrepancy
        if kind == CaseKind.PAID_OVER:
            kind = CaseKind.PAID_LATE
        if _park(order, snapshot, kind, detail, confirmed=confirmed):
            return
    elif snapshot.status in {"open", "processing"}:
        cases.supersede(order, because=f"the payment is {snapshot.status} again")
    elif snapshot.status == "failed":
        cases.supersede(order, because="the invoice was marked as invalid, and nothing came")
    if order.state != snapshot.status:
        orders.move(order, snapshot.status)


def _park(
    order: Order,
    snapshot: ProviderSnapshot,
    kind: CaseKind,
    detail: str,
    *,
    confirmed: bool = False,
) -> bool:
    """Leave the order to the operator; return False if they have decided this case already."""
    case = _raise(order, snapshot, kind, detail)
    if case.resolution is not None:
        because = _why_again(order, snapshot, case, confirmed)
        if because is None:
            return False
        cases.reopen(case, because=because)
        case.paid_minor = _paid_minor(order, snapshot)
    if kind != CaseKind.SECOND_CHECKOUT:
        _adopt(order, snapshot)
        cases.supersede(order, because=f"more is known: {kind}", keep=case.id)
        if order.credited_at is None and orders.move(order, "attention"):
            part_payments.announce_review(order, kind)
    return True


def _why_again(
    order: Order, snapshot: ProviderSnapshot, case: PaymentCase, confirmed: bool
) -> str | None:
    """Return why a case that was decided without a credit needs another decision, or None."""
    if order.credited_at is not None or case.resolution is None:
        return None
    more = (_paid_minor(order, snapshot) or 0) > (case.paid_minor or 0)
    if order.state == "refunded" or case.resolution in cases.REFUNDS | {cases.SUPERSEDED}:
        # Not even confirmed money counts as left while a refund of it is on its way.
        left = reversals.funds_of(order).left_minor
        if order.received_minor and left:
            return "more money came since" if more else "not all that came was given back"
    if case.resolution == cases.SUPERSEDED and not order.received_minor:
        return "the payment is as it was"
    if case.resolution == cases.DISMISS and more:
        return "more money came since"
    if case.resolution == cases.DISMISS and confirmed and case.kind == CaseKind.UNCONFIRMED:
        return "the payment was confirmed since"
    return None


def _raise(order: Order, snapshot: ProviderSnapshot, kind: CaseKind, detail: str) -> PaymentCase:
    return cases.raise_case(
        kind,
        provider=order.provider,
        checkout_id=snapshot.checkout_id,
        order_id=order.id,
        detail=detail,
        paid_minor=_paid_minor(order, snapshot),
    )


def _paid_minor(order: Order, snapshot: ProviderSnapshot) -> int | None:
    return snapshot.paid_minor if snapshot.currency == order.currency else None


def _invalidations(order: Order, snapshot: ProviderSnapshot) -> tuple[Reversal, ...]:
    """Return the invalidation of a credited payment that BTCPay has withdrawn, or had before."""
    if snapshot.provider != "btcpay" or order.credited_at is None:
        return ()
    known = {row.provider_id for row in reversals.of_order(order.id) if row.kind == "invalidation"}
    invalid = snapshot.status == "failed"
    if invalid and order.approved and not known:
        # An operator credited it knowingly; whether to keep the credit is their decision too.
        if not cases.was_credited_as(order.id, CaseKind.UNCONFIRMED):
            _raise(
                order, snapshot, CaseKind.INVALID, "BTCPay reports that it was not paid after all."
            )
        return ()
    if not invalid and not known:
        return ()
    state = "invalid" if invalid else "settled"
    minor = order.amount_minor
    return (Reversal("invalidation", snapshot.checkout_id, minor, state, active=invalid),)


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
