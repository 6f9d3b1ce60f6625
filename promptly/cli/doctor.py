"""flask doctor: check the configuration and all dependencies."""

import click
from flask.cli import with_appcontext

from promptly.cli.checks import CHECKS, Finding
from promptly.cli.output import json_option, show_object
from promptly.extensions import db
from promptly.settings import current_settings

MARKS = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}


@click.command("doctor")
@json_option
@with_appcontext
def group(as_json: bool) -> None:
    """Check the configuration and all dependencies, with advice; exit code 1 on errors."""
    settings = current_settings()
    findings: list[Finding] = []
    for check in CHECKS:
        findings += check(settings)
        # Checks of other servers may take longer than PostgreSQL lets a transaction wait.
        db.session.rollback()
    healthy = all(finding.level != "error" for finding in findings)
    if as_json:
        show_object({"healthy": healthy, "findings": [vars(item) for item in findings]}, as_json)
    else:
        for finding in findings:
            click.echo(f"{MARKS[finding.level]}  {finding.check}: {finding.message}")
    if not healthy:
        raise SystemExit(1)
