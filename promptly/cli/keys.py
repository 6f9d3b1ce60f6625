"""flask keys: API keys."""

import click
from flask.cli import AppGroup

from promptly.cli.operators import operator
from promptly.cli.output import (
    account_options,
    chosen_account,
    json_option,
    reports_errors,
    show_object,
    show_rows,
    yes_option,
)
from promptly.models.states import KeyScope
from promptly.services.accounts import accounts, keys
from promptly.settings import current_settings
from promptly.transactions import transaction

group = AppGroup("keys", help="API keys: list, create, batch, revoke.")


@group.command("list")
@account_options
@json_option
@reports_errors
def list_keys(email: str | None, user_id: int | None, as_json: bool) -> None:
    """List an account's active keys."""
    with transaction():
        user = chosen_account(email, user_id)
        rows = [
            (key.id, key.name, key.prefix, str(key.scope), key.batch, key.created_at)
            for key in keys.list_active(user.id)
        ]
    show_rows(("id", "name", "prefix", "scope", "batch", "created_at"), rows, as_json)


@group.command("create")
@account_options
@click.option("--name", default="default", show_default=True, help="Name of the key.")
@click.option(
    "--scope",
    type=click.Choice([str(scope) for scope in KeyScope]),
    default=str(KeyScope.FULL),
    show_default=True,
    help="inference: /v1 only; full: the dashboard, too.",
)
@click.option("--batch", is_flag=True, help="Its requests yield to all others.")
@json_option
@reports_errors
def create(
    email: str | None, user_id: int | None, name: str, scope: str, batch: bool, as_json: bool
) -> None:
    """Create a key and print it; it cannot be shown again."""
    settings = current_settings()
    with transaction():
        user = chosen_account(email, user_id)
        accounts.lock(user.id)
        key, raw = keys.create_named(
            user.id,
            name,
            settings.key_pepper,
            scope=KeyScope(scope),
            batch=batch,
            by_operator=True,
        )
        after = {"prefix": key.prefix, "scope": scope, "batch": batch}
        values = {"key": raw, "id": key.id, **after}
        operator().record("key.create", user_id=user.id, subject=str(key.id), after=after)
    show_object(values, as_json)


@group.command("batch")
@account_options
@click.option("--id", "key_id", type=int, required=True, help="The key's id.")
@click.option(
    "--on/--off", "batch", default=True, help="Yield to all other requests, or not any more."
)
@json_option
@reports_errors
def set_batch(
    email: str | None, user_id: int | None, key_id: int, batch: bool, as_json: bool
) -> None:
    """Let the requests of a key yield to all others; from its next request on."""
    with transaction():
        user = chosen_account(email, user_id)
        accounts.lock(user.id)
        before = keys.set_batch(user.id, key_id, batch)
        if before is None:
            raise click.ClickException("There is no such active key.")
        operator().record(
            "key.batch",
            user_id=user.id,
            subject=str(key_id),
            before={"batch": before},
            after={"batch": batch},
        )
    show_object({"id": key_id, "batch": batch}, as_json)


@group.command("revoke")
@account_options
@click.option("--id", "key_id", type=int, help="The key's id.")
@click.option("--all", "everything", is_flag=True, help="Every key of the account.")
@yes_option
@json_option
@reports_errors
def revoke(
    email: str | None,
    user_id: int | None,
    key_id: int | None,
    everything: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Revoke one key of an account, or all, with immediate effect."""
    if (key_id is None) != everything:
        raise click.UsageError("Give either --id or --all.")
    if not yes:
        click.confirm("Revoke?", abort=True, err=True)
    with transaction():
        user = chosen_account(email, user_id)
        accounts.lock(user.id)
        active = len(keys.list_active(user.id))
        count = keys.revoke_all(user.id) if key_id is None else int(keys.revoke(user.id, key_id))
        if count == 0:
            raise click.ClickException("There is no such active key.")
        operator().record(
            "key.revoke",
            user_id=user.id,
            subject="all" if key_id is None else str(key_id),
            before={"active_keys": active},
            after={"active_keys": active - count},
        )
    show_object({"revoked": count}, as_json)
