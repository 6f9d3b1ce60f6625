"""The parameters of a BTCPay refund: its amount, and the payout methods that it may be claimed by.

Without a payout method BTCPay takes the invoice's default payment method, which may be another than
the customer paid by, or BTC-LNURL, which it cannot pay out at all.
"""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from promptly import money
from promptly.services.payments.providers.base import OrderFacts, RefundFacts

Json = dict[str, Any]

# From this version on a refund has a list of payout methods, before it had one of them.
LISTS_METHODS = (2, 4, 1)


def refund_params(
    order: OrderFacts,
    refund: RefundFacts,
    methods: Sequence[Json],
    version: tuple[int, ...] | None,
) -> Json:
    """Return a refund's parameters: an amount in the invoice's currency, at the day's rate.

    BTCPay's own variants count unconfirmed payments too, and refunds that were made already.
    `methods` are the invoice's payment methods. A server of an unknown version is taken for an old
    one: newer ones understand the older parameter too.
    """
    params: Json = {
        "name": pull_payment_name(order, refund),
        "refundVariant": "Custom",
        "customAmount": money.decimal_text(refund.amount_minor, order.paid_in),
        "customCurrency": order.paid_in,
    }
    payable = payout_methods(methods)
    if not payable:
        return params
    if version is not None and version >= LISTS_METHODS:
        return params | {"payoutMethods": payable}
    return params | {"payoutMethodId": payable[0]}


def pull_payment_name(order: OrderFacts, refund: RefundFacts) -> str:
    """Return the name by which a refund is found again; at most 50 characters."""
    return f"Refund {order.number} {refund.id}"


def payout_methods(methods: Sequence[Json]) -> list[str]:
    """Return the payout methods for an invoice's payments, the one with most of the money first."""
    paid: dict[str, Decimal] = {}
    for method in methods:
        value = _paid(method)
        if value > 0:
            payout = str(method.get("paymentMethodId")).replace("-LNURL", "-LN")
            paid[payout] = paid.get(payout, Decimal(0)) + value
    # In alphabetical order if equal: on chain, where every amount can be paid out.
    return sorted(paid, key=lambda name: (-paid[name], name))


def _paid(method: Json) -> Decimal:
    """Return what was paid by a method in the invoice's currency, confirmed or not."""
    try:
        values = [
            Decimal(item["value"])
            for item in method.get("payments") or ()
            if item.get("status") != "Invalid"
        ]
        return sum(values, Decimal(0)) * Decimal(method["rate"]) if values else Decimal(0)
    except (KeyError, TypeError, InvalidOperation):
        return Decimal(0)
