"""Cases that need an operator's decision; each is raised and resolved once.

Not credited, because
- paid_partial, paid_late: less Bitcoin than the price came, or it came after the time ran out
- unconfirmed: a Bitcoin payment was seen and never confirmed
- amount, currency, livemode: the provider's page does not match the order
- second_checkout: another page of the same order was paid too
- account_deleted: the account was deleted before the money came
- unknown_order: this database has no such order
Credited, but
- paid_over: more Bitcoin than the price came
- invalid: an operator had credited it, and BTCPay now reports that it was not paid
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert

from promptly.errors import InvalidRequest, NotFound
from promptly.extensions import db
from promptly.models import Order, PaymentCase
from promptly.models.states import CaseKind
from promptly.services.paging import START, Cursor, Page, newest_first
from promptly.services.payments.snapshot import ProviderSnapshot

CREDIT, REFUND, DISMISS, TAKE_BACK = "credit", "refund", "dismiss", "take_back"
SUPERSEDED = "superseded"

CHOICES: Mapping[CaseKind, tuple[str, ...]] = {
    CaseKind.PAID_PARTIAL: (CREDIT, REFUND, DISMISS),
    CaseKind.PAID_LATE: (CREDIT, REFUND, DISMISS),
    CaseKind.UNCONFIRMED: (CREDIT, DISMISS),
    CaseKind.PAID_OVER: (REFUND, DISMISS),
    CaseKind.AMOUNT: (CREDIT, REFUND, DISMISS),
    CaseKind.CURRENCY: (CREDIT, REFUND, DISMISS),
    CaseKind.LIVEMODE: (DISMISS,),
    CaseKind.SECOND_CHECKOUT: (DISMISS,),
    CaseKind.ACCOUNT_DELETED: (REFUND, DISMISS),
    CaseKind.UNKNOWN_ORDER: (DISMISS,),
    CaseKind.INVALID: (TAKE_BACK, DISMISS),
}

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
    """Return the case of this kind about this checkout, created if new; it may be decided."""
    statement = (
        insert(PaymentCase)
        .values(
            kind=kind,
            provider=provider,
            checkout_id=checkout_id,
            order_id=order_id,
            detail=detail,
            paid_minor=paid_minor,
        )
        .on_conflict_do_nothing()
        .returning(PaymentCase.id)
    )
    db.session.execute(statement)
    return db.session.scalars(
        select(PaymentCase).where(
            PaymentCase.provider == provider,
            PaymentCase.checkout_id == checkout_id,
            PaymentCase.kind == kind,
        )
    ).one()


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
    statement = (
        update(PaymentCase)
        .where(
            PaymentCase.checkout_id.in_(checkout_ids),
            PaymentCase.kind == CaseKind.UNKNOWN_ORDER,
            PaymentCase.resolution.is_(None),
        )
        .values(
            resolution=SUPERSEDED,
            resolved_by="system",
            resolved_at=func.now(),
            note="the order was imported",
        )
        .execution_options(synchronize_session=False)
    )
    db.session.execute(statement)


def supersede(order: Order, *, because: str, keep: int | None = None) -> None:
    """Close an order's open cases that later events have decided, except `keep`."""
    statement = (
        update(PaymentCase)
        .where(PaymentCase.order_id == order.id, PaymentCase.resolution.is_(None))
        .where(PaymentCase.kind.not_in(("paid_over", "second_checkout", "invalid")))
        .values(resolution=SUPERSEDED, resolved_by="system", resolved_at=func.now(), note=because)
        .execution_options(synchronize_session=False)
    )
    if keep is not None:
        statement = statement.where(PaymentCase.id != keep)
    db.session.execute(statement)


def find(case_id: int) -> PaymentCase:
    """Return one case; raises NotFound."""
    case = db.session.get(PaymentCase, case_id)
    if case is None:
        raise NotFound("There is no such case.")
    return case


def decide(case_id: int, choice: str, *, actor: str, note: str | None) -> PaymentCase:
    """Record a decision; the caller carries it out in the same transaction.

    Raises NotFound, and InvalidRequest if the case does not offer this or has been decided.
    """
    case = find(case_id)
    if choice not in CHOICES[case.kind]:
        offered = ", ".join(CHOICES[case.kind])
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
        raise InvalidRequest(f"This case has been decided already: {case.resolution}.")
    return case


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
