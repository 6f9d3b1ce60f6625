"""Check what limits trials, and that all mailboxes that had one are recorded."""

from collections.abc import Iterator

from sqlalchemy.exc import SQLAlchemyError

from promptly.extensions import db
from promptly.services.accounts import trial_limits, trials
from promptly.settings import Settings


def findings(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield pairs of level and message."""
    try:
        due = trials.count_unrecorded()
        granted = trial_limits.granted_today()
        full_domains = trial_limits.count_full_domains(settings)
    except SQLAlchemyError:
        # The checks of PostgreSQL and migrations report it.
        db.session.rollback()
        return
    if due:
        message = f"accounts of an earlier version whose mailboxes are not recorded yet: {due}"
        advice = "the worker records them within minutes, or 'flask --app wsgi trials backfill'"
        yield "warning", f"{message}; {advice}"
    most = settings.trials_per_day
    message = f"{granted} granted today" + (f" of {most}" if most else "; TRIALS_PER_DAY is 0")
    if full_domains:
        message += f"; domains that have reached TRIALS_PER_DOMAIN_PER_DAY: {full_domains}"
    if full_domains or 0 < most <= granted:
        message += ". See 'flask --app wsgi trials today'"
        yield "warning", message
    else:
        yield "ok", message
