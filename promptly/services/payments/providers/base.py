"""The protocol of a payment provider, with its arguments and results."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from promptly.models import Order, PaymentReversal
from promptly.services.payments.snapshot import Checkout, ProviderSnapshot, Reversal
from promptly.services.payments.webhook_events import ReceivedEvent


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

    @classmethod
    def of(cls, order: Order) -> "OrderFacts":
        """Copy the facts of a row."""
        return cls(**{name: getattr(order, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class RefundFacts:
    """A copy of a refund for a provider; a surplus is everything paid beyond the price.

    `response_pending`: an earlier attempt was not answered and may have made the refund.
    """

    id: int
    amount_minor: int
    is_surplus: bool
    response_pending: bool

    @classmethod
    def of(cls, row: PaymentReversal) -> "RefundFacts":
        """Copy the facts of a row."""
        return cls(row.id, row.amount_minor, not row.counts, row.response_pending)


@dataclass(frozen=True)
class RefundMade:
    """A refund that the provider has accepted; `link` is for the customer, if they must act."""

    reversal: Reversal
    link: str | None = None


@dataclass(frozen=True)
class Subject:
    """The subject of an event: a checkout, a payment, or neither."""

    checkout_id: str | None = None
    payment_id: str | None = None


class Provider(Protocol):
    """A connection to a payment provider; every call may raise a ProviderProblem."""

    name: str
    # Whether `create` may be repeated for an attempt that was not answered: the provider then
    # returns the page that exists.
    repeats_safely: bool

    def check(self) -> None:
        """Make a harmless call, to check that the provider accepts our credentials."""
        ...

    def create(self, order: OrderFacts, return_url: str) -> Checkout:
        """Create a page for an order."""
        ...

    def find(self, order: OrderFacts) -> ProviderSnapshot | None:
        """Return the page created for an order whose answer was lost, if it exists."""
        ...

    def fetch(self, checkout_id: str) -> ProviderSnapshot:
        """Return a page with its payment and reversals."""
        ...

    def subject_of(self, event: ReceivedEvent) -> Subject:
        """Return the subject of an event: a page, or a payment made on one."""
        ...

    def checkout_of(self, payment_id: str) -> str | None:
        """Return the page that a payment was made on, or None."""
        ...

    def refund(self, order: OrderFacts, refund: RefundFacts) -> RefundMade:
        """Refund money. Repeating the same refund never makes a second one."""
        ...

    def listed(self, since: datetime, most: int) -> list[ProviderSnapshot]:
        """Return the pages since a moment that may have been paid, without their reversals."""
        ...

    def events(self, since: datetime, most: int) -> list[ReceivedEvent]:
        """Return the provider's own list of events since a moment, if it keeps one."""
        ...

    def close(self) -> None: ...
