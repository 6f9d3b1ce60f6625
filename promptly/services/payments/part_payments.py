"""Bitcoin that came in part or late: the amounts, and mails that tell the customer at once.

While the page is open the customer can pay the rest; afterwards an operator decides.
"""

from dataclasses import asdict, dataclass

from promptly import money
from promptly.extensions import db
from promptly.models import Order, User
from promptly.models.states import CaseKind, OrderState
from promptly.services.mail import outbox
from promptly.services.payments import credit
from promptly.services.payments.snapshot import ProviderSnapshot

NOTICE = "payment_notice"
# Cases whose customer is mailed: the money came, and nothing is credited yet.
REVIEWED = frozenset({CaseKind.PAID_PARTIAL, CaseKind.PAID_LATE})
SATOSHIS = 10**8


@dataclass(frozen=True)
class PartPayment:
    """A payment that is incomplete while its page is open; `due_bitcoin` is None if not known."""

    arrived: str
    due: str
    due_bitcoin: str | None


def of(order: Order) -> PartPayment | None:
    """Return what has arrived and what is due of an order whose page is open, or None."""
    return _part(order) if order.state == OrderState.OPEN else None


def _part(order: Order) -> PartPayment | None:
    seen, missing = order.seen_minor or 0, order.due_satoshis
    if not seen or (seen >= order.amount_minor and not missing):
        return None
    # A rest below the smallest unit of the currency is still a rest.
    due = max(order.amount_minor - seen, 1)
    return PartPayment(
        arrived=money.shown(seen, order.currency),
        due=money.shown(due, order.currency),
        due_bitcoin=None if missing is None else _bitcoin(missing),
    )


def arrived(order: Order) -> str | None:
    """Return the amount that an order's page has seen, or None if it is not known."""
    return money.shown(order.seen_minor, order.currency) if order.seen_minor else None


def record(order: Order, snapshot: ProviderSnapshot) -> None:
    """Store with a locked order how much its page has seen; mail the customer the first part."""
    before = order.seen_minor
    if snapshot.paid_minor is not None:
        order.seen_minor = snapshot.paid_minor
    order.due_satoshis = snapshot.due_satoshis
    if snapshot.status == "open" and order.is_unsettled and not before:
        part = _part(order)
        if part is not None:
            _mail(order, "incomplete", **asdict(part))


def announce_review(order: Order, kind: CaseKind) -> None:
    """Mail the customer that an operator decides about what came, if this is such a case."""
    if kind in REVIEWED:
        _mail(order, kind, arrived=arrived(order), due=None, due_bitcoin=None)


def _bitcoin(satoshis: int) -> str:
    return f"{satoshis // SATOSHIS}.{satoshis % SATOSHIS:08} BTC"


def _mail(order: Order, event: str, **amounts: str | None) -> None:
    user = None if order.user_id is None else db.session.get(User, order.user_id)
    if user is None:
        return
    until = f"{order.expires_at:%Y-%m-%d %H:%M} UTC"
    payload = credit.described(order) | amounts | {"event": event, "until": until}
    outbox.add(NOTICE, user.email, user_id=user.id, payload=payload)
