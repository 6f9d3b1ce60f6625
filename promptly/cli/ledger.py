"""flask ledger: an account's entries, and verification of all balances."""

import click
from flask.cli import AppGroup

from promptly.cli.output import (
    account_options,
    chosen_account,
    json_option,
    limit_option,
    reports_errors,
    show_object,
    show_rows,
)
from promptly.services.ledger import ledger, verification
from promptly.transactions import transaction

group = AppGroup("ledger", help="The ledger: show, verify.")


@group.command("show")
@account_options
@limit_option
@json_option
@reports_errors
def show(email: str | None, user_id: int | None, limit: int, as_json: bool) -> None:
    """Show an account's newest entries."""
    columns = ("id", "created_at", "kind", "paid_delta", "trial_delta", "reference", "actor")
    with transaction():
        user = chosen_account(email, user_id)
        rows = [
            tuple(getattr(entry, column) for column in columns)
            for entry in ledger.entries(user.id, limit)
        ]
    show_rows(columns, rows, as_json)


@group.command("verify")
@click.option("--record", is_flag=True, help="Keep the result, as the nightly verification does.")
@json_option
def verify(record: bool, as_json: bool) -> None:
    """Recompute every balance from its entries; exit code 1 if any differs."""
    with transaction():
        differences = verification.verify()
        accounts = verification.count_accounts()
        if record:
            verification.record(len(differences))
    if as_json:
        found = [vars(difference) for difference in differences]
        show_object({"clean": not differences, "accounts": accounts, "differences": found}, as_json)
    elif differences:
        columns = ("user_id", "email", "figure", "stored", "expected")
        rows = [tuple(getattr(row, column) for column in columns) for row in differences]
        show_rows(columns, rows, as_json)
    else:
        click.echo(f"{accounts} accounts: every balance matches its entries.")
    if differences:
        raise SystemExit(1)
