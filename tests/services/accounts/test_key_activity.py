"""Time of a key's last use: exact when read, at no cost to requests."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly.models import ApiKey
from promptly.services.accounts import key_activity, keys
from tests.support import factories


@pytest.fixture
def now() -> datetime:
    # Per test, not per module: `last_used` reads no events older than ten minutes before the task's
    # last run, and trusts the stored time for those.
    return datetime.now(UTC)


def used(session: Session, key: ApiKey, at: datetime) -> None:
    factories.usage_event(key.user_id, created_at=at).key_id = key.id
    session.flush()


def stored(session: Session, key: ApiKey) -> datetime | None:
    session.refresh(key)
    return key.last_used_at


def test_it_is_exact_before_and_after_the_task(session: Session, now: datetime) -> None:
    user = factories.user()
    first, second = (factories.api_key(user.id)[0] for _ in range(2))
    assert key_activity.last_used(user.id) == {first.id: None, second.id: None}
    used(session, first, now - timedelta(days=40))
    assert key_activity.last_used(user.id)[first.id] == now - timedelta(days=40)
    key_activity.note()
    assert stored(session, first) == now - timedelta(days=40)
    assert stored(session, second) is None
    used(session, first, now)
    assert key_activity.last_used(user.id) == {first.id: now, second.id: None}
    key_activity.note()
    key_activity.note()
    assert stored(session, first) == now


def test_it_never_goes_back(session: Session, now: datetime) -> None:
    key = factories.api_key(factories.user().id)[0]
    used(session, key, now)
    key_activity.note()
    session.execute(text("DELETE FROM usage_events"))
    used(session, key, now - timedelta(minutes=1))
    key_activity.note()
    assert stored(session, key) == now
    assert key_activity.last_used(key.user_id)[key.id] == now


def test_of_good_keys_of_this_account_only(session: Session, now: datetime) -> None:
    mine, theirs = factories.user(), factories.user()
    kept, gone = (factories.api_key(mine.id)[0] for _ in range(2))
    used(session, factories.api_key(theirs.id)[0], now)
    keys.revoke(mine.id, gone.id)
    assert key_activity.last_used(mine.id) == {kept.id: None}
