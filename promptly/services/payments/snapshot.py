"""A provider's report of one checkout at one moment, in terms that both providers share."""

from dataclasses import dataclass
from datetime import datetime

from promptly.models.states import CaseKind


@dataclass(frozen=True)
class Checkout:
    """A provider's page where an order can be paid."""

    checkout_id: str
    url: str
    livemode: bool
    expires_at: datetime


@dataclass(frozen=True)
class Reversal:
    """A refund, a dispute or an invalidation; it counts while `active`.

    `own_id` is the id of our row that requested this refund, if there is one. An amount in another
    currency than the order's is None, and counts as the whole order.
    """

    kind: str
    provider_id: str
    amount_minor: int | None
    state: str
    active: bool
    own_id: int | None = None


@dataclass(frozen=True)
class ProviderSnapshot:
    """One checkout, with all reversals of its payment.

    `status` is open, processing, paid, expired or failed; `provider_status` is the provider's own
    term. `discrepancy` is set if an operator has to look at it: paid_late, paid_partial,
    paid_over, unconfirmed. `order_number` comes from our own metadata; None for a checkout that is
    not ours. `paid_minor` is the amount received, if the provider reports it.
    """

    provider: str
    checkout_id: str
    order_number: str | None
    livemode: bool
    status: str
    provider_status: str
    amount_minor: int | None
    currency: str
    url: str | None = None
    payment_id: str | None = None
    paid_minor: int | None = None
    discrepancy: CaseKind | None = None
    reversals: tuple[Reversal, ...] = ()

    @property
    def has_money(self) -> bool:
        """Whether the customer has sent money."""
        return self.status == "paid" or self.discrepancy is not None


def tokens_reversed(tokens: int, amount_minor: int, reversed_minor: int) -> int:
    """Return the tokens for the reversed part of a price: rounded down, all for the whole price."""
    return tokens * min(reversed_minor, amount_minor) // amount_minor


def amount_of(tokens: int, of_tokens: int, amount_minor: int) -> int:
    """Return the part of a price for `tokens`, rounded down: never more than they cost."""
    return amount_minor * min(tokens, of_tokens) // of_tokens
