"""Cases that need an operator's decision; each is raised once.

A case is open again if the refund that decided it did not succeed, or if more money came since.

Not credited, because
- paid_partial, paid_late: less Bitcoin than the price came, or it came after the time ran out
- unconfirmed: a Bitcoin payment was seen and never confirmed
- amount, currency, livemode: the provider's page does not match the order
- second_checkout: another page of the same order was paid too
- account_deleted: the account was deleted before the money came
- unknown_order: this database has no such order, or had none when the money came
Credited, but
- paid_over: more Bitcoin than the price came
- invalid: an operator had credited it, and BTCPay now reports that it was not paid
- fraud_warning: the card's issuer suspects fraud; a refund now may avoid a dispute
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import Update, func, select, update
from sqlalchemy.dialects.postgresql import insert

from promptly import labels
from promptly.errors import InvalidRequest, NotFound
from promptly.extensions import db
from promptly.models import Order, PaymentCase
from promptly.models.states import CaseKind
from promptly.services.paging import START, Cursor, Page, newest_first
from promptly.services.payments.snapshot import ProviderSnapshot

CREDIT, REFUND, DISMISS, TAKE_BACK = "credit", "refund", "dismiss", "take_back"
# Of a surplus: `refund` is that of the surplus alone.
CREDIT_SURPLUS, REFUND_ALL = "credit_surplus", "refund_all"
REFUNDS = frozenset({REFUND, REFUND_ALL})
SUPERSEDED = "superseded"

CHOICES: Mapping[CaseKind, tuple[str, ...]] = {
    CaseKind.PAID_PARTIAL: (CREDIT, REFUND, DISMISS),
    CaseKind.PAID_LATE: (CREDIT, REFUND, DISMISS),
    CaseKind.UNCONFIRMED: (CREDIT, REFUND, DISMISS),
    CaseKind.PAID_OVER: (CREDIT_SURPLUS, REFUND, REFUND_ALL, DISMISS),
    CaseKind.AMOUNT: (CREDIT, REFUND, DISMISS),
    CaseKind.CURRENCY: (CREDIT, REFUND, DISMISS),
    CaseKind.LIVEMODE: (DISMISS,),
    CaseKind.SECOND_CHECKOUT: (DISMISS,),
    CaseKind.ACCOUNT_DELETED: (REFUND, DISMISS),
    CaseKind.UNKNOWN_ORDER: (REFUND, DISMISS),
    CaseKind.INVALID: (TAKE_BACK, DISMISS),
    CaseKind.FRAUD_WARNING: (REFUND, DISMISS),
}

# Cases that a credit, or a payment that is open again, does not decide.
_STAYS = (
    CaseKind.PAID_OVER,
    CaseKind.SECOND_CHECKOUT,
    CaseKind.INVALID,
    CaseKind.FRAUD_WARNING,
)
# Cases about other money than the order's own.
_ELSEWHERE = (CaseKind.SECOND_CHECKOUT, CaseKind.INVALID, CaseKind.LIVEMODE)
_REOPENED = " Open again: "

_WITH_NUMBERS = select(PaymentCase, Order.number).outerjoin(Order, Order.id == PaymentCase.order_id)


def raise_case(
    kind: CaseKind,
    *,
    provider: str,
    checkout_id: str,
    order_id: int | None,
    detail: str,
    paid_minor: int | None = None,
) -> PaymentCase:
    """Return the case of this kind about this checkout, created if new; it may be decided.

    An open one takes over the newest detail and amount.
    """
    values = {"order_id": order_id, "detail": detail, "paid_minor": paid_minor}
    new = insert(PaymentCase).values(
        kind=kind, provider=provider, checkout_id=checkout_id, **values
    )
    statement = new.on_conflict_do_update(
        index_elements=["provider", "checkout_id", "kind"],
        set_=values,
        where=PaymentCase.resolution.is_(None)
        & PaymentCase.paid_minor.is_distinct_from(paid_minor),
    )
    db.session.execute(statement)
    query = select(PaymentCase).where(
        PaymentCase.provider == provider,
        PaymentCase.checkout_id == checkout_id,
        PaymentCase.kind == kind,
    )
    return db.session.scalars(query.execution_options(populate_existing=True)).one()


def raise_fraud_warning(order: Order, *, about: str) -> None:
    """Raise a case of a card whose issuer suspects fraud, unless the order has no page."""
    if order.checkout_id is not None:
        raise_case(
            CaseKind.FRAUD_WARNING,
            provider=order.provider,
            checkout_id=order.checkout_id,
            order_id=order.id,
            detail=f"The card's issuer warns of fraud ({about}). A dispute may follow.",
            paid_minor=order.received_minor if order.received_currency is None else None,
        )


def reopen(case: PaymentCase, *, because: str) -> None:
    """Open a decided case again; its note stays."""
    case.detail = case.detail.split(_REOPENED)[0] + f"{_REOPENED}{because}."
    case.resolution = case.resolved_by = case.resolved_at = None
    db.session.flush()


def is_reopened(case: PaymentCase) -> bool:
    """Whether an open case had been decided before."""
    return case.resolution is None and _REOPENED in case.detail


def reopen_refused(case_id: int, because: str) -> bool:
    """Open a case again if it was decided by a refund, which did not succeed; return whether."""
    case = find(case_id)
    if case.resolution not in REFUNDS:
        return False
    reopen(case, because=because.rstrip("."))
    return True


def raise_unknown(snapshot: ProviderSnapshot) -> None:
    """Raise a case of money for an order that is not here.

    Perhaps a backup was restored, or the page was made by the gateway before an import.
    """
    number = snapshot.order_number
    detail = "Money came on a page that promptly did not create."
    if number is not None:
        detail = f"Money came for {number}, which is not in this database."
    raise_case(
        CaseKind.UNKNOWN_ORDER,
        provider=snapshot.provider,
        checkout_id=snapshot.checkout_id,
        order_id=None,
        detail=detail,
        paid_minor=snapshot.paid_minor,
    )


def supersede_unknown(checkout_ids: Sequence[str]) -> None:
    """Close the open cases of pages whose orders were unknown until now."""
    statement = _close("the order was imported").where(
        PaymentCase.checkout_id.in_(checkout_ids), PaymentCase.kind == CaseKind.UNKNOWN_ORDER
    )
    db.session.execute(statement)


def supersede(order: Order, *, because: str, keep: int | None = None) -> None:
    """Close an order's open cases that later events have decided, except `keep`."""
    statement = _close(because).where(
        PaymentCase.order_id == order.id, PaymentCase.kind.not_in(_STAYS)
    )
    if keep is not None:
        statement = statement.where(PaymentCase.id != keep)
    db.session.execute(statement)


