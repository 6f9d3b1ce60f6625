"""flask trials: list running trials, count today's, expire ended ones, record who has had one."""

import click
from flask.cli import AppGroup

from promptly.cli.operators import operator
from promptly.cli.output import json_option, limit_option, show_object, show_rows
from promptly.services.accounts import trial_limits, trials
from promptly.settings import current_settings
from promptly.transactions import transaction

group = AppGroup("trials", help="Trials: list, today, expire, backfill.")

BATCH = 500


@group.command("list")
@limit_option
@json_option
def list_trials(limit: int, as_json: bool) -> None:
    """List accounts with trial tokens, earliest expiry first."""
    columns = ("user_id", "email", "trial_tokens", "trial_expires_at")
    with transaction():
        rows = [
            (user.id, user.email, balance.trial_tokens, balance.trial_expires_at)
            for user, balance in trials.list_running(limit)
        ]
    show_rows(columns, rows, as_json)


@group.command("today")
@limit_option
@json_option
def today(limit: int, as_json: bool) -> None:
    """Show today's trials (UTC): all, then by domain, except large mail providers'."""
    settings = current_settings()
    with transaction():
        rows = [("all", trial_limits.granted_today(), settings.trials_per_day or None)]
        most = settings.trials_per_domain_per_day or None
        rows += [(*found, most) for found in trial_limits.busiest_domains(limit)]
    show_rows(("domain", "granted", "limit"), rows, as_json)


@group.command("expire")
@click.option("--dry-run", is_flag=True, help="Only report what would be taken back.")
@json_option
def expire(dry_run: bool, as_json: bool) -> None:
    """Take back remaining tokens of expired trials, except those held."""
    with transaction():
        accounts, tokens = trials.count_expired()
    if not dry_run:
        while True:
            with transaction():
                count = trials.expire(BATCH)
                if count:
                    operator().record("trial.expire", after={"accounts": count})
            if count < BATCH:
                break
    show_object({"accounts": accounts, "tokens": tokens, "dry_run": dry_run}, as_json)


@group.command("backfill")
@click.option("--dry-run", is_flag=True, help="Only report how many would be recorded.")
@json_option
def backfill(dry_run: bool, as_json: bool) -> None:
    """Record the mailboxes of accounts of earlier versions as having had their trial.

    Celery's worker does this by itself soon after an upgrade. Earlier versions knew fewer
    spellings of a mailbox, and did not record accounts made while TRIAL_TOKENS was 0.
    """
    settings, last, recorded = current_settings(), 0, 0
    while True:
        with transaction() as session:
            found, added = trials.remember_accounts(settings, after=last, batch=BATCH)
            if dry_run:
                session.rollback()
        recorded += added
        if found is None:
            break
        last = found
    show_object({"recorded": recorded, "dry_run": dry_run}, as_json)
