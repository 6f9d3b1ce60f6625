"""Provider snapshots and reversals of an order, built as plain data."""

from dataclasses import replace
from typing import Any

from promptly.models import Order
from promptly.services.payments.snapshot import ProviderSnapshot, Reversal


def snapshot(order: Order, status: str = "paid", **values: Any) -> ProviderSnapshot:
    """Return a snapshot of the order's own checkout page."""
    complete = ProviderSnapshot(
        provider=order.provider,
        checkout_id=order.checkout_id or "cs_unknown",
        order_number=order.number,
        livemode=order.livemode,
        status=status,
        provider_status=status,
        amount_minor=order.amount_minor,
        currency=order.currency,
        payment_id=f"pi_{order.id}" if order.provider == "stripe" else None,
        paid_minor=order.amount_minor if status == "paid" else None,
    )
    made = replace(complete, **values)
    return made if "received_minor" in values else replace(made, received_minor=made.paid_minor)


def refund(amount_minor: int, state: str = "succeeded", name: str = "re_1") -> Reversal:
    return Reversal("refund", name, amount_minor, state, active=state not in {"failed", "canceled"})


def dispute(
    amount_minor: int | None, state: str = "needs_response", name: str = "du_1"
) -> Reversal:
    harmless = state in {"won", "prevented"} or state.startswith("warning_")
    return Reversal("dispute", name, amount_minor, state, active=not harmless)
