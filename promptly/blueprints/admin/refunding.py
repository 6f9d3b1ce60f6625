"""A refund of a purchase: asked about first, with what it takes, then written down and made."""

from flask import current_app, g, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from promptly import money
from promptly.blueprints.admin import actor, confirmation
from promptly.blueprints.admin.confirmation import Confirmation
from promptly.errors import InvalidRequest
from promptly.extensions import db
from promptly.models import Order, User
from promptly.services.payments import orders, refunds
from promptly.services.payments.snapshot import tokens_reversed
from promptly.transactions import transaction


def question(number: str) -> str:
    """What a refund would give back, and which tokens it would take."""
    order = orders.find(number)
    amount = _entered_amount(order)
    by_hand = "by_hand" in request.args
    user = None if order.user_id is None else db.session.get(User, order.user_id)
    shown = money.shown(amount, order.currency)
    return confirmation.ask(
        Confirmation(
            title=f"Refund {shown}?",
            facts=[
                ("Purchase", f"{order.number}, {order.pack}"),
                ("Account", "deleted" if user is None else user.email),
                ("Price", money.shown(order.amount_minor, order.currency)),
                ("Refunded so far", money.shown(order.refunded_minor, order.currency)),
            ],
            effects=[
                f"{shown} is only written down as refunded: you have given it back yourself."
                if by_hand
                else f"The provider is asked to give {shown} back; that cannot be undone here.",
                _taken(order, amount),
            ],
            action=url_for("admin.refund", number=number),
            button=f"Refund {shown}",
            back=url_for("admin.purchase", number=number),
            user_id=order.user_id,
            fields={
                "amount_minor": str(amount),
                "reversed_minor": str(order.reversed_minor),
                **({"by_hand": "1"} if by_hand else {}),
            },
        )
    )


def refund(number: str) -> AnyResponse:
    """Write the refund down, take the tokens, and ask the provider."""
    with transaction():
        order = orders.lock(orders.find(number).id)
        confirmation.require_account(order.user_id)
        if request.form.get("reversed_minor") != str(order.reversed_minor):
            # Sent twice, or something else came between the question and its answer.
            raise InvalidRequest("This purchase has changed since you were asked: look again.")
        before = {"state": order.state, "reversed_minor": order.reversed_minor}
        row = refunds.request_refund(
            number, amount_minor=_amount_minor(), actor=g.actor, by_hand="by_hand" in request.form
        )
        act = actor.record(
            "payment.refund",
            user_id=order.user_id,
            subject=number,
            before=before,
            after=refunds.audited(order, row),
        )
        row_id = row.id
    # If it stays without an answer, reconciliation asks again.
    refunds.execute_refund(row_id, current_app.extensions["settings"])
    return redirect(url_for("admin.purchase", number=number, act=act), 303)


def _entered_amount(order: Order) -> int:
    quote = refunds.quote(order)
    try:
        amount = money.parse_decimal(request.args.get("amount", "").strip(), order.currency)
    except ValueError as problem:
        raise InvalidRequest(f"The amount is {problem}.", param="amount") from None
    if not 0 < amount <= quote.most_minor:
        most = money.shown(quote.most_minor, order.currency)
        raise InvalidRequest(f"At most {most} can be refunded, and not nothing.", param="amount")
    return amount


def _amount_minor() -> int:
    entered = request.form.get("amount_minor", "")
    if not (entered.isascii() and entered.isdecimal() and len(entered) < 16):
        raise InvalidRequest("The amount is missing.", param="amount_minor")
    return int(entered)


def _taken(order: Order, amount_minor: int) -> str:
    reversed_minor = min(order.reversed_minor + amount_minor, order.amount_minor)
    wanted = tokens_reversed(order.tokens, order.amount_minor, reversed_minor)
    more = max(wanted - order.tokens_taken, 0)
    if order.user_id is None:
        return "The account is deleted, so no tokens are taken."
    return (
        f"Of its {order.tokens:,} tokens {more:,} more are taken back; what of them is spent or"
        " held by a running request is noted as owed."
    )
