"""flask users: accounts."""

from typing import Any

import click
from flask.cli import AppGroup

from promptly.cli.operators import operator
from promptly.cli.output import (
    account_options,
    chosen_account,
    json_option,
    limit_option,
    reports_errors,
    show_object,
    show_rows,
    yes_option,
)
from promptly.models import User
from promptly.services import account_deletion
from promptly.services.accounts import account_limits, accounts, keys
from promptly.services.accounts.account_limits import (
    MOST_CONCURRENT_REQUESTS,
    MOST_REQUESTS_PER_MINUTE,
    LimitChanges,
)
from promptly.services.ledger import adjustments, balances
from promptly.services.mail import outbox
from promptly.settings import current_settings
from promptly.transactions import transaction

group = AppGroup("users", help="Accounts: list, show, create, limit, suspend, resume, delete.")


class LimitOption(click.IntRange):
    """A whole number from 1 to `most`, or `default`, which becomes 0."""

    name = "N|default"

    def __init__(self, most: int) -> None:
        super().__init__(1, most)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return 0 if value == "default" else int(super().convert(value, param, ctx))


@group.command("list")
@click.option("--search", default="", help="Part of the email address.")
@limit_option
@json_option
def list_users(search: str, limit: int, as_json: bool) -> None:
    """List accounts with their balances."""
    columns = (
        *("user_id", "email", "key_prefix", "paid_tokens", "trial_tokens", "created_at"),
        *("requests_per_minute", "concurrent_requests", "suspended_at"),
    )
    with transaction():
        rows = [
            (
                user.id,
                user.email,
                user.key_prefix,
                balance.paid_tokens,
                balance.trial_tokens,
                user.created_at,
                user.requests_per_minute,
                user.concurrent_requests,
                user.suspended_at,
            )
            for user, balance in accounts.search(search, limit).rows
        ]
    show_rows(columns, rows, as_json)


@group.command("show")
@click.argument("email")
@json_option
@reports_errors
def show(email: str, as_json: bool) -> None:
    """Show one account."""
    with transaction():
        user = accounts.find(email=email)
        values = _described(user) | {
            "key_prefix": user.key_prefix,
            "created_at": user.created_at,
            **account_limits.of(user).figures(),
            "active_keys": len(keys.list_active(user.id)),
            **{name: value for name, value in balances.read(user.id).items() if name != "object"},
        }
    show_object(values, as_json)


@group.command("create")
@click.argument("email")
@click.option("--mail", is_flag=True, help="Email a key to the address, as a registration does.")
@json_option
@reports_errors
def create(email: str, mail: bool, as_json: bool) -> None:
    """Create an account with its trial but without a key; sends no email without --mail."""
    with transaction():
        user = accounts.create(email, current_settings())
        if mail:
            outbox.add("new_key", user.email, user_id=user.id)
        values = _described(user)
        operator().record("account.create", user_id=user.id, after={"mail": mail})
    show_object(values, as_json)


@group.command("limit")
@account_options
@click.option(
    "--requests-per-minute",
    type=LimitOption(MOST_REQUESTS_PER_MINUTE),
    help="Requests per minute of all its keys together, instead of those of key and address.",
)
@click.option(
    "--concurrency",
    type=LimitOption(MOST_CONCURRENT_REQUESTS),
    help="Requests that it may run at a time.",
)
@json_option
@reports_errors
def limit(
    email: str | None,
    user_id: int | None,
    requests_per_minute: int | None,
    concurrency: int | None,
    as_json: bool,
) -> None:
    """Set limits of one account; `default` restores the installation's."""
    changes: LimitChanges = {}
    if requests_per_minute is not None:
        changes["requests_per_minute"] = requests_per_minute or None
    if concurrency is not None:
        changes["concurrent_requests"] = concurrency or None
    if not changes:
        raise click.UsageError("Give --requests-per-minute or --concurrency.")
    with transaction():
        user = chosen_account(email, user_id)
        limits = account_limits.set_limits(user.id, changes, operator=operator())
        values = _described(user) | limits.figures()
    show_object(values, as_json)


@group.command("suspend")
@account_options
@yes_option
@json_option
@reports_errors
def suspend(email: str | None, user_id: int | None, yes: bool, as_json: bool) -> None:
    """Refuse an account's keys and end its running requests; its balance is kept."""
    with transaction():
        values = _described(chosen_account(email, user_id))
    if not yes:
        click.confirm(f"Suspend {values['email']}?", abort=True, err=True)
    with transaction():
        user = chosen_account(email, user_id)
        values |= account_limits.suspend(user.id, operator=operator()).figures()
    show_object(values, as_json)


@group.command("resume")
@account_options
@json_option
@reports_errors
def resume(email: str | None, user_id: int | None, as_json: bool) -> None:
    """Accept the keys of a suspended account again."""
    with transaction():
        user = chosen_account(email, user_id)
        limits = account_limits.resume(user.id, operator=operator())
        values = _described(user) | limits.figures()
    show_object(values, as_json)


@group.command("delete")
@click.argument("email")
@yes_option
@json_option
@reports_errors
def delete(email: str, yes: bool, as_json: bool) -> None:
    """Delete an account with its keys, balance, entries, usage and emails. Cannot be undone.

    Running requests are ended and settled first. `deleted` is false if one of them did not end in
    time: the account's keys are then refused already, and a task deletes the rest soon.
    """
    with transaction():
        values = _described(accounts.find(email=email))
    if not yes:
        click.confirm(f"Delete {values['email']} and all its data?", abort=True, err=True)
    with transaction():
        user_id = accounts.find(email=email).id
        account_deletion.close(user_id, current_settings())
        owned = adjustments.standing(user_id)
        operator().record("account.delete", user_id=user_id, before=owned)
    deleted = account_deletion.delete_account(user_id, current_settings())
    show_object(values | {"deleted": deleted}, as_json)


def _described(user: User) -> dict[str, object]:
    return {"user_id": user.id, "email": user.email}
