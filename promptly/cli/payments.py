"""flask payments: orders, cases that need a decision, reconciliation."""

from typing import Any

import click
from flask.cli import AppGroup

from promptly import money
from promptly.cli.operators import operator
from promptly.cli.output import (
    account_options,
    chosen_account,
    json_option,
    limit_option,
    reports_errors,
    show_object,
    show_rows,
)
from promptly.cli.payment_cases import attention, refunds
from promptly.cli.payment_decisions import refund, resolve
from promptly.models import Order, PaymentReversal, User
from promptly.models.payments import PROVIDERS
from promptly.models.states import OrderState
from promptly.services.paging import START, Cursor
from promptly.services.payments import cases, orders, reconciliation, reversals
from promptly.services.payments import refunds as refunding
from promptly.settings import current_settings
from promptly.transactions import transaction

group = AppGroup("payments", help="Purchases, cases to decide, refunds, reconciliation.")
for command in (attention, resolve, refund, refunds):
    group.add_command(command)


@group.command("list")
@account_options
@click.option(
    "--state",
    type=click.Choice([state.value for state in OrderState]),
    help="Only orders in this state.",
)
@click.option("--provider", type=click.Choice(PROVIDERS), help="Only orders at this provider.")
@click.option("--owed", is_flag=True, help="Only orders that owe tokens.")
@click.option("--search", default="", help="An order number, or part of an email address.")
@limit_option
@json_option
@click.option("--before", metavar="NUMBER", help="Continue before the order with this number.")
@reports_errors
def list_orders(
    email: str | None,
    user_id: int | None,
    state: str | None,
    provider: str | None,
    owed: bool,
    search: str,
    limit: int,
    before: str | None,
    as_json: bool,
) -> None:
    """List orders, newest first."""
    columns = (
        "number", "created_at", "email", "pack", "price", "provider", "state",
        "tokens", "tokens_taken", "tokens_owed",
    )  # fmt: skip
    with transaction():
        account = chosen_account(email, user_id).id if email or user_id else None
        at = START if before is None else Cursor(orders.find(before).id)
        found = orders.page(
            limit,
            at,
            user_id=account,
            state=state,
            provider=provider,
            owed=owed,
            search=search,
        )
        rows = [
            (
                order.number, order.created_at, address, order.pack, _price(order),
                order.provider, order.state, order.tokens, order.tokens_taken, order.tokens_owed,
            )
            for order, address in found.rows
        ]  # fmt: skip
    show_rows(columns, rows, as_json)


@group.command("show")
@click.argument("number")
@json_option
@reports_errors
def show(number: str, as_json: bool) -> None:
    """Show one order with its refunds, disputes and cases."""
    with transaction() as session:
        order = orders.find(number)
        user = None if order.user_id is None else session.get(User, order.user_id)
        quote = refunding.quote(order)
        values: dict[str, Any] = {
            "number": order.number,
            "email": None if user is None else user.email,
            "pack": order.pack,
            "tokens": order.tokens,
            "price": _price(order),
            "state": order.state,
            "provider": order.provider,
            "provider_status": order.provider_status,
            "livemode": order.livemode,
            "checkout_id": order.checkout_id,
            "payment_id": order.payment_id,
            "created_at": order.created_at,
            "credited_at": order.credited_at,
            "credited_by_operator": order.approved,
            "received": (
                None
                if order.received_minor is None
                else money.shown(order.received_minor, order.paid_in)
            ),
            "given_back": money.shown(quote.returned_minor, order.paid_in),
            "refunded": money.shown(order.refunded_minor, order.paid_in),
            "refundable": money.shown(quote.most_minor, order.paid_in),
            "unspent": money.shown(quote.unspent_minor, order.paid_in),
            "tokens_taken": order.tokens_taken,
            "tokens_owed": order.tokens_owed,
            "last_error": order.last_error,
        }
        found_reversals = [_reversal(row, order) for row in reversals.of_order(order.id)]
        found_cases = [
            {"case": case.id, "kind": case.kind, "detail": case.detail,
             "resolution": case.resolution, "resolved_by": case.resolved_by, "note": case.note}
            for case in cases.cases_of(order.id)
        ]  # fmt: skip
    if as_json:
        show_object(values | {"reversals": found_reversals, "cases": found_cases}, as_json)
        return
    show_object(values, as_json)
    for row in [*found_reversals, *found_cases]:
        click.echo()
        show_object(row, as_json)


@group.command("reconcile")
@json_option
def reconcile(as_json: bool) -> None:
    """Compare all orders with the providers' lists, correct differences, and report."""
    row = reconciliation.run(current_settings(), actor=operator().actor)
    if row is None:
        raise click.ClickException("A reconciliation is already running: wait until it ends.")
    with transaction():
        operator().record("payment.reconcile", after={"complete": row.complete})
    report = dict(row.report)
    if not as_json:
        report["changed"] = (
            ", ".join(
                f"{item['number']}: {item['before']} → {item['after']}"
                for item in report["changed"]
            )
            or None
        )
        report["problems"] = "; ".join(report["problems"]) or None
    show_object({"complete": row.complete} | report, as_json)
    if not row.complete:
        raise SystemExit(1)


def _reversal(row: PaymentReversal, order: Order) -> dict[str, Any]:
    return {
        "reversal": row.id,
        "kind": row.kind,
        "state": row.state,
        "counts": row.active and row.counts,
        "amount": money.shown(row.amount_minor, order.paid_in),
        "provider_id": row.provider_id,
        "link": row.link,
        "actor": row.actor,
        "created_at": row.created_at,
        "last_error": row.last_error,
    }


def _price(order: Order) -> str:
    return money.shown(order.amount_minor, order.currency)
