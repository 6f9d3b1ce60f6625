"""Amounts paid of an invoice. Bitcoin has 8 decimals, the invoice's currency has 2."""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, ROUND_UP, Decimal
from typing import Any

Invoice = dict[str, Any]

SATOSHI = Decimal("0.00000001")
CENT = Decimal("0.01")

# Price of one bitcoin in the sandbox, by the invoice's currency.
RATES = {"USD": Decimal(100_000), "EUR": Decimal(90_000), "BTC": Decimal(1)}

UNPAID = Decimal(0)


@dataclass(frozen=True, slots=True)
class Account:
    """An invoice's amounts in bitcoin; ``total`` is None for a top-up that is not paid yet."""

    total: Decimal | None
    paid: Decimal
    confirmed: Decimal
    tolerance_percent: Decimal

    @property
    def due(self) -> Decimal:
        """Amount left to pay; negative if overpaid."""
        return (self.total if self.total is not None else self.paid) - self.paid

    @property
    def is_paid(self) -> bool:
        """Whether enough was paid, confirmed or not."""
        return self._is_enough(self.paid)

    @property
    def is_confirmed(self) -> bool:
        """Whether enough was paid and confirmed."""
        return self._is_enough(self.confirmed)

    @property
    def is_over(self) -> bool:
        """Whether more was paid than requested."""
        return self.total is not None and self.paid > self.total

    def _is_enough(self, amount: Decimal) -> bool:
        if self.total is None:
            return amount > 0
        return amount > 0 and amount >= self.total * (100 - self.tolerance_percent) / 100


def account(invoice: Invoice) -> Account:
    """Sum up an invoice's payments; replaced ones do not count."""
    total = None
    if invoice["amount"] is not None:
        asked = Decimal(invoice["amount"]) / Decimal(invoice["rate"])
        total = asked.quantize(SATOSHI, ROUND_UP)
    return Account(
        total,
        paid=_sum(invoice, ("Processing", "Settled")),
        confirmed=_sum(invoice, ("Settled",)),
        tolerance_percent=Decimal(str(invoice["checkout"]["paymentTolerance"])),
    )


def in_currency(invoice: Invoice, bitcoin: Decimal) -> Decimal:
    """Convert bitcoin to the invoice's currency at its rate."""
    return (bitcoin * Decimal(invoice["rate"])).quantize(CENT, ROUND_HALF_UP)


def minor(amount: Decimal) -> int:
    """Return an amount in cents."""
    return int((amount * 100).to_integral_value(ROUND_HALF_UP))


def text(amount: Decimal) -> str:
    """Format an amount as the API does: without exponent, zero without decimals."""
    return f"{amount:f}" if amount else "0"


def _sum(invoice: Invoice, statuses: tuple[str, ...]) -> Decimal:
    values = (Decimal(item["value"]) for item in invoice["payments"] if item["status"] in statuses)
    return sum(values, UNPAID)
