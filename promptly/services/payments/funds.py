"""The money of an order, received and given back: the bound of every refund, of a case or an order.

All amounts are in minor units of the currency that was paid. `received_minor` is what the provider
reports as confirmed; without it (an order from before it was recorded) the price stands in for it,
but nothing is refunded before it has been read. What was paid for the tokens is what was received
less a refunded surplus, so half of the tokens cost half of that, whatever the price was. A surplus
that was credited bought tokens like the rest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from promptly.models import Order, PaymentReversal

REQUESTED = "requested"


@dataclass(frozen=True)
class Funds:
    """An order's money; `invalidated` if BTCPay has withdrawn the payment.

    Of an order that was paid in another currency, all that came counts as the price.
    """

    price_minor: int
    received_minor: int | None
    refunded_minor: int
    surplus_refunded_minor: int
    disputed_minor: int
    invalidated: bool
    credited_surplus_minor: int = 0

    @classmethod
    def of(cls, order: Order, reversals: Iterable[PaymentReversal]) -> "Funds":
        """Sum up an order's reversals that are in effect, those just requested included."""
        active = [row for row in reversals if row.active]
        refunds = [row for row in active if row.kind == "refund"]
        price = order.amount_minor
        if order.received_currency is not None and order.received_minor is not None:
            price = order.received_minor
        return cls(
            price_minor=price,
            received_minor=order.received_minor,
            refunded_minor=total(refunds),
            surplus_refunded_minor=total(row for row in refunds if not row.counts),
            disputed_minor=total(row for row in active if row.kind == "dispute"),
            invalidated=any(row.kind == "invalidation" for row in active),
            credited_surplus_minor=order.credited_surplus_minor or 0,
        )

    @property
    def came_minor(self) -> int:
        """The amount received, or the price if it was never read."""
        return self.price_minor if self.received_minor is None else self.received_minor

    @property
    def left_minor(self) -> int:
        """The most that can still be given back."""
        if self.invalidated:
            return 0
        return max(0, self.came_minor - self.refunded_minor - self.disputed_minor)

    @property
    def surplus_left_minor(self) -> int:
        """The part beyond the price that was not credited and can still be given back."""
        bought = self.price_minor + self.credited_surplus_minor
        return min(max(0, self.paid_for_tokens_minor - bought), self.left_minor)

    @property
    def returned_minor(self) -> int:
        """The amount given back, at most that received.

        A bank or the provider's own pages may take more than that, which we cannot prevent.
        """
        given = self.refunded_minor + self.disputed_minor
        return given if self.received_minor is None else min(given, self.received_minor)

    @property
    def paid_for_tokens_minor(self) -> int:
        return max(0, self.came_minor - self.surplus_refunded_minor)

    @property
    def reversed_minor(self) -> int:
        """The part of `paid_for_tokens_minor` that was reversed, at most all of it."""
        if self.invalidated:
            return self.paid_for_tokens_minor
        return min(self._counted_minor, self.paid_for_tokens_minor)

    @property
    def is_reversed(self) -> bool:
        """Whether all of it was reversed; if nothing was paid, whether anything was."""
        return self.invalidated or 0 < self._counted_minor >= self.paid_for_tokens_minor

    @property
    def _counted_minor(self) -> int:
        return self.refunded_minor - self.surplus_refunded_minor + self.disputed_minor

    def share_reversed(self, whole: int) -> int:
        """Return the reversed part of `whole` (tokens, the price): rounded down, or all of it."""
        if self.is_reversed:
            return whole
        if not self.reversed_minor:
            return 0
        return whole * self.reversed_minor // self.paid_for_tokens_minor

    def price_of(self, tokens: int, of_tokens: int) -> int:
        """Return what was paid for `tokens` of the pack's, rounded down."""
        return self.paid_for_tokens_minor * min(tokens, of_tokens) // of_tokens


def total(rows: Iterable[PaymentReversal]) -> int:
    """Sum up the amounts of reversals."""
    return sum(row.amount_minor for row in rows)


def store(order: Order, rows: Sequence[PaymentReversal]) -> Funds:
    """Store with a locked order what went back, and the reversed part of its price."""
    funds = Funds.of(order, rows)
    order.returned_minor = funds.returned_minor
    order.reversed_minor = funds.share_reversed(order.amount_minor)
    return funds


def receive(order: Order, amount_minor: int, currency: str) -> None:
    """Store the amount received for a locked order, as its provider reports it."""
    if amount_minor != order.received_minor and order.returned_minor is not None:
        # The two are stored together: the constraint compares them.
        order.returned_minor = min(order.returned_minor, amount_minor)
    order.received_minor = amount_minor
    order.received_currency = None if currency == order.currency else currency
