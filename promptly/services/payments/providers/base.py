"""The protocol of a payment provider, with its arguments and results."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from promptly.models import Order, PaymentReversal
from promptly.services.payments import installation, reversals
from promptly.services.payments.snapshot import Checkout, ProviderSnapshot, Reversal
from promptly.services.payments.webhook_events import ReceivedEvent

# Why a refund is not made any more that was requested during an outage.
EXCEEDS = "so much was given back in the meantime that less is left than this refund's amount"


@dataclass(frozen=True)
class OrderFacts:
    """A copy of an order for a provider, so that no transaction stays open during the call."""

    id: int
    number: str
    attempt: int
    pack: str
    tokens: int
    amount_minor: int
    currency: str
    created_at: datetime
    expires_at: datetime
    checkout_id: str | None
    payment_id: str | None
    paid_in: str
    # This installation's id, which the page will carry.
    instance_id: str
    # Bitcoin refunds whose course at the provider is to be followed.
    refund_ids: tuple[str, ...] = ()

    @classmethod
    def of(cls, order: Order) -> "OrderFacts":
        """Copy the facts of a row."""
        names = cls.__dataclass_fields__.keys() - {"instance_id", "refund_ids"}
        return cls(
            instance_id=installation.instance_id(),
            refund_ids=reversals.followed(order),
            **{name: getattr(order, name) for name in names},
        )


@dataclass(frozen=True)
class RefundFacts:
    """A copy of a refund for a provider, in the currency that was paid.

    `response_pending`: an earlier attempt, at `requested_at`, was not answered and may have made
    the refund. `exceeds`: by now less is left than its amount, so it must not be made any more.
    """

    id: int
    amount_minor: int
    response_pending: bool
    requested_at: datetime
    exceeds: bool = False

    @classmethod
    def of(cls, row: PaymentReversal, left_minor: int) -> "RefundFacts":
        """Copy the facts of a row; `left_minor` is the most that may be given back by it."""
        exceeds = row.amount_minor > left_minor
        return cls(row.id, row.amount_minor, row.response_pending, row.updated_at, exceeds)


@dataclass(frozen=True)
class RefundMade:
    """A refund that the provider has accepted."""

    reversal: Reversal


@dataclass(frozen=True)
class ListedRefund:
    """A refund in the provider's own list, of the page or of the order with this number."""

    refund_id: str
    checkout_id: str | None = None
    order_number: str | None = None


@dataclass(frozen=True)
class Subject:
    """The subject of an event: a checkout, a payment, or neither.

    `refund_ids` are refunds of the checkout that nobody may know here; `fraud_warning` is what the
    card's issuer warns of.
    """

    checkout_id: str | None = None
    payment_id: str | None = None
    refund_ids: tuple[str, ...] = ()
    fraud_warning: str | None = None


class Provider(Protocol):
    """A connection to a payment provider; every call may raise a ProviderProblem."""

    name: str

    def check(self) -> list[str]:
        """Check our credentials by calls without an effect; return what they lack, as advice."""
        ...

    def create(self, order: OrderFacts, return_url: str, email: str | None) -> Checkout:
        """Create a page for an order; if it asks for an address, `email` is filled in."""
        ...

    def find(self, order: OrderFacts) -> ProviderSnapshot | None:
        """Return the page created for an order whose answer was lost, if it exists."""
        ...

    def fetch(self, checkout_id: str, refund_ids: Sequence[str] = ()) -> ProviderSnapshot:
        """Return a page with its payment and reversals.

        BTCPay does not list an invoice's refunds: `refund_ids` names those to include.
        """
        ...

    def subject_of(self, event: ReceivedEvent) -> Subject:
        """Return the subject of an event: a page, or a payment made on one."""
        ...

    def checkout_of(self, payment_id: str) -> str | None:
        """Return the page that a payment was made on, or None."""
        ...

    def refund(self, order: OrderFacts, refund: RefundFacts) -> RefundMade:
        """Refund money. Repeating the same refund never makes a second one.

        Raises ProviderPending if an earlier attempt may still be under way.
        """
        ...

    def refunds(self) -> list[ListedRefund]:
        """Return refunds that `fetch` would not find by itself: BTCPay's that can be claimed."""
        ...

    def listed(self, since: int, until: int, most: int) -> list[ProviderSnapshot]:
        """Return pages that may have been paid, without their reversals, newest first.

        Created from `since` to before `until` (Unix seconds); up to `most`.
        """
        ...

    def events(self, since: int, until: int, most: int) -> list[ReceivedEvent]:
        """Return the provider's own list of events in that time, newest first, if it keeps one."""
        ...

    def close(self) -> None: ...


def moment(seconds: Any) -> datetime | None:
    """Return the time of a provider's Unix seconds, or None if it names none."""
    return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, int) else None
