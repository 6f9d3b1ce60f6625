"""flask payments attention and refunds: the money that waits for somebody."""

from typing import Any

import click
from flask.cli import with_appcontext

from promptly import labels, money
from promptly.cli.output import json_option, limit_option, reports_errors, show_object, show_rows
from promptly.models import PaymentCase
from promptly.services.payments import case_choices, cases, unfinished_refunds
from promptly.services.payments.case_choices import Choice, Offer
from promptly.transactions import transaction

COLUMNS = ("case", "created_at", "kind", "order", "provider", "detail")


@click.command("attention")
@limit_option
@json_option
@with_appcontext
@reports_errors
def attention(limit: int, as_json: bool) -> None:
    """List cases that need your decision, oldest first, with the choices and their effects."""
    with transaction():
        found = [
            (_case(case, number), case_choices.of(case, case_choices.order_of(case)))
            for case, number in cases.open_cases(limit)
        ]
    if as_json:
        columns = (*COLUMNS, "choices")
        rows = [(*values.values(), [_plain(item) for item in offer.choices])
                for values, offer in found]  # fmt: skip
        show_rows(columns, rows, as_json)
        return
    for values, offer in found:
        show_object(values | _described(offer), as_json)
        click.echo()


def _case(case: PaymentCase, number: str | None) -> dict[str, Any]:
    fields = (case.id, case.created_at, case.kind, number, case.provider, case.detail)
    return dict(zip(COLUMNS, fields, strict=True))


def _plain(choice: Choice) -> dict[str, Any]:
    return {
        "choice": choice.name,
        "label": choice.label,
        "effects": list(choice.effects),
        "refund_minor": choice.refund_minor,
        "tokens": choice.tokens,
    }


def _described(offer: Offer) -> dict[str, str]:
    """Return a line for each choice, by its name."""
    lines = {item.name: f"{item.label}: {' '.join(item.effects)}" for item in offer.choices}
    if offer.is_unread:
        lines.setdefault(cases.REFUND, "The amount is read from the provider first.")
    return lines


@click.command("refunds")
@limit_option
@json_option
@with_appcontext
@reports_errors
def refunds(limit: int, as_json: bool) -> None:
    """List refunds whose money is not back yet, oldest first, with the links to claim them."""
    columns = ("created_at", "order", "case", "amount", "state", "link")
    with transaction():
        rows = [
            (
                row.created_at, order.number, row.case_id,
                money.shown(row.amount_minor, order.paid_in),
                row.state if as_json else labels.plain(labels.REFUND_STATES, row.state),
                row.link,
            )
            for row, order in unfinished_refunds.oldest(limit)
        ]  # fmt: skip
    show_rows(columns, rows, as_json)
