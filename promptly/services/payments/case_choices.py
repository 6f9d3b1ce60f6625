"""The choices that a case offers now, each with its amount and its effect on money and tokens.

The panel and the commands show them, and `case_decisions` compares the one chosen with what was
shown: all from here, computed from what was received for the order and given back.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from promptly import labels, money
from promptly.errors import InvalidRequest
from promptly.extensions import db
from promptly.models import Order, PaymentCase
from promptly.models.states import CaseKind
from promptly.services.payments import cases, credit, refund_effects, refunds, reversals
from promptly.services.payments.funds import Funds

_NOTHING_MOVES = "No money and no tokens move."


@dataclass(frozen=True)
class Choice:
    """One way to decide a case; `label` names its amount, `effects` are sentences.

    `refund_minor` goes back to the customer, `tokens` are added to the account, or reversed if
    negative. `seen` stands for all of this and the money received and given back.
    """

    name: str
    label: str
    effects: tuple[str, ...]
    refund_minor: int
    tokens: int
    seen: str


@dataclass(frozen=True)
class Offer:
    """The choices of a case; `is_unread` if no refund is offered before the provider was asked."""

    choices: tuple[Choice, ...]
    is_unread: bool

    def find(self, name: str) -> Choice:
        """Return the choice of this name; raises InvalidRequest if it does not apply now."""
        for choice in self.choices:
            if choice.name == name:
                return choice
        offered = ", ".join(choice.name for choice in self.choices)
        raise InvalidRequest(f"This case can be resolved by: {offered}.", param="choice")


def of(case: PaymentCase, order: Order | None) -> Offer:
    """Return the choices that apply to a case now, decided or not."""
    built = {choice.name: choice for choice in _choices(case, order)}
    allowed = cases.choices(case.kind)
    unread = order is None or order.received_minor is None
    return Offer(
        choices=tuple(built[name] for name in allowed if name in built),
        is_unread=unread and not cases.REFUNDS.isdisjoint(allowed),
    )


def of_case(case_id: int) -> Offer:
    """Return the choices of the case with this id; raises NotFound."""
    case = cases.find(case_id)
    return of(case, order_of(case))


def order_of(case: PaymentCase) -> Order | None:
    """Return the order that a case is about, if it is in this database."""
    return None if case.order_id is None else db.session.get_one(Order, case.order_id)


def _choices(case: PaymentCase, order: Order | None) -> Iterator[Choice]:
    """Yield the choices that make sense now, those that the kind of case does not allow too."""
    if order is None:
        yield _choice(case, order, cases.DISMISS, (_NOTHING_MOVES,))
        return
    funds = reversals.funds_of(order)
    over = case.kind == CaseKind.PAID_OVER
    surplus = funds.surplus_left_minor if over else 0
    if order.user_id is not None and order.credited_at is None:
        yield _choice(case, order, cases.CREDIT, _credit(order, funds), tokens=order.tokens)
    if surplus and order.user_id is not None and order.credited_at is not None:
        yield from _credit_surplus(case, order, surplus)
    if surplus:
        effects = refund_effects.of(order, surplus, of_surplus=True)
        label = labels.REFUND_SURPLUS
        yield _choice(case, order, cases.REFUND, effects, label=label, refund_minor=surplus)
    if order.received_minor is not None and funds.left_minor > surplus:
        yield _refund(case, order, cases.REFUND_ALL if over else cases.REFUND, funds.left_minor)
    if order.credited_at is not None and not funds.invalidated:
        tokens = order.tokens - order.tokens_taken
        effects = (*refund_effects.tokens_of(order, tokens), "No money moves.")
        yield _choice(case, order, cases.TAKE_BACK, effects, tokens=-tokens)
    yield _dismiss(case, order, surplus if over else funds.left_minor)


def _credit(order: Order, funds: Funds) -> tuple[str, ...]:
    effects = [f"The account gets the whole pack, {order.tokens:,} tokens.", "No money moves."]
    if funds.received_minor is None:
        effects.append("How much was received has not been read from the provider yet.")
    elif not funds.received_minor:
        effects.append("Nothing has been confirmed as received, so nothing can be refunded later.")
    elif order.received_currency or funds.received_minor < order.amount_minor:
        price = money.shown(order.amount_minor, order.currency)
        effects.append(f"{_shown(order, funds.received_minor)} of {price} has been received.")
    elif funds.surplus_left_minor:
        surplus = _shown(order, funds.surplus_left_minor)
        effects.append(f"The surplus of {surplus} then becomes a case of its own.")
    return tuple(effects)


def _credit_surplus(case: PaymentCase, order: Order, surplus_minor: int) -> Iterator[Choice]:
    tokens = credit.surplus_tokens(order, surplus_minor)
    if tokens:
        effects = (
            f"The account gets {tokens:,} tokens for {_shown(order, surplus_minor)}, at the pack's"
            " rate, and a receipt.",
            "No money moves. A later refund of the purchase takes its share of these tokens too.",
        )
        yield _choice(case, order, cases.CREDIT_SURPLUS, effects, tokens=tokens)


def _refund(case: PaymentCase, order: Order, name: str, amount_minor: int) -> Choice:
    effects = refund_effects.of(order, amount_minor)
    tokens = refunds.tokens_reversed_by(order, amount_minor)
    return _choice(case, order, name, effects, refund_minor=amount_minor, tokens=-tokens)


def _dismiss(case: PaymentCase, order: Order, kept_minor: int) -> Choice:
    effects, label, kept = [_NOTHING_MOVES], None, _shown(order, kept_minor)
    if case.kind == CaseKind.SECOND_CHECKOUT:
        provider = labels.PROVIDERS[case.provider]
        effects.append(f"Refund the second payment, {case.checkout_id}, at {provider} first.")
    elif kept_minor and (case.kind == CaseKind.PAID_OVER or order.credited_at is None):
        label = labels.DISMISS_AND_KEEP.format(amount=kept)
        effects.append(f"The customer gets no tokens for {kept}.")
    return _choice(case, order, cases.DISMISS, tuple(effects), label=label)


def _choice(
    case: PaymentCase,
    order: Order | None,
    name: str,
    effects: tuple[str, ...],
    *,
    label: str | None = None,
    refund_minor: int = 0,
    tokens: int = 0,
) -> Choice:
    shown = "" if order is None else _shown(order, refund_minor)
    return Choice(
        name=name,
        label=(label or labels.CHOICES[name]).format(amount=shown, tokens=f"{abs(tokens):,}"),
        effects=effects,
        refund_minor=refund_minor,
        tokens=tokens,
        seen=_seen(case, order, name, refund_minor, tokens),
    )


def _seen(case: PaymentCase, order: Order | None, name: str, refund_minor: int, tokens: int) -> str:
    if order is None:
        return f"{name} {case.paid_minor}"
    moved = f"{name} {refund_minor} {order.paid_in} {tokens}"
    return f"{moved} {order.received_minor} {order.returned_minor or 0}"


def _shown(order: Order, amount_minor: int) -> str:
    return money.shown(amount_minor, order.paid_in)
