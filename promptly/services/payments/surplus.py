"""Money beyond the price of a credited order: a case, as far as it is confirmed and still here.

BTCPay reports only that an invoice was overpaid before it settled. What comes to its address later,
or after it expired, shows in the amounts alone.
"""

from promptly import money
from promptly.models import Order, PaymentCase
from promptly.models.states import CaseKind
from promptly.services.payments import cases, reversals
from promptly.services.payments.snapshot import ProviderSnapshot


def note(order: Order, snapshot: ProviderSnapshot) -> None:
    """Raise the case of a surplus that this report shows, or open it again if it has grown."""
    is_reported = snapshot.status == "paid" and snapshot.discrepancy == CaseKind.PAID_OVER
    if order.received_minor is None:
        # An older BTCPay does not say how much is confirmed.
        if is_reported and order.credited_at is not None:
            _raise(order, snapshot.paid_minor)
        return
    if is_reported or order.received_minor > (snapshot.amount_minor or 0):
        note_received(order)


def note_received(order: Order) -> None:
    """As `note`, for what was received as it is on record."""
    left = reversals.funds_of(order).surplus_left_minor
    if order.credited_at is None or not left:
        return
    case = _raise(order, order.received_minor)
    grown = (order.received_minor or 0) > (case.paid_minor or 0)
    if case.resolution in cases.REFUNDS | {cases.SUPERSEDED} or (case.resolution and grown):
        because = "more money came since" if grown else "not all of the surplus was given back"
        cases.reopen(case, because=because)
        case.paid_minor = order.received_minor


def _raise(order: Order, came_minor: int | None) -> PaymentCase:
    came = "An unknown amount" if came_minor is None else money.shown(came_minor, order.paid_in)
    price = money.shown(order.amount_minor, order.currency)
    return cases.raise_case(
        CaseKind.PAID_OVER,
        provider=order.provider,
        checkout_id=order.checkout_id or "",
        order_id=order.id,
        detail=f"{came} came for {price}.",
        paid_minor=came_minor,
    )
