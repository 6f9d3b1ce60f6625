import hashlib
import hmac
from datetime import UTC, datetime, timedelta

from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly.extensions import db
from promptly.models import Balance, TrialClaim, User
from promptly.models.states import HoldState
from promptly.services import account_deletion
from promptly.services.accounts import accounts, email_addresses, trials
from promptly.services.ledger import ledger, verification
from promptly.transactions import transaction
from tests.conftest import AppFactory
from tests.support import factories
from tests.support.races import together
from tests.support.servers import make_settings

PAST = datetime.now(UTC) - timedelta(minutes=1)


def test_a_mailbox_gets_one_trial(session: Session) -> None:
    settings = make_settings()
    first = accounts.create("ada@example.com", settings)
    again = accounts.create("Ada+two@example.com", settings)
    assert session.get_one(Balance, first.id).trial_tokens == 100_000
    assert session.get_one(Balance, again.id).trial_tokens == 0
    account_deletion.remove(first.id)
    reborn = accounts.create("ada@example.com", settings)
    assert session.get_one(Balance, reborn.id).trial_tokens == 0
    assert verification.verify() == []


def test_the_trial_follows_the_settings(session: Session) -> None:
    user = accounts.create("a@example.com", make_settings(trial_tokens=5, trial_expiry_days=2))
    balance = session.get_one(Balance, user.id)
    assert balance.trial_tokens == 5 and balance.trial_expires_at is not None
    left = balance.trial_expires_at - datetime.now(UTC)
    assert timedelta(days=1, hours=23) < left <= timedelta(days=2)


def test_an_account_made_without_trials_uses_up_its_mailbox(session: Session) -> None:
    none = accounts.create("b@example.com", make_settings(trial_tokens=0))
    assert session.get_one(Balance, none.id).trial_tokens == 0
    for spelling in ("b+two@example.com", "B@example.com"):
        later = accounts.create(spelling, make_settings())
        assert session.get_one(Balance, later.id).trial_tokens == 0


def test_spellings_that_a_provider_folds_get_one_trial(session: Session) -> None:
    settings = make_settings()
    users = [
        accounts.create(spelling, settings)
        for spelling in ("a.da@gmail.com", "ada@gmail.com", "ad.a+x@googlemail.com")
    ]
    granted = [session.get_one(Balance, user.id).trial_tokens for user in users]
    assert granted == [100_000, 0, 0]


def claimed_before(email: str) -> None:
    """Record a mailbox as the release before did, under its folding."""
    pepper = make_settings().key_pepper.reveal().encode()
    folded = b"mailbox:" + email_addresses.fold_plainly(email).encode()
    db.session.add(TrialClaim(mailbox_hash=hmac.digest(pepper, folded, hashlib.sha256)))
    db.session.flush()


def test_an_account_deleted_soon_after_an_upgrade_leaves_its_mailbox_behind(
    session: Session,
) -> None:
    settings = make_settings()
    claimed_before("a.da@gmail.com")
    before = factories.user("a.da@gmail.com")
    account_deletion.close(before.id, settings)
    account_deletion.remove(before.id)
    again = accounts.create("ada@gmail.com", settings)
    assert session.get_one(Balance, again.id).trial_tokens == 0


def test_an_upgrade_gives_no_second_trial(session: Session) -> None:
    settings = make_settings()
    # A deleted account, of which only the hash is left: the same spelling is known.
    claimed_before("a.da@gmail.com")
    again = accounts.create("A.da+x@gmail.com", settings)
    assert session.get_one(Balance, again.id).trial_tokens == 0
    # A living account: any spelling, even before its mailbox is recorded anew.
    factories.user("E.ve+x@googlemail.com")
    claimed_before("E.ve+x@googlemail.com")
    assert trials.count_unrecorded() == 1
    early = accounts.create("eve@gmail.com", settings)
    assert session.get_one(Balance, early.id).trial_tokens == 0
    # Another mailbox, whose name contains that of a living account's.
    other = accounts.create("ve@gmail.com", settings)
    assert session.get_one(Balance, other.id).trial_tokens == 100_000


