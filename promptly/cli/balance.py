"""flask balance: show an account's balance and change it manually."""

from typing import Any

import click
from flask.cli import AppGroup

from promptly.cli.operators import operator
from promptly.cli.output import (
    account_options,
    chosen_account,
    json_option,
    reports_errors,
    show_object,
)
from promptly.models import User
from promptly.services.ledger import adjustments, balances
from promptly.services.ledger.adjustments import MOST_DAYS, MOST_TOKENS
from promptly.services.ledger.ledger import Change
from promptly.transactions import transaction

group = AppGroup("balance", help="Balances: show, adjust, grant.")

reference_option = click.option(
    "--reference", help="Idempotency key: repeating the command with it changes nothing."
)


@group.command("show")
@account_options
@json_option
@reports_errors
def show(email: str | None, user_id: int | None, as_json: bool) -> None:
    """Show an account's balance."""
    with transaction():
        user = chosen_account(email, user_id)
        values = {"user_id": user.id, "email": user.email} | balances.read(user.id)
    del values["object"]
    show_object(values, as_json)


@group.command("adjust")
@account_options
@click.option(
    "--delta",
    required=True,
    type=click.IntRange(-MOST_TOKENS, MOST_TOKENS),
    help="Paid tokens to add, or to remove if negative.",
)
@reference_option
@json_option
@reports_errors
def adjust(
    email: str | None, user_id: int | None, delta: int, reference: str | None, as_json: bool
) -> None:
    """Add paid tokens, or remove up to those not held by running requests."""
    with transaction():
        user = chosen_account(email, user_id)
        made = adjustments.adjust(user.id, delta, operator=operator(), reference=reference)
        values = _changed(user, made.change)
    show_object(values, as_json)


@group.command("grant")
@account_options
@click.option("--tokens", required=True, type=click.IntRange(1, MOST_TOKENS))
@click.option("--days", required=True, type=click.IntRange(1, MOST_DAYS))
@reference_option
@json_option
@reports_errors
def grant(
    email: str | None,
    user_id: int | None,
    tokens: int,
    days: int,
    reference: str | None,
    as_json: bool,
) -> None:
    """Grant trial tokens that expire after --days, or with the current trial if later."""
    with transaction():
        user = chosen_account(email, user_id)
        made = adjustments.grant(user.id, tokens, days, operator=operator(), reference=reference)
        values = _changed(user, made.change)
    show_object(values, as_json)


def _changed(user: User, change: Change) -> dict[str, Any]:
    return {
        "user_id": user.id,
        "email": user.email,
        "paid_tokens": change.paid_tokens,
        "trial_tokens": change.trial_tokens,
        "trial_expires_at": balances.iso(change.trial_expires_at),
        "applied_delta": change.applied_delta,
    }
