"""How commands answer: a table for people, JSON for scripts, one clear line for errors."""

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import Any, ParamSpec, TypeVar

import click

from promptly.errors import PromptlyError
from promptly.models import User
from promptly.services.accounts import accounts

P = ParamSpec("P")
R = TypeVar("R")

json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for scripts.")
yes_option = click.option("--yes", is_flag=True, help="Do it without asking.")
limit_option = click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1, 10_000)
)

before_option = click.option(
    "--before", type=click.IntRange(1), metavar="ID", help="Go on before the row of this id."
)


def account_options(command: Callable[P, R]) -> Callable[P, R]:
    """Let a command name an account by --email or --user-id."""
    command = click.option("--user-id", type=int, help="The account's number.")(command)
    return click.option("--email", help="The account's address.")(command)


def chosen_account(email: str | None, user_id: int | None) -> User:
    """The account that the options name; exactly one of them must be given."""
    if (email is None) == (user_id is None):
        raise click.UsageError("Name the account by --email or by --user-id.")
    return accounts.find(email=email, user_id=user_id)


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn errors that promptly raises on purpose into one line and exit code 1."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except PromptlyError as problem:
            raise click.ClickException(problem.message) from problem

    return wrapped


def show_object(values: dict[str, Any], as_json: bool) -> None:
    """Print one thing, field by field."""
    if as_json:
        click.echo(_dump(values))
        return
    width = max(len(name) for name in values)
    for name, value in values.items():
        click.echo(f"{name:<{width}}  {_plain(value)}")


def show_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], as_json: bool) -> None:
    """Print many things, one a line."""
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