def test_the_mailboxes_of_earlier_accounts_are_recorded_once(session: Session) -> None:
    settings = make_settings()
    claimed_before("e.ve@gmail.com")
    for spelling in ("e.ve@gmail.com", "ev.e@googlemail.com", "Bob+x@example.com"):
        factories.user(spelling)
    last, recorded = trials.remember_accounts(settings, after=0, batch=2)
    assert (recorded, trials.count_unrecorded()) == (1, 1)
    assert last is not None
    last, recorded = trials.remember_accounts(settings, after=last, batch=2)
    assert (recorded, trials.count_unrecorded()) == (1, 0)
    assert trials.remember_accounts(settings, after=0, batch=2) == (None, 0)
    for spelling in ("eve@gmail.com", "bob@example.com"):
        user = accounts.create(spelling, settings)
        assert session.get_one(Balance, user.id).trial_tokens == 0


def test_expired_trials_lapse_once(session: Session) -> None:
    expired = factories.user(paid_tokens=7, trial_tokens=100, trial_expires_at=PAST)
    running = factories.user(trial_tokens=100)
    assert trials.count_expired() == (1, 100)
    assert trials.expire() == 1
    assert trials.expire() == 0
    session.expire_all()
    balance = session.get_one(Balance, expired.id)
    assert (balance.paid_tokens, balance.trial_tokens) == (7, 0)
    assert session.get_one(Balance, running.id).trial_tokens == 100
    assert ledger.entries(expired.id)[0].trial_delta == -100
    assert verification.verify() == []
    assert [user.id for user, _ in trials.list_running()] == [running.id]


def test_the_held_part_lapses_when_it_is_freed(session: Session) -> None:
    user = factories.user(trial_tokens=100, trial_expires_at=PAST)
    hold = factories.hold(user.id, held_trial=40)
    assert trials.expire() == 1
    session.expire_all()
    balance = session.get_one(Balance, user.id)
    assert (balance.trial_tokens, balance.held_trial) == (40, 40)
    hold.state = HoldState.SETTLED
    balance.held_trial = 0
    balance.open_holds = 0
    session.flush()
    assert trials.expire() == 1
    session.expire_all()
    assert session.get_one(Balance, user.id).trial_tokens == 0
    assert verification.verify() == []


def test_spellings_that_race_get_one_trial(app_factory: AppFactory) -> None:
    app = app_factory()
    settings = app.extensions["settings"]
    spellings = ["race@example.com", "Race@example.com", "race+1@example.com", "RACE+2@example.com"]

    def register(email: str) -> None:
        with transaction():
            accounts.register(email, settings)

    together(app, *[lambda email=email: register(email) for email in spellings])
    with app.app_context():
        assert db.session.query(User).count() == 4
        granted = [row.trial_tokens for row in db.session.query(Balance)]
        assert sorted(granted) == [0, 0, 0, 100_000]
        assert verification.verify() == []


def test_recording_beside_registrations_of_the_same_mailboxes(app_factory: AppFactory) -> None:
    app = app_factory()
    settings = app.extensions["settings"]
    with app.app_context(), transaction():
        for number in range(20):
            factories.user(f"user.{number}@gmail.com")

    def record() -> None:
        with transaction():
            trials.remember_accounts(settings, after=0, batch=20)

    def register(start: int) -> None:
        for number in range(start, 20, 2):
            with transaction():
                accounts.register(f"us.er{number}@googlemail.com", settings)

    together(app, record, record, lambda: register(0), lambda: register(1))
    with app.app_context():
        assert trials.count_unrecorded() == 0
        assert db.session.scalar(text("SELECT sum(trial_tokens) FROM balances")) == 0


def test_parallel_expiry_takes_each_trial_once(app: Flask) -> None:
    with app.app_context(), transaction():
        for _ in range(30):
            factories.user(trial_tokens=10, trial_expires_at=PAST)

    def expire() -> int:
        with transaction():
            return trials.expire(batch=4)

    taken = sum(together(app, *[expire] * 4))
    with app.app_context():
        while True:
            with transaction():
                count = trials.expire(batch=4)
            taken += count
            if count == 0:
                break
        assert taken == 30
        lapses = text("SELECT count(*) FROM ledger_entries WHERE kind = 'trial_lapse'")
        assert db.session.scalar(lapses) == 30
        assert verification.verify() == []
