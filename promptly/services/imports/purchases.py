"""Purchases in model-gateway as credited orders, so that no webhook credits them again.

Each is a lot, so a refund takes back what is left of it. The ledger entry is dated now, because
its tokens belong to these books from now on; the order keeps the day of the payment.
"""

from collections.abc import Sequence

from sqlalchemy import select

from promptly.extensions import db
from promptly.models import Order
from promptly.models.states import OrderState
from promptly.services.imports.outcome import Outcome, Reason
from promptly.services.imports.source import Purchase, SourceAccount
from promptly.services.ledger import ledger
from promptly.services.payments import cases, orders
from promptly.settings import Settings

PROVIDERS = frozenset({"stripe", "btcpay"})
# The name of a pack that is not on sale here.
UNKNOWN_PACK = "imported"
# Stripe's ids tell test mode, where no money moves.
_TEST_SESSION = "cs_test_"


def bring_over(
    user_id: int, account: SourceAccount, settings: Settings, *, actor: str, outcome: Outcome
) -> int:
    """Store purchases that are not known yet, and credit them; return the tokens credited.

    Those that cannot be orders are listed: their tokens are part of the opening balance.
    """
    new: list[tuple[str, Order]] = []
    owners = _owners(account.purchases)
    for purchase in account.purchases:
        order = _order(user_id, purchase, settings)
        if order is None:
            detail = f"{purchase.method} {purchase.reference}: {purchase.tokens} tokens"
            outcome.note(Reason.PURCHASE_NOT_AN_ORDER, detail)
        elif (purchase.method, purchase.reference) not in owners:
            new.append((str(purchase.reference), order))
        elif owners[purchase.method, purchase.reference] != user_id:
            outcome.note(Reason.PURCHASE_KNOWN, f"{purchase.method} {purchase.reference}")
    if not new:
        return 0
    db.session.add_all(order for _, order in new)
    cases.supersede_unknown([reference for reference, _ in new])
    lots = [(order.number, order.tokens) for _, order in new]
    for number, tokens in lots:
        ledger.adjust(user_id, tokens, kind="purchase", reference=number, actor=actor)
    outcome.purchases = len(lots)
    return sum(tokens for _, tokens in lots)


def _owners(purchases: Sequence[Purchase]) -> dict[tuple[str | None, str | None], int | None]:
    """Return the accounts of the orders that have these pages, by provider and page."""
    references = [purchase.reference for purchase in purchases if purchase.reference]
    if not references:
        return {}
    query = select(Order.provider, Order.checkout_id, Order.user_id)
    rows = db.session.execute(query.where(Order.checkout_id.in_(references)))
    return {(row.provider, row.checkout_id): row.user_id for row in rows}


def _order(user_id: int, purchase: Purchase, settings: Settings) -> Order | None:
    """Return the order of a purchase, not stored yet; None if it does not make one."""
    tokens, amount = purchase.tokens or 0, purchase.amount_cents or 0
    if purchase.method not in PROVIDERS or not purchase.reference or tokens <= 0 or amount <= 0:
        return None
    names = {(pack.tokens, pack.amount_minor): pack.name for pack in settings.packs}
    return Order(
        number=orders.new_number(),
        user_id=user_id,
        pack=names.get((tokens, amount), UNKNOWN_PACK),
        tokens=tokens,
        amount_minor=amount,
        currency=settings.packs_currency,
        provider=purchase.method,
        livemode=not purchase.reference.startswith(_TEST_SESSION),
        state=OrderState.PAID,
        checkout_id=purchase.reference,
        credited_at=purchase.paid_at,
        requested_at=purchase.paid_at,
        expires_at=purchase.paid_at,
        created_at=purchase.paid_at,
    )
