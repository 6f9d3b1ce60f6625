"""Output of commands: tables for people, JSON for scripts, one line for errors."""

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import Any, ParamSpec, TypeVar

import click

from promptly.errors import PromptlyError
from promptly.models import User
from promptly.services.accounts import accounts
from promptly.services.paging import LARGEST_PAGE_SIZE, PAGE_SIZE
from promptly.setting_fields import SettingsError

P = ParamSpec("P")
R = TypeVar("R")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
yes_option = click.option("--yes", is_flag=True, help="Skip the confirmation.")
limit_option = click.option(
    "--limit",
    default=PAGE_SIZE,
    show_default=True,
    type=click.IntRange(1, LARGEST_PAGE_SIZE),
)

before_option = click.option(
    "--before", type=click.IntRange(1), metavar="ID", help="Continue before the row with this id."
)


def account_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add the options --email and --user-id, which choose an account."""
    command = click.option("--user-id", type=int, help="The account's id.")(command)
    return click.option("--email", help="The account's email address.")(command)


def chosen_account(email: str | None, user_id: int | None) -> User:
    """Return the account that the options choose; exactly one of them must be given."""
    if (email is None) == (user_id is None):
        raise click.UsageError("Give either --email or --user-id.")
    return accounts.find(email=email, user_id=user_id)


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn promptly's deliberate errors into one line and exit code 1."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except PromptlyError as problem:
            raise click.ClickException(problem.message) from problem
        except SettingsError as problem:
            raise click.ClickException(str(problem)) from problem

    return wrapped


def show_object(values: dict[str, Any], as_json: bool) -> None:
    """Print one object, one field per line or as JSON."""
    if as_json:
        click.echo(_dump(values))
        return
    width = max(len(name) for name in values)
    for name, value in values.items():
        click.echo(f"{name:<{width}}  {_plain(value)}")


def show_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], as_json: bool) -> None:
    """Print rows as a table or as JSON."""
    table = [list(row) for row in rows]
    if as_json:
        click.echo(_dump([dict(zip(columns, row, strict=True)) for row in table]))
        return
    cells = [list(columns), *[[_plain(value) for value in row] for row in table]]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def _dump(value: Any) -> str:
    return json.dumps(value, default=_encode, ensure_ascii=False)


def _encode(value: Any) -> str:
    return value.isoformat() if isinstance(value, (date, datetime)) else str(value)


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
