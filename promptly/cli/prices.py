"""flask prices: the prices of tokens in force, and earlier ones."""

from flask.cli import AppGroup

from promptly.cli.output import json_option, show_rows
from promptly.services.metering import price_versions
from promptly.transactions import transaction

group = AppGroup("prices", help="Prices of models, in hundredths of a token: list.")

COLUMNS = ("id", "model", "input", "cached", "output", "valid_from", "valid_until")


@group.command("list")
@json_option
def list_versions(as_json: bool) -> None:
    """List the prices in force, then earlier ones, newest first.

    Set PRICES and restart the gateway to change them.
    """
    with transaction():
        versions = price_versions.history()
        rows = [[getattr(version, column) for column in COLUMNS] for version in versions]
    show_rows(COLUMNS, rows, as_json)
