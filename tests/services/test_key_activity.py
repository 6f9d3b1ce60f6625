"""When a key was used last: exact on the page, at no cost to requests."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly.models import ApiKey
from promptly.services import key_activity, keys
from tests import factories

NOW = datetime.now(UTC)


def used(session: Session, key: ApiKey, at: datetime) -> None:
    factories.usage_event(key.user_id, created_at=at).key_id = key.id
    session.flush()


def stored(session: Session, key: ApiKey) -> datetime | None:
    session.refresh(key)
    return key.last_used_at


def test_it_is_exact_before_and_after_the_task(session: Session) -> None:
    user = factories.user()
    first, second = (factories.api_key(user.id)[0] for _ in range(2))
    assert key_activity.last_used(user.id) == {first.id: None, second.id: None}
    used(session, first, NOW - timedelta(days=40))
    assert key_activity.last_used(user.id)[first.id] == NOW - timedelta(days=40)
    key_activity.note()
    assert stored(session, first) == NOW - timedelta(days=40)
    assert stored(session, second) is None
    used(session, first, NOW)
    assert key_activity.last_used(user.id) == {first.id: NOW, second.id: None}
    key_activity.note()
    key_activity.note()
    assert stored(session, first) == NOW


def test_it_never_goes_back(session: Session) -> None:
    key = factories.api_key(factories.user().id)[0]
    used(session, key, NOW)
    key_activity.note()
    session.execute(text("DELETE FROM usage_events"))
    used(session, key, NOW - timedelta(minutes=1))
    key_activity.note()
    assert stored(session, key) == NOW
    assert key_activity.last_used(key.user_id)[key.id] == NOW


def test_of_good_keys_of_this_account_only(session: Session) -> None:
    mine, theirs = factories.user(), factories.user()
    kept, gone = (factories.api_key(mine.id)[0] for _ in range(2))
    used(session, factories.api_key(theirs.id)[0], NOW)
    keys.revoke(mine.id, gone.id)
    assert key_activity.last_used(mine.id) == {kept.id: None}
