"""Refunds that no webhook reported: it was lost, or BTCPay is older than 2.4.1 and sends none.

The store lists its pull payments, whose names say which invoice or order they refund.
"""

from collections import defaultdict

from promptly.services.payments import orders, reversals
from promptly.services.payments.providers.base import Provider
from promptly.transactions import transaction


def find(provider: Provider) -> dict[int, list[str]]:
    """Return the refunds in the provider's list that are not on record, by their order's id.

    Call it outside of any transaction. Raises ProviderProblem.
    """
    listed = provider.refunds()
    if not listed:
        return {}
    found = defaultdict(list)
    with transaction():
        known = reversals.known_ids(provider.name, [item.refund_id for item in listed])
        new = [item for item in listed if item.refund_id not in known]
        ids = orders.ids_of(
            provider.name,
            [item.checkout_id for item in new if item.checkout_id is not None],
            [item.order_number for item in new if item.order_number is not None],
        )
    for item in new:
        order_id = ids.get(item.order_number or item.checkout_id or "")
        if order_id is not None:
            found[order_id].append(item.refund_id)
    return found
