"""flask audit: the log of operator actions."""

import json

import click
from flask.cli import AppGroup

from promptly.cli.output import before_option, json_option, limit_option, show_rows
from promptly.services import audit
from promptly.services.paging import Cursor
from promptly.transactions import transaction

group = AppGroup("audit", help="The log of operator actions: list.")

COLUMNS = (
    "id", "created_at", "actor", "address", "action", "user_id", "subject", "before", "after",
)  # fmt: skip


@group.command("list")
@click.option("--user-id", type=int, help="Only actions on the account with this id.")
@click.option("--action", type=click.Choice(audit.ACTIONS), help="Only actions of this kind.")
@limit_option
@before_option
@json_option
def list_entries(
    user_id: int | None, action: str | None, limit: int, before: int | None, as_json: bool
) -> None:
    """List actions, newest first."""
    with transaction():
        page = audit.entries(limit, at=Cursor(before), user_id=user_id, action=action or "")
        rows = [[getattr(entry, column) for column in COLUMNS] for entry in page.rows]
    if not as_json:
        rows = [[*row[:-2], *(_short(values) for values in row[-2:])] for row in rows]
    show_rows(COLUMNS, rows, as_json)


def _short(values: dict[str, object] | None) -> str | None:
    return None if values is None else json.dumps(values, ensure_ascii=False)
