"""flask keys: API keys."""

from typing import Any

import click
from flask.cli import AppGroup

from promptly.cli.key_limits import entered, limit_options, shown
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
from promptly.services.accounts import accounts, key_changes, key_limit_fields, key_limits, keys
from promptly.settings import current_settings
from promptly.transactions import transaction

group = AppGroup("keys", help="API keys: list, create, limit, batch, revoke.")


@group.command("list")
@account_options
@json_option
@reports_errors
def list_keys(email: str | None, user_id: int | None, as_json: bool) -> None:
    """List an account's active keys, with their limits."""
    with transaction():
        user = chosen_account(email, user_id)
        limits = key_limits.of_keys(user.id)
        rows = [
            (
                *(key.id, key.name, key.prefix, str(key.scope), key.batch, key.created_at),
                *shown(limits[key.id]).values(),
            )
            for key in keys.list_active(user.id)
        ]
    columns = (
        *("id", "name", "prefix", "scope", "batch", "created_at"),
        *("expires_at", "models", "addresses", "concurrency"),
        *("cap_tokens", "per", "used_tokens", "left_tokens"),
    )
    show_rows(columns, rows, as_json)


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
@limit_options
@json_option
@reports_errors
def create(
    email: str | None,
    user_id: int | None,
    name: str,
    scope: str,
    batch: bool,
    as_json: bool,
    **limits: str | None,
) -> None:
    """Create a key and print it; it cannot be shown again."""
    settings = current_settings()
    changes = key_limit_fields.parse(entered(limits))
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
        after: dict[str, Any] = {"prefix": key.prefix, "scope": scope, "batch": batch}
        if changes:
            _, set_now = key_limits.set_limits(user.id, key.id, changes)
            after |= {name: value for name, value in shown(set_now).items() if value is not None}
        values = {"key": raw, "id": key.id, **after}
        operator().record("key.create", user_id=user.id, subject=str(key.id), after=after)
    show_object(values, as_json)


@group.command("limit")
@account_options
@click.option("--name", help="Name of the key.")
@click.option("--id", "key_id", type=int, help="The key's id, in place of its name.")
@limit_options
@click.option("--scope", type=click.Choice([str(scope) for scope in KeyScope]))
@click.option("--rename", help="A new name for the key.")
@json_option
@reports_errors
def limit(
    email: str | None,
    user_id: int | None,
    name: str | None,
    key_id: int | None,
    scope: str | None,
    rename: str | None,
    as_json: bool,
    **limits: str | None,
) -> None:
    """Change the limits of a key; those not named stay. Without any, show them.

    A cap starts with what the key was charged in the present period already.
    """
    if (name is None) == (key_id is None):
        raise click.UsageError("Give either --name or --id.")
    with transaction():
        user = chosen_account(email, user_id)
        accounts.lock(user.id)
        if name is not None:
            key_id = keys.named(user.id, name).id
        assert key_id is not None
        found = key_changes.change(
            user.id,
            key_id,
            entered({**limits, "scope": scope, "name": rename}),
            operator=operator(),
        )
    show_object(
        {"id": key_id, "name": found.name, "scope": str(found.scope), **shown(found.limits)},
        as_json,
    )


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
