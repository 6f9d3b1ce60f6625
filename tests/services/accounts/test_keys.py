from sqlalchemy.orm import Session

from promptly.models import User
from promptly.services.accounts import keys
from tests.support import factories
from tests.support.servers import make_settings

PEPPER = make_settings().key_pepper


def test_a_key_is_found_and_shown_by_its_prefix(session: Session) -> None:
    user = factories.user()
    key, raw = keys.create(user.id, "laptop", PEPPER)
    session.refresh(user)
    assert user.key_prefix == key.prefix == raw[:12]
    found = keys.find(raw, PEPPER)
    assert found is not None and found.id == key.id
    assert keys.find(raw[:-1] + ("0" if raw[-1] != "0" else "1"), PEPPER) is None
    assert raw.encode() not in key.key_hash and len(key.key_hash) == 32


def test_a_revoked_key_is_gone_everywhere(session: Session) -> None:
    user = factories.user()
    first, first_raw = keys.create(user.id, "first", PEPPER)
    second, _ = keys.create(user.id, "second", PEPPER)
    assert keys.revoke(user.id, second.id)
    assert not keys.revoke(user.id, second.id)
    session.refresh(user)
    assert user.key_prefix == first.prefix
    assert [key.id for key in keys.list_active(user.id)] == [first.id]
    assert keys.find_active(second.id) is None
    assert keys.revoke_all(user.id) == 1
    assert keys.find(first_raw, PEPPER) is None
    assert session.get_one(User, user.id).key_prefix is None


def test_a_key_is_revoked_only_by_its_own_account(session: Session) -> None:
    owner, other = factories.user(), factories.user()
    key, raw = keys.create(owner.id, "k", PEPPER)
    assert not keys.revoke(other.id, key.id)
    assert keys.revoke_all(other.id) == 0
    assert keys.find(raw, PEPPER) is not None
