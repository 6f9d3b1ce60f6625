"""Sessions on the server: started, found, ended; adopted from older cookies; reported by email."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from promptly.clock import utcnow
from promptly.models import ApiKey, DashboardSession, OutboxMail
from promptly.models.states import KeyScope
from promptly.services.accounts import keys, sessions
from tests.support import factories

HOME, AWAY = "192.0.2.0/24", "198.51.100.0/24"


@pytest.fixture
def key(session: Session) -> ApiKey:
    return factories.api_key(factories.user("ada@example.com").id)[0]


def start(key: ApiKey, network: str = HOME) -> str:
    return sessions.start(key, "Firefox on Linux", network)


def mails(session: Session, user_id: int) -> list[str]:
    query = select(OutboxMail.kind).where(OutboxMail.user_id == user_id)
    return list(session.scalars(query))


def back_date(session: Session, days: float, *columns: str) -> None:
    """Make all sessions look older; by default, as if they were last seen then."""
    values = {name: utcnow() - timedelta(days=days) for name in columns or ("seen_at",)}
    session.execute(update(DashboardSession).values(values))
    session.expire_all()


def test_a_token_finds_its_session_until_it_ends(session: Session, key: ApiKey) -> None:
    token = start(key)
    found = sessions.find(key.id, token)
    assert found is not None and found.key is key and not found.adopted
    row = session.scalars(select(DashboardSession)).one()
    assert token.encode() not in row.token_hash and len(row.token_hash) == 32
    assert sessions.find(key.id, token + "x") is None and sessions.find(key.id, None) is None
    stranger = factories.user()
    assert not sessions.end(stranger.id, found.session_id)
    assert sessions.end(key.user_id, found.session_id)
    assert not sessions.end(key.user_id, found.session_id)
    assert sessions.find(key.id, token) is None
    assert sessions.list_open(key.user_id) == []


def test_a_revoked_or_restricted_key_and_idleness_end_it(session: Session, key: ApiKey) -> None:
    token = start(key)
    key.scope = KeyScope.INFERENCE
    session.flush()
    assert sessions.find(key.id, token) is None
    key.scope = KeyScope.FULL
    session.flush()
    assert sessions.find(key.id, token) is not None
    back_date(session, sessions.IDLE_DAYS + 1)
    assert sessions.find(key.id, token) is None
    back_date(session, sessions.IDLE_DAYS - 1)
    assert sessions.find(key.id, token) is not None
    keys.revoke_all(key.user_id)
    assert sessions.find(key.id, token) is None and sessions.list_open(key.user_id) == []


def test_its_use_is_recorded_to_the_hour(session: Session, key: ApiKey) -> None:
    token = start(key)
    found = sessions.find(key.id, token)
    assert found is not None and not found.is_stale
    back_date(session, 2)
    found = sessions.find(key.id, token)
    assert found is not None and found.is_stale
    sessions.touch(found.session_id)
    session.expire_all()
    found = sessions.find(key.id, token)
    assert found is not None and not found.is_stale
    assert (found.seen_at.minute, found.seen_at.second) == (0, 0)


def test_all_cookies_without_a_token_share_one_session(session: Session, key: ApiKey) -> None:
    first, second = (sessions.adopt(key.id, "Firefox on Linux", HOME) for _ in range(2))
    assert first is not None and second is not None and first.adopted
    assert first.session_id == second.session_id
    sessions.end(key.user_id, first.session_id)
    assert sessions.adopt(key.id, "Firefox on Linux", HOME) is None
    # The row outlives the retention of others: a copy of the cookie must not be adopted again.
    back_date(session, 1000, "seen_at", "ended_at")
    assert sessions.purge() == 0
    assert sessions.adopt(key.id, "Firefox on Linux", HOME) is None
    keys.revoke_all(key.user_id)
    assert sessions.purge() == 1


def test_what_is_not_adopted(session: Session, key: ApiKey) -> None:
    restricted, _ = factories.api_key(key.user_id)
    restricted.scope = KeyScope.INFERENCE
    session.flush()
    assert sessions.adopt(restricted.id, "", HOME) is None
    keys.revoke(key.user_id, key.id)
    assert sessions.adopt(key.id, "", HOME) is None


def test_ending_all_others(session: Session, key: ApiKey) -> None:
    second, _ = factories.api_key(key.user_id)
    stranger, _ = factories.api_key(factories.user().id)
    strange_token = start(stranger)
    own, other, third = start(key), start(key), start(second)
    found = sessions.find(key.id, own)
    assert found is not None
    assert sessions.end_others(key.user_id, found.session_id) == 2
    assert [row.id for row in sessions.list_open(key.user_id)] == [found.session_id]
    assert sessions.find(key.id, other) is None and sessions.find(second.id, third) is None
    assert sessions.find(stranger.id, strange_token) is not None
    # Cookies that were not adopted yet, so not listed, are refused as well.
    assert sessions.adopt(key.id, "", HOME) is None and sessions.adopt(second.id, "", HOME) is None
    assert sessions.end_others(key.user_id, None) == 1


def test_ending_all_others_keeps_an_own_adopted_session(session: Session, key: ApiKey) -> None:
    own = sessions.adopt(key.id, "", HOME)
    assert own is not None
    start(key)
    assert sessions.end_others(key.user_id, own.session_id) == 1
    assert sessions.find(key.id, None) is not None


def test_there_is_a_bound(session: Session, key: ApiKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 3)
    adopted = sessions.adopt(key.id, "", HOME)
    tokens = [start(key) for _ in range(5)]
    assert [sessions.find(key.id, token) is not None for token in tokens] == [
        False, False, True, True, True,
    ]  # fmt: skip
    assert adopted is not None and sessions.find(key.id, None) is not None


def test_old_sessions_are_purged(session: Session, key: ApiKey) -> None:
    start(key)
    back_date(session, sessions.KNOWN_NETWORK_DAYS + 1)
    start(key)
    assert sessions.purge() == 1
    [left] = sessions.list_open(key.user_id)
    sessions.end(key.user_id, left.id)
    assert sessions.purge() == 0
    back_date(session, sessions.KNOWN_NETWORK_DAYS + 1, "seen_at", "ended_at")
    assert sessions.purge() == 1


def test_a_sign_in_from_a_new_network_is_reported(session: Session, key: ApiKey) -> None:
    start(key)
    start(key)
    assert mails(session, key.user_id) == [], "the first sign-in, and one from the same network"
    start(key, AWAY)
    assert mails(session, key.user_id) == ["sign_in"]
    start(key, AWAY)
    sessions.end_others(key.user_id, None)
    start(key, HOME)
    assert mails(session, key.user_id) == ["sign_in"], "ended sessions make a network known"
    back_date(session, sessions.KNOWN_NETWORK_DAYS + 1)
    start(key, HOME)
    assert mails(session, key.user_id) == ["sign_in"] * 2


def test_an_adopted_session_counts_as_a_sign_in(session: Session, key: ApiKey) -> None:
    sessions.adopt(key.id, "Firefox on Linux", HOME)
    start(key, HOME)
    assert mails(session, key.user_id) == []
    start(key, AWAY)
    assert mails(session, key.user_id) == ["sign_in"]