def supersede_refunded(order: Order) -> None:
    """Close the open cases about an order's money: all of it was given back."""
    statement = _close("all that was received was refunded")
    db.session.execute(
        statement.where(PaymentCase.order_id == order.id, PaymentCase.kind.not_in(_ELSEWHERE))
    )


def supersede_surplus(order: Order) -> None:
    """Close the open case of money beyond the price: none of it is left."""
    statement = _close("nothing beyond the price is left")
    db.session.execute(
        statement.where(PaymentCase.order_id == order.id, PaymentCase.kind == CaseKind.PAID_OVER)
    )


def _close(because: str) -> Update:
    return (
        update(PaymentCase)
        .where(PaymentCase.resolution.is_(None))
        .values(resolution=SUPERSEDED, resolved_by="system", resolved_at=func.now(), note=because)
        .execution_options(synchronize_session=False)
    )


def choices(kind: CaseKind) -> tuple[str, ...]:
    """Return what may be decided about a case at all; a newer release may have raised it."""
    return CHOICES.get(kind, (DISMISS,))


def find(case_id: int) -> PaymentCase:
    """Return one case; raises NotFound."""
    case = db.session.get(PaymentCase, case_id)
    if case is None:
        raise NotFound("There is no such case.")
    return case


def lock(case_id: int) -> PaymentCase:
    """Return one case, read anew and locked until the transaction ends; raises NotFound."""
    find(case_id)
    query = select(PaymentCase).where(PaymentCase.id == case_id).with_for_update()
    return db.session.scalars(query.execution_options(populate_existing=True)).one()


def decide(case_id: int, choice: str, *, actor: str, note: str | None) -> PaymentCase:
    """Record a decision; the caller carries it out in the same transaction.

    Raises NotFound, and InvalidRequest if the case does not offer this or has been decided.
    """
    case = find(case_id)
    if choice not in choices(case.kind):
        offered = ", ".join(choices(case.kind))
        raise InvalidRequest(f"This case can be resolved by: {offered}.", param="choice")
    statement = (
        update(PaymentCase)
        .where(PaymentCase.id == case_id, PaymentCase.resolution.is_(None))
        .values(resolution=choice, resolved_by=actor, resolved_at=func.now(), note=note)
        .returning(PaymentCase.id)
        .execution_options(synchronize_session=False)
    )
    decided = db.session.execute(statement).first() is not None
    db.session.refresh(case)
    if not decided:
        done = labels.plain(labels.RESOLUTIONS, case.resolution or "")
        raise InvalidRequest(f"This case has been decided already: {done} by {case.resolved_by}.")
    return case


def refundable(order: Order) -> PaymentCase | None:
    """Return the order's oldest open case that a refund of all its money decides, or None."""
    query = select(PaymentCase).where(
        PaymentCase.order_id == order.id, PaymentCase.resolution.is_(None)
    )
    found = db.session.scalars(query.order_by(PaymentCase.id))
    return next((case for case in found if REFUND in choices(case.kind)), None)


def was_credited_as(order_id: int, kind: str) -> bool:
    """Whether an operator has credited an order in a case of this kind."""
    query = select(PaymentCase.id).where(
        PaymentCase.order_id == order_id,
        PaymentCase.kind == kind,
        PaymentCase.resolution == CREDIT,
    )
    return db.session.scalar(query.limit(1)) is not None


def open_cases(limit: int) -> list[tuple[PaymentCase, str | None]]:
    """Return the cases that wait for a decision, oldest first, with their orders' numbers."""
    query = _WITH_NUMBERS.where(PaymentCase.resolution.is_(None))
    rows = db.session.execute(query.order_by(PaymentCase.id).limit(limit))
    return [(case, number) for case, number in rows]


def page(
    limit: int, at: Cursor = START, *, only_open: bool = True
) -> Page[tuple[PaymentCase, str | None]]:
    """Return a page of cases with their orders' numbers, newest first."""
    query = _WITH_NUMBERS
    if only_open:
        query = query.where(PaymentCase.resolution.is_(None))
    return newest_first(query, PaymentCase.id, limit, at)


def count_open() -> int:
    """Return the number of cases that wait for a decision."""
    query = select(func.count()).select_from(PaymentCase).where(PaymentCase.resolution.is_(None))
    return db.session.scalar(query) or 0


def cases_of(order_id: int) -> list[PaymentCase]:
    """Return all cases of an order, oldest first."""
    query = select(PaymentCase).where(PaymentCase.order_id == order_id)
    return list(db.session.scalars(query.order_by(PaymentCase.id)))
