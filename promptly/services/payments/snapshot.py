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
    currency than the payment's is None, and counts as all that was paid. `link` is the page where
    the customer claims a Bitcoin refund.
    """

    kind: str
    provider_id: str
    amount_minor: int | None
    state: str
    active: bool
    own_id: int | None = None
    link: str | None = None


@dataclass(frozen=True)
class ProviderSnapshot:
    """One checkout, with all reversals of its payment.

    `status` is open, processing, paid, expired or failed; `provider_status` is the provider's own
    term. `discrepancy` is set if an operator has to look at it: paid_late, paid_partial,
    paid_over, unconfirmed. `order_number` comes from our own metadata; None for a checkout that is
    not ours. `instance_id` is the installation that created it; None for pages from before pages
    carried it. `paid_minor` is the amount seen and `received_minor` the confirmed part of it, in
    the page's currency, if known; lists of pages report only the former. `due_satoshis` is left to
    pay of an open page that was paid in part. `tax_minor` is the tax that the amount contains.
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
    expires_at: datetime | None = None
    payment_id: str | None = None
    paid_minor: int | None = None
    received_minor: int | None = None
    due_satoshis: int | None = None
    tax_minor: int | None = None
    discrepancy: CaseKind | None = None
    reversals: tuple[Reversal, ...] = ()
    instance_id: str | None = None

    @property
    def has_money(self) -> bool:
        """Whether the customer has sent money."""
        return self.status == "paid" or self.discrepancy is not None
