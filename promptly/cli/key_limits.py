"""Options for the limits of a key, shared by `flask keys limit` and `flask keys create`."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import click

from promptly.models.states import CapPeriod
from promptly.services.accounts.key_limits import KeyLimits
from promptly.services.ledger.balances import iso

P = ParamSpec("P")
R = TypeVar("R")

_OPTIONS = (
    click.option("--cap", metavar="N|none", help="Tokens that it may spend; see --per."),
    click.option(
        "--per",
        type=click.Choice([str(period) for period in CapPeriod]),
        help="Time that --cap is for, in UTC; weeks begin on Monday.",
    ),
    click.option("--expires", metavar="DATE|never", help="Last day, or date and time, in UTC."),
    click.option("--models", metavar="NAMES|all", help="Models that it may use, with commas."),
    click.option(
        "--addresses", metavar="CIDRS|all", help="Networks that it may be used from, with commas."
    ),
    click.option("--concurrency", metavar="N|none", help="Requests that it may run at a time."),
)


def limit_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add the options of limits; the command gets them as text, None where one is missing."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def entered(options: dict[str, str | None]) -> dict[str, str]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def shown(limits: KeyLimits) -> dict[str, Any]:
    """Return a key's limits, and what is used of its cap, as commands print them."""
    return {
        "expires_at": iso(limits.expires_at),
        "models": _joined(limits.allowed_models),
        "addresses": _joined(limits.allowed_addresses),
        "concurrency": limits.concurrent_requests,
        "cap_tokens": limits.cap_tokens,
        "per": limits.cap_period,
        "used_tokens": limits.used_tokens if limits.cap_tokens is not None else None,
        "left_tokens": limits.left_tokens,
    }


def _joined(values: list[str] | None) -> str | None:
    return None if values is None else ",".join(values)
