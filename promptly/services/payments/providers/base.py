"""The protocol of a payment provider, and the facts it is given."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from promptly.models import Order, PaymentReversal
from promptly.services.payments.snapshot import Checkout, ProviderSnapshot, Reversal
from promptly.services.payments.webhook_events import ReceivedEvent


@dataclass(frozen=True)
class OrderFacts:
    """What a provider is told of an order: a copy, so that no transaction stays open meanwhile."""

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
        """The facts of a row."""
        return cls(**{name: getattr(order, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class RefundFacts:
    """What a provider is told of a refund; a surplus is all that was paid beyond the price.

    `response_pending`: it was asked before, and may have made it.
    """

    id: int
    amount_minor: int
    is_surplus: bool
    response_pending: bool

    @classmethod
    def of(cls, row: PaymentReversal) -> "RefundFacts":
        """The facts of a row."""
        return cls(row.id, row.amount_minor, not row.counts, row.response_pending)


@dataclass(frozen=True)
class RefundMade:
    """A refund that the provider has taken on; `link` is for the customer, if he has to act."""

    reversal: Reversal
    link: str | None = None


@dataclass(frozen=True)
class Subject:
    """What an event is about; one of the two, or neither."""

    checkout_id: str | None = None
    payment_id: str | None = None


class Provider(Protocol):
    """A connection to a payment provider; every call may raise a ProviderProblem."""

    name: str
    # Whether `create` may be called again for an attempt that was not answered: then the provider
    # answers with the page that is there.
    repeats_safely: bool

    def check(self) -> None:
        """Ask for something that is always there, to see that we are let in."""
        ...

    def create(self, order: OrderFacts, return_url: str) -> Checkout:
        """Make a page for an order."""
        ...

    def find(self, order: OrderFacts) -> ProviderSnapshot | None:
        """The page that was made for an order whose answer got lost, if there is one."""
        ...

    def fetch(self, checkout_id: str) -> ProviderSnapshot:
        """All that is to be known about a page and its payment."""
        ...

    def subject_of(self, event: ReceivedEvent) -> Subject:
        """What an event is about: a page, or a payment that was made on one."""
        ...

    def checkout_of(self, payment_id: str) -> str | None:
        """The page that a payment was made on; None if it was made on none."""
        ...

    def refund(self, order: OrderFacts, refund: RefundFacts) -> RefundMade:
        """Give money back. The same refund is never made twice."""
        ...

    def listed(self, since: datetime, most: int) -> list[ProviderSnapshot]:
        """The pages since a moment that may have been paid, without what was reversed."""
        ...

    def events(self, since: datetime, most: int) -> list[ReceivedEvent]:
        """The provider's own list of events since a moment, if it keeps one."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...
