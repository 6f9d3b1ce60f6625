"""Amounts at BTCPay: confirmed payments and pull payments, in the invoice's currency.

Bitcoin is converted at the rate of the invoice.
"""

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any

from promptly import money

Json = dict[str, Any]

SATOSHIS = 10**8

SUCCEEDED, CLAIMED, OFFERED, ARCHIVED = "succeeded", "claimed", "offered", "archived"

_WAITING = frozenset({"AwaitingApproval", "AwaitingPayment", "InProgress"})


def confirmed_minor(methods: Sequence[Json] | None, currency: str) -> int | None:
    """Return the sum of the confirmed payments of an invoice, in minor units, rounded down.

    `methods` are its payment methods with their payments. None if they cannot be read.
    """
    if methods is None or currency not in money.MINIMUM_CHARGE:
        return None
    try:
        received = sum((_settled(method) for method in methods), Decimal(0))
    except (KeyError, TypeError, InvalidOperation):
        return None
    return _in_minor(received, currency, ROUND_FLOOR)


def due_satoshis(methods: Sequence[Json] | None) -> int | None:
    """Return the Bitcoin that an invoice still waits for, or None if that is nothing or not known.

    By the method that asks for most: on chain, BTCPay adds a fee for each further payment.
    """
    due = [
        amount
        for method in methods or ()
        if method.get("currency") == "BTC" and (amount := _decimal(method.get("due"))) is not None
    ]
    most = max(due, default=Decimal(0))
    return int((most * SATOSHIS).to_integral_value(ROUND_CEILING)) if most > 0 else None


def course(pull_payment: Json, payouts: Sequence[Json]) -> tuple[str, Decimal | None]:
    """Return the state of a refund, and its amount in the pull payment's currency.

    Of one that was archived after a part was paid out, that part is the amount.
    """
    states = {payout.get("state") for payout in payouts}
    whole = _decimal(pull_payment.get("amount"))
    paid_out = _paid_out(payouts)
    if paid_out is not None and whole is not None and paid_out >= whole:
        return SUCCEEDED, whole
    if states & _WAITING:
        return CLAIMED, whole
    if pull_payment.get("archived") is not True:
        return OFFERED, whole
    if "Completed" in states:
        return SUCCEEDED, paid_out
    return ARCHIVED, whole


def minor(
    amount: Decimal | None, of: str, currency: str, methods: Sequence[Json] | None
) -> int | None:
    """Convert an amount of the currency `of` to minor units of the invoice's, rounded up."""
    if amount is None or currency not in money.MINIMUM_CHARGE:
        return None
    if of == currency:
        return _in_minor(amount, currency, ROUND_CEILING)
    for method in methods or ():
        rate = _decimal(method.get("rate"))
        if method.get("currency") == of and rate is not None:
            return _in_minor(amount * rate, currency, ROUND_CEILING)
    return None


def _settled(method: Json) -> Decimal:
    payments = [item for item in method["payments"] if item["status"] == "Settled"]
    if not payments:
        # Its rate may be missing.
        return Decimal(0)
    paid = sum(
        (Decimal(item["value"]) - Decimal(item.get("fee") or 0) for item in payments), Decimal(0)
    )
    return paid * Decimal(method["rate"])


def _paid_out(payouts: Sequence[Json]) -> Decimal | None:
    amounts = [
        _decimal(payout.get("originalAmount") or payout.get("amount"))
        for payout in payouts
        if payout.get("state") == "Completed"
    ]
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if len(known) == len(amounts) else None


def _decimal(text: Any) -> Decimal | None:
    try:
        return None if text is None else Decimal(str(text))
    except InvalidOperation:
        return None


def _in_minor(amount: Decimal, currency: str, rounding: str) -> int:
    scaled = amount * 10 ** money.decimals(currency)
    return max(0, int(scaled.to_integral_value(rounding)))
