"""flask import: bring over the accounts of another gateway."""

import click
from flask.cli import AppGroup

from promptly.cli.operators import operator
from promptly.cli.output import json_option, reports_errors, show_object, show_rows
from promptly.errors import InvalidRequest
from promptly.extensions import db
from promptly.services.imports import accounts, schema, source
from promptly.services.imports.outcome import Report
from promptly.settings import current_settings
from promptly.transactions import transaction

group = AppGroup("import", help="Bring over the accounts of another gateway.")


@group.command("model-gateway")
@click.argument("url", metavar="DATABASE_URL")
@click.option("--dry-run", is_flag=True, help="Only report what would be brought over.")
@json_option
@reports_errors
def model_gateway(url: str, dry_run: bool, as_json: bool) -> None:
    """Bring over all accounts of model-gateway from its database, which is only read.

    Each account is one transaction. Repeating the command changes nothing, or brings over what
    has changed there since. Accounts that need a look are listed; docs/operating/moving-over.md
    says what to do about them.
    """
    report = Report()
    with transaction():
        if schema.belongs_to_model_gateway(db.session.connection()):
            raise InvalidRequest(schema.BELONGS_TO_MODEL_GATEWAY)
        run = accounts.begin(current_settings(), operator())
    with source.opened(url) as old:
        for account in old.accounts(run.until):
            with transaction() as session:
                outcome = accounts.bring_over(account, run)
                if dry_run:
                    session.rollback()
            report.add(outcome)
    if not dry_run:
        with transaction():
            accounts.finish(report)
    figures = report.figures() | {"usage_before": run.until, "dry_run": dry_run}
    if as_json:
        show_object(figures | {"listed": report.listed}, as_json)
        return
    show_object(figures, as_json)
    if report.listed:
        click.echo()
        columns = ("source_id", "email", "reason", "detail")
        show_rows(columns, [[row[name] for name in columns] for row in report.listed], as_json)
