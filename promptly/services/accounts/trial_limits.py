"""Limits of trials per day, over all accounts and per mail domain; days are those of UTC.

Every trial is counted, so that a limit set during the day knows the trials before it. Counts are
rows of their own: an account that is deleted does not make room for another trial.
"""

from datetime import date, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from promptly.clock import utcnow
from promptly.extensions import db
from promptly.models import TrialCount
from promptly.services.accounts import mail_providers
from promptly.settings import Settings

# The domain of the row that counts all trials of a day.
ALL = ""


def take(email: str, settings: Settings) -> bool:
    """Count one more trial today; return False if that exceeds a limit.

    On False the caller rolls back its savepoint: the domain's count may have risen. The rows stay
    locked until the transaction ends, which makes the limits exact.
    """
    today, domain = utcnow().date(), limited_domain(email)
    # Everybody's row last, since it is locked by every registration.
    counted = domain is None or _count(today, domain, settings.trials_per_domain_per_day)
    return counted and _count(today, ALL, settings.trials_per_day)


def limited_domain(email: str) -> str | None:
    """Return the domain whose trials are counted together; None for a large provider's."""
    domain = email.rpartition("@")[2].lower()
    return None if domain in mail_providers.LARGE else mail_providers.registered_domain(domain)


def granted_today() -> int:
    """Return the number of trials granted today."""
    query = select(TrialCount.granted).where(TrialCount.day == utcnow().date())
    return db.session.scalar(query.where(TrialCount.domain == ALL)) or 0


def busiest_domains(limit: int) -> list[tuple[str, int]]:
    """Return the domains with most trials today, and their numbers; no large providers."""
    query = (
        select(TrialCount.domain, TrialCount.granted)
        .where(TrialCount.day == utcnow().date(), TrialCount.domain != ALL)
        .order_by(TrialCount.granted.desc(), TrialCount.domain)
        .limit(limit)
    )
    return [(domain, granted) for domain, granted in db.session.execute(query)]


def count_full_domains(settings: Settings) -> int:
    """Return the number of domains that have reached their limit today."""
    if not settings.trials_per_domain_per_day:
        return 0
    query = select(func.count()).where(
        TrialCount.day == utcnow().date(),
        TrialCount.domain != ALL,
        TrialCount.granted >= settings.trials_per_domain_per_day,
    )
    return db.session.scalar(query) or 0


def forget() -> None:
    """Delete the counts of past days: a domain can be the name of a person."""
    # Keep yesterday's: the clocks of two machines differ around midnight.
    yesterday = utcnow().date() - timedelta(days=1)
    db.session.execute(delete(TrialCount).where(TrialCount.day < yesterday))


def _count(day: date, domain: str, most: int) -> bool:
    statement = insert(TrialCount).values(day=day, domain=domain, granted=1)
    raised = statement.on_conflict_do_update(
        index_elements=[TrialCount.day, TrialCount.domain],
        set_={"granted": TrialCount.granted + 1},
        where=(TrialCount.granted < most) if most else None,
    )
    return db.session.execute(raised.returning(TrialCount.granted)).first() is not None
