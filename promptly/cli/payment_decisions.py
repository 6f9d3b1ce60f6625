"""flask payments resolve and refund: the operator's decisions about single orders."""

from typing import Any

import click
from flask.cli import with_appcontext

from promptly import money
from promptly.cli.operators import operator
from promptly.cli.output import json_option, reports_errors, show_object, yes_option
from promptly.errors import InvalidRequest
from promptly.services.payments import (
    case_choices,
    case_decisions,
    cases,
    funds,
    orders,
    refund_effects,
    refunds,
)
from promptly.settings import current_settings
from promptly.transactions import transaction


@click.command("resolve")
@click.argument("case_id", type=int)
@click.option(
    "--choice",
    required=True,
    type=click.Choice(sorted({choice for offered in cases.CHOICES.values() for choice in offered})),
)
@click.option("--note", help="The reason, for later reference.")
@yes_option
@json_option
@with_appcontext
@reports_errors
def resolve(case_id: int, choice: str, note: str | None, yes: bool, as_json: bool) -> None:
    """Resolve a case, once; `attention` lists the choices."""
    case_decisions.prepare(case_id, choice, current_settings())
    seen = None if yes else _confirmed(case_id, choice)
    with transaction():
        order = case_choices.order_of(cases.find(case_id))
        state = None if order is None else order.state
        case, refund_id = case_decisions.resolve(
            case_id, choice, actor=operator().actor, note=note, seen=seen
        )
        operator().record(
            "payment.resolve",
            user_id=None if order is None else order.user_id,
            subject=str(case_id),
            before={"state": state},
            after={
                "choice": choice,
                "order": None if order is None else order.number,
                "state": None if order is None else order.state,
            },
        )
        values: dict[str, Any] = {
            "case": case.id,
            "kind": case.kind,
            "resolution": case.resolution,
            "resolved_by": case.resolved_by,
        }
    if refund_id is not None:
        values |= _carried_out(refund_id)
    show_object(values, as_json)


def _confirmed(case_id: int, choice: str) -> str:
    """Show the choice with its amount and effects, and ask; return what was seen."""
    with transaction():
        chosen = case_choices.of_case(case_id).find(choice)
    for effect in chosen.effects:
        click.echo(effect, err=True)
    click.confirm(f"Case {case_id}: {chosen.label}?", abort=True, err=True)
    return chosen.seen


@click.command("refund")
@click.argument("number")
@click.option("--amount", help="Amount to refund, such as 1.25; by default the unspent part.")
@click.option("--full", is_flag=True, help="Refund everything not refunded yet, spent or not.")
@click.option("--by-hand", is_flag=True, help="Only record a refund made elsewhere.")
@yes_option
@json_option
@with_appcontext
@reports_errors
def refund(
    number: str, amount: str | None, full: bool, by_hand: bool, yes: bool, as_json: bool
) -> None:
    """Refund an order and take back the tokens refunded, as far as they are unspent.

    Of an order that was not credited, all that was received by default.
    """
    if amount is not None and full:
        raise click.UsageError("Give --amount or --full, not both.")
    refunds.read_received(number, current_settings())
    with transaction():
        order = orders.find(number)
        quote = refunds.quote(order)
        amount_minor = _amount(amount, order.paid_in)
        if full:
            amount_minor = quote.most_minor
        if amount_minor is None:
            amount_minor = quote.unspent_minor
        shown = money.shown(amount_minor, order.paid_in)
        effects = refund_effects.of(order, amount_minor, by_hand=by_hand)
    if not yes:
        for effect in effects:
            click.echo(effect, err=True)
        click.confirm(f"Refund {shown} of order {number}?", abort=True, err=True)
    with transaction():
        order = orders.lock(orders.find(number).id)
        before = {"state": order.state, "reversed_minor": order.reversed_minor}
        row = refunds.request_refund(
            number, amount_minor=amount_minor, actor=operator().actor, by_hand=by_hand
        )
        row_id = row.id
        operator().record(
            "payment.refund",
            user_id=order.user_id,
            subject=number,
            before=before,
            after=refunds.audited(order, row),
        )
    values = _carried_out(row_id)
    with transaction():
        order = orders.find(number)
        values |= {
            "order": order.number,
            "order_state": order.state,
            "tokens_taken": order.tokens_taken,
            "tokens_owed": order.tokens_owed,
        }
    show_object(values, as_json)
    if values["refund_state"] == "failed":
        raise SystemExit(1)


def _carried_out(refund_id: int) -> dict[str, Any]:
    outcome = refunds.execute_refund(refund_id, current_settings())
    if outcome is None:
        # A webhook of this order is being processed: reconciliation requests the refund later.
        return {"refund": refund_id, "refund_state": funds.REQUESTED, "refund_error": "busy"}
    return {
        "refund": outcome.refund_id,
        "refund_state": outcome.state,
        "refund_error": outcome.last_error,
        "link": outcome.link,
    }


def _amount(text: str | None, currency: str) -> int | None:
    if text is None:
        return None
    try:
        return money.parse_decimal(text, currency)
    except ValueError as problem:
        raise InvalidRequest(f"--amount is {problem}.", param="amount") from None
