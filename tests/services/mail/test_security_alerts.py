"""Emails about new keys and sign-ins: switched off, bounded, purged."""

from datetime import timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from promptly.clock import utcnow
from promptly.models import OutboxMail
from promptly.models.states import KeyScope
from promptly.services.accounts import keys
from promptly.services.mail import security_alerts
from tests.support import factories
from tests.support.servers import make_settings

PEPPER = make_settings().key_pepper


def count(session: Session, user_id: int) -> int:
    query = select(func.count()).where(OutboxMail.user_id == user_id)
    return session.scalars(query).one()


def test_a_new_key_is_reported_without_the_key(session: Session) -> None:
    user = factories.user("ada@example.com")
    key, raw = keys.create_named(user.id, "laptop", PEPPER, scope=KeyScope.INFERENCE)
    mail = session.scalars(select(OutboxMail).where(OutboxMail.user_id == user.id)).one()
    assert (mail.kind, mail.recipient) == ("key_created", "ada@example.com")
    assert mail.payload == {
        "name": "laptop", "prefix": key.prefix, "scope": "inference", "by_operator": False,
    }  # fmt: skip
    assert raw not in str(mail.payload)


def test_a_key_that_is_emailed_is_not_reported(session: Session) -> None:
    user = factories.user()
    keys.create(user.id, "default", PEPPER)
    assert count(session, user.id) == 0


def test_they_are_bounded_by_account_and_day(session: Session) -> None:
    user, other = factories.user(), factories.user()
    for number in range(security_alerts.MOST["sign_in"] + 2):
        security_alerts.signed_in(user.id, "Firefox on Linux", f"192.0.{number}.0/24")
    assert count(session, user.id) == security_alerts.MOST["sign_in"]
    keys.create_named(user.id, "laptop", PEPPER, scope=KeyScope.FULL)
    assert count(session, user.id) == security_alerts.MOST["sign_in"] + 1
    security_alerts.signed_in(other.id, "Firefox on Linux", "192.0.2.0/24")
    assert count(session, other.id) == 1
    session.execute(update(OutboxMail).values(created_at=utcnow() - timedelta(hours=25)))
    security_alerts.signed_in(user.id, "Firefox on Linux", "192.0.2.0/24")
    assert count(session, user.id) == security_alerts.MOST["sign_in"] + 2


def test_they_can_be_switched_off(session: Session) -> None:
    user = factories.user()
    security_alerts.choose(user.id, wanted=False)
    security_alerts.signed_in(user.id, "Firefox on Linux", "192.0.2.0/24")
    keys.create_named(user.id, "laptop", PEPPER, scope=KeyScope.FULL)
    assert count(session, user.id) == 0
    security_alerts.choose(user.id, wanted=True)
    security_alerts.signed_in(user.id, "Firefox on Linux", "192.0.2.0/24")
    assert count(session, user.id) == 1


def test_old_ones_that_name_a_network_are_deleted(session: Session) -> None:
    user = factories.user()
    for kind in ("sign_in", "key_created"):
        mail = factories.mail(kind, user_id=user.id)
        mail.created_at = utcnow() - timedelta(days=security_alerts.RETENTION_DAYS + 1)
    factories.mail("sign_in", user_id=user.id)
    session.flush()
    assert security_alerts.purge() == 1
    assert count(session, user.id) == 2
