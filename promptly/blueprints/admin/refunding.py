"""Refunds of purchases: confirmed with their effects, then recorded and sent to the provider."""

from flask import g, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from promptly import money
from promptly.blueprints.admin import actor, confirmation, refund_rows
from promptly.blueprints.admin.confirmation import Confirmation
from promptly.errors import InvalidRequest
from promptly.extensions import db
from promptly.models import Order, User
from promptly.services.payments import orders, refund_effects, refunds
from promptly.settings import current_settings
from promptly.transactions import transaction


def question(number: str) -> str:
    """Confirm a refund: the amount returned, and the tokens taken back."""
    order = orders.find(number)
    quote = refunds.quote(order)
    amount = _entered_amount(order, quote.most_minor)
    by_hand = "by_hand" in request.args
    user = None if order.user_id is None else db.session.get(User, order.user_id)
    shown = money.shown(amount, order.paid_in)
    return confirmation.ask(
        Confirmation(
            title=f"Refund {shown}?",
            facts=[
                ("Purchase", f"{order.number}, {order.pack}"),
                ("Account", "deleted" if user is None else user.email),
                ("Price", money.shown(order.amount_minor, order.currency)),
                ("Received", _received(order)),
                ("Given back", refund_rows.given_back(order)),
            ],
            effects=list(refund_effects.of(order, amount, by_hand=by_hand)),
            action=url_for("admin.refund", number=number),
            button=f"Refund {shown}",
            back=url_for("admin.purchase", number=number),
            user_id=order.user_id,
            fields={
                "amount_minor": str(amount),
                "seen": _seen(order),
                **({"by_hand": "1"} if by_hand else {}),
            },
        )
    )


def refund(number: str) -> AnyResponse:
    """Record the refund, take back the tokens, and request it from the provider."""
    refunds.read_received(number, current_settings())
    with transaction():
        order = orders.lock(orders.find(number).id)
        confirmation.require_account(order.user_id)
        if request.form.get("seen") != _seen(order):
            # The form was sent twice, or the purchase changed after the confirmation page.
            raise InvalidRequest(
                "This purchase has changed since this page was loaded. Nothing was refunded: reload"
                " it."
            )
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
    # If the provider does not answer, reconciliation asks again.
    refunds.execute_refund(row_id, current_settings())
    return redirect(url_for("admin.purchase", number=number, act=act), 303)


def _entered_amount(order: Order, most_minor: int) -> int:
    try:
        amount = money.parse_decimal(request.args.get("amount", "").strip(), order.paid_in)
    except ValueError as problem:
        raise InvalidRequest(f"The amount is {problem}.", param="amount") from None
    if not 0 < amount <= most_minor:
        most = money.shown(most_minor, order.paid_in)
        raise InvalidRequest(f"Enter an amount above zero, at most {most}.", param="amount")
    return amount


def _amount_minor() -> int:
    entered = request.form.get("amount_minor", "")
    if not (entered.isascii() and entered.isdecimal() and len(entered) < 16):
        raise InvalidRequest("The amount is missing.", param="amount_minor")
    return int(entered)


def _received(order: Order) -> str:
    if order.received_minor is None:
        return "not read from the provider yet"
    return money.shown(order.received_minor, order.paid_in)


def _seen(order: Order) -> str:
    """Return what the page showed of the money, to compare it when the form is sent."""
    returned_minor = refunds.quote(order).returned_minor
    return f"{order.received_minor} {returned_minor} {order.paid_in} {order.tokens}"
