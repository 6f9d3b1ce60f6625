"""flask usage: an account's usage, and the daily totals behind it."""

from datetime import UTC, datetime, timedelta

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
from promptly.services.usage import breakdowns, rollups, statistics
from promptly.transactions import transaction

group = AppGroup("usage", help="Usage: daily, recent, roll-up.")


@group.command("daily")
@account_options
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 3660))
@json_option
@reports_errors
def daily(email: str | None, user_id: int | None, days: int, as_json: bool) -> None:
    """Show an account's usage per UTC day."""
    columns = (
        "date",
        "requests",
        "prompt_tokens",
        "cached_prompt_tokens",
        "completion_tokens",
        "charged_tokens",
    )
    today = datetime.now(UTC).date()
    with transaction():
        user = chosen_account(email, user_id)
        found = rollups.daily(user.id, today - timedelta(days=days - 1), today)
    show_rows(columns, [[row[column] for column in columns] for row in found], as_json)


@group.command("recent")
@account_options
@limit_option
@json_option
@reports_errors
def recent(email: str | None, user_id: int | None, limit: int, as_json: bool) -> None:
    """Show an account's newest requests."""
    columns = (
        "request_id",
        "created_at",
        "endpoint",
        "model",
        "outcome",
        "prompt_tokens",
        "cached_prompt_tokens",
        "completion_tokens",
        "charged_tokens",
        "uncharged_tokens",
    )
    with transaction():
        user = chosen_account(email, user_id)
        found = rollups.recent(user.id, limit)
    show_rows(columns, [[row[column] for column in columns] for row in found], as_json)


@group.command("roll-up")
@json_option
def roll_up(as_json: bool) -> None:
    """Rebuild the daily totals of the most recent days now."""
    with transaction():
        rolled_up = rollups.roll_up()
        statistics.refresh(rolled_up)
        breakdowns.roll_up()
    show_object({"rebuilt_from": rolled_up.first_day.isoformat()}, as_json)
