"""The effects of a refund on money and tokens, in sentences for operators."""

from promptly import labels, money
from promptly.models import Order
from promptly.services.payments import lots, refunds


def of(
    order: Order, amount_minor: int, *, of_surplus: bool = False, by_hand: bool = False
) -> tuple[str, ...]:
    """Describe a refund of an order, of the amount or of a surplus of it.

    `by_hand`: it is only recorded.
    """
    money_moves = (
        f"{_shown(order, amount_minor)} is only recorded: you have returned the money yourself."
        if by_hand
        else _way_back(order, amount_minor)
    )
    if of_surplus:
        return (money_moves, "No tokens are taken: the purchase stays paid.")
    return (money_moves, *tokens_of(order, refunds.tokens_reversed_by(order, amount_minor)))


def tokens_of(order: Order, tokens: int) -> tuple[str, ...]:
    """Describe how many of an order's tokens are taken back, and how many are owed."""
    if order.credited_at is None:
        return ("No tokens are taken: none were credited.",)
    if order.user_id is None:
        return ("No tokens are taken: the account has been deleted.",)
    free = lots.remaining(order.user_id, order.number, lock=False).free_tokens
    if free >= tokens:
        return (f"{tokens:,} unspent tokens are taken back.",)
    return (
        f"Of {tokens:,} tokens, the {free:,} that are unspent now are taken back; the others are"
        " spent or held by requests, and recorded as owed.",
    )


def _way_back(order: Order, amount_minor: int) -> str:
    amount, provider = _shown(order, amount_minor), labels.PROVIDERS[order.provider]
    if order.provider == "stripe":
        return f"{provider} returns {amount} to the customer. This cannot be undone."
    has_owner = order.user_id is not None
    link = "promptly emails them its link" if has_owner else "you send them its link"
    return (
        f"{provider} opens a page where the customer claims {amount}; {link}. You approve the"
        f" payout in {provider}."
    )


def _shown(order: Order, amount_minor: int) -> str:
    return money.shown(amount_minor, order.paid_in)
