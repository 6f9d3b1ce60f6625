from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly.errors import InvalidRequest, NotFound
from promptly.extensions import db
from promptly.models import OutboxMail, User
from promptly.models.states import MailState
from promptly.services import account_deletion
from promptly.services.accounts import accounts, keys
from promptly.services.mail import outbox
from promptly.transactions import transaction
from tests.conftest import AppFactory
from tests.support import factories
from tests.support.races import together
from tests.support.servers import make_settings

SETTINGS = make_settings()


def mails(session: Session, user_id: int) -> list[tuple[str, str]]:
    rows = session.query(OutboxMail).filter_by(user_id=user_id).order_by(OutboxMail.id)
    return [(mail.kind, mail.state) for mail in rows.populate_existing()]


def test_registration_makes_account_trial_and_mail(session: Session) -> None:
    accounts.register(" Ada@Example.com ", SETTINGS)
    user = accounts.find(email="Ada@example.com")
    assert mails(session, user.id) == [("new_key", "pending")]
    assert keys.list_active(user.id) == []  # the key is created when the mail is sent


def test_a_known_address_loses_its_keys_at_once_and_keeps_its_balance(session: Session) -> None:
    user = factories.user("ada@example.com", paid_tokens=500)
    _, raw = factories.api_key(user.id)
    accounts.register("ada@example.com", SETTINGS)
    accounts.register("ada@example.com", SETTINGS)
    assert keys.find(raw, SETTINGS.key_pepper) is None
    assert mails(session, user.id) == [("new_key", "cancelled"), ("new_key", "pending")]
    assert session.scalar(text("SELECT paid_tokens FROM balances")) == 500


def test_another_spelling_is_another_account(session: Session) -> None:
    accounts.register("ada@example.com", SETTINGS)
    accounts.register("Ada@example.com", SETTINGS)
    assert session.query(User).count() == 2


def test_a_reissue_may_have_to_be_confirmed(session: Session) -> None:
    settings = make_settings(key_reissue_confirm=True)
    user = factories.user("ada@example.com")
    _, raw = factories.api_key(user.id)
    accounts.register("ada@example.com", settings)
    accounts.register("ada@example.com", settings)
    assert keys.find(raw, settings.key_pepper) is not None
    assert mails(session, user.id) == [
        ("confirm_reissue", "cancelled"),
        ("confirm_reissue", "pending"),
    ]
    first, second = session.query(OutboxMail).order_by(OutboxMail.id)
    assert not accounts.confirm_reissue(user.id, first.id)
    second.state = MailState.SENT
    session.flush()
    assert not accounts.confirm_reissue(user.id + 1, second.id)
    assert accounts.confirm_reissue(user.id, second.id)
    assert keys.find(raw, settings.key_pepper) is None
    assert not accounts.confirm_reissue(user.id, second.id)  # the link works once
    assert mails(session, user.id)[-1] == ("new_key", "pending")


def test_an_invalid_address_leaves_nothing(session: Session) -> None:
    with pytest.raises(InvalidRequest):
        accounts.register("nobody", SETTINGS)
    assert session.query(User).count() == 0


def test_create_refuses_what_exists(session: Session) -> None:
    accounts.create("ada@example.com", SETTINGS)
    with pytest.raises(InvalidRequest, match="exists"):
        accounts.create("ada@EXAMPLE.com", SETTINGS)
    assert session.query(OutboxMail).count() == 0


def test_removal_leaves_only_the_memory_of_the_mailbox(session: Session) -> None:
    accounts.register("ada@example.com", SETTINGS)
    user = accounts.find(email="ada@example.com")
    user_id = user.id
    factories.api_key(user_id)
    factories.usage_event(user_id, charged_trial=15)
    factories.hold(user_id, held_trial=5)
    session.execute(
        text("INSERT INTO usage_rollups (user_id, day, model) VALUES (:id, :day, 'm')"),
        {"id": user_id, "day": datetime.now(UTC).date()},
    )
    session.expire_all()
    account_deletion.remove(user_id)
    for table in ("users", "api_keys", "balances", "ledger_entries", "usage_events",
                  "usage_rollups", "holds", "outbox"):  # fmt: skip
        assert session.scalar(text(f"SELECT count(*) FROM {table}")) == 0, table
    assert session.scalar(text("SELECT count(*) FROM trial_claims")) == 1
    with pytest.raises(NotFound):
        accounts.find(user_id=user_id)


def test_search(session: Session) -> None:
    for name in ("ada", "a_b", "eve"):
        factories.user(f"{name}@example.com")
    assert [user.email for user, _ in accounts.search("A_").rows] == ["a_b@example.com"]
    page = accounts.search(limit=2)
    assert len(page.rows) == 2 and page.next is not None
    assert [user.email for user, _ in accounts.search(at=page.next).rows] == ["eve@example.com"]


def test_one_address_registered_many_times_at_once(app_factory: AppFactory) -> None:
    app = app_factory()
    settings = app.extensions["settings"]

    def register() -> None:
        with transaction():
            accounts.register("race@example.com", settings)

    together(app, *[register] * 6)
    with app.app_context():
        user = db.session.query(User).one()
        states = sorted(state for _, state in mails(db.session(), user.id))
        assert states == ["cancelled"] * 5 + ["pending"]


def test_a_reissue_beside_a_mail_that_makes_its_key_leaves_no_good_key(
    app_factory: AppFactory,
) -> None:
    app = app_factory()
    settings = app.extensions["settings"]
    for number in range(10):
        address = f"race{number}@example.com"
        with app.app_context():
            with transaction():
                accounts.register(address, settings)
            user_id = accounts.find(email=address).id
            db.session.rollback()

        def make_key(user_id: int = user_id) -> None:
            with transaction():
                lease = outbox.claim()
            if lease is None:
                return  # the reissue is cancelling it
            with transaction():
                accounts.lock(user_id)
                mail = outbox.leased(lease)
                if mail is not None:
                    keys.create(user_id, "default", settings.key_pepper, outbox_id=mail.id)

        def reissue(address: str = address) -> None:
            with transaction():
                accounts.register(address, settings)

        together(app, make_key, reissue)
        with app.app_context():
            # If the reissue came first, its own mail was claimed and got the key; if second, the
            # key is revoked. A key whose mail was cancelled is never good.
            stray = db.session.scalar(
                text("""
                    SELECT count(*) FROM api_keys k JOIN outbox o ON o.id = k.outbox_id
                    WHERE k.revoked_at IS NULL AND o.state = 'cancelled'
                """)
            )
            assert stray == 0
            with transaction() as session:
                session.query(OutboxMail).delete()
