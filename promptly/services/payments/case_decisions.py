"""Carry out an operator's decision of a case, in the transaction that records it.

`prepare` asks the provider first, in transactions of its own: to give money back, or to credit a
surplus, needs its newest report. Operators decide about what they have seen: if the amounts changed
since, nothing is done.
"""

from promptly.clients.provider_errors import ProviderProblem, ProviderRefused
from promptly.errors import InvalidRequest, PaymentUnavailable
from promptly.extensions import db
from promptly.models import Order, PaymentCase
from promptly.services.payments import (
    case_choices,
    cases,
    credit,
    orders,
    refunds,
    reversals,
    surplus,
)
from promptly.services.payments.providers import registry
from promptly.services.payments.snapshot import ProviderSnapshot, Reversal
from promptly.settings import Settings
from promptly.transactions import transaction

# State of an order whose case was dismissed without a credit; `failed` for other kinds.
_DISMISSED = {"paid_partial": "expired", "paid_late": "expired"}
# Choices whose amount has to be exact.
_READS_FIRST = cases.REFUNDS | {cases.CREDIT_SURPLUS}


def prepare(case_id: int, choice: str, settings: Settings) -> None:
    """Read what was received, if the choice depends on it; see `read`."""
    if choice in _READS_FIRST:
        read(case_id, settings)


def read(case_id: int, settings: Settings) -> None:
    """Read what was received for an open case; put a page of no order on record as one.

    Call it outside of any transaction, before `resolve`. Raises NotFound, InvalidRequest and
    PaymentUnavailable.
    """
    with transaction():
        case = cases.find(case_id)
        order = None if case.order_id is None else db.session.get_one(Order, case.order_id)
        number = None if order is None else order.number
        name, page, decided = case.provider, case.checkout_id, case.resolution is not None
    if decided:
        return
    if number is None:
        _put_on_record(case_id, _fetch(name, page, settings))
    else:
        refunds.read_received(number, settings)


def _fetch(name: str, page: str, settings: Settings) -> ProviderSnapshot:
    if name not in registry.offered(settings):
        raise InvalidRequest("The provider of this payment is no longer configured.")
    try:
        with registry.connect(name, settings, registry.OPERATOR_WAITS_SECONDS) as provider:
            return provider.fetch(page)
    except ProviderRefused as problem:
        raise InvalidRequest("The provider does not know this page any more.") from problem
    except ProviderProblem as problem:
        raise PaymentUnavailable(
            "The provider does not answer. Nothing was refunded: try again later."
        ) from problem


def _put_on_record(case_id: int, snapshot: ProviderSnapshot) -> None:
    with transaction():
        case = cases.lock(case_id)
        if case.order_id is None:
            known = orders.id_of(snapshot.provider, checkout_id=snapshot.checkout_id)
            if known is None:
                known = orders.put_on_record(snapshot).id
            case.order_id = known


def resolve(
    case_id: int, choice: str, *, actor: str, note: str | None = None, seen: str | None = None
) -> tuple[PaymentCase, int | None]:
    """Decide a case; for a refund, also return its row's id, for `refunds.execute_refund`.

    Call `prepare` before. `seen` is that of the choice as it was shown. Raises NotFound, and
    InvalidRequest if the case does not offer this choice, has been decided already, has changed
    since it was seen, or the choice cannot be carried out any more.
    """
    order_id = cases.find(case_id).order_id
    # Lock the order before its cases, as everywhere.
    order = None if order_id is None else orders.lock(order_id)
    case = cases.decide(case_id, choice, actor=actor, note=note)
    if seen is not None:
        _require_unchanged(case, order, choice, seen)
    refund_id = None
    if order is not None and choice == cases.CREDIT:
        _credit(order, actor)
        # Too late, and perhaps too much as well.
        surplus.note_received(order)
    elif order is not None and choice == cases.CREDIT_SURPLUS:
        _credit_surplus(order, actor)
    elif order is not None and choice in cases.REFUNDS:
        refund_id = refunds.request_for_case(order, case, actor)
    elif choice in cases.REFUNDS:
        raise InvalidRequest("This payment is not on record yet.")
    elif order is not None and choice == cases.TAKE_BACK:
        _take_back(order, case, actor)
    elif order is not None and order.state == "attention":
        orders.move(order, _DISMISSED.get(case.kind, "failed"))
    db.session.refresh(case)
    return case, refund_id


def _require_unchanged(case: PaymentCase, order: Order | None, choice: str, seen: str) -> None:
    offered = {item.name: item for item in case_choices.of(case, order).choices}
    now = offered.get(choice)
    if now is None or now.seen != seen:
        change = "this does not apply any more" if now is None else f"now it is '{now.label}'"
        raise InvalidRequest(
            f"This case has changed since you saw it: {change}. Nothing was done: look at it again."
        )


def _credit(order: Order, actor: str) -> None:
    if not credit.credit(order, actor=actor, approved=True):
        why = "has been credited already" if order.credited_at else "has no account any more"
        raise InvalidRequest(f"This order {why}.")
    # Reversals from before the credit count from now on.
    reversals.settle(order, actor=actor)


def _credit_surplus(order: Order, actor: str) -> None:
    surplus_minor = reversals.funds_of(order).surplus_left_minor
    can_credit = order.user_id is not None and order.credited_at is not None
    if not can_credit or not credit.surplus_tokens(order, surplus_minor):
        raise InvalidRequest("No surplus of this purchase is left that could be credited.")
    credit.credit_surplus(order, surplus_minor, actor=actor)
    # Reversals from before the credit count for this money too.
    reversals.settle(order, actor=actor)


def _take_back(order: Order, case: PaymentCase, actor: str) -> None:
    invalid = Reversal("invalidation", case.checkout_id, order.amount_minor, "invalid", active=True)
    reversals.record(order, [invalid])
    reversals.settle(order, actor=actor)
