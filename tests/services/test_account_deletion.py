"""Accounts are deleted in steps (closed, requests ended, removed); interruptions are recovered."""

import threading
from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import text

from promptly.errors import NotFound
from promptly.extensions import db
from promptly.models import Balance, OutboxMail, User
from promptly.services import account_deletion
from promptly.services.accounts import accounts, keys
from promptly.services.ledger import ledger
from promptly.services.mail import alerts, outbox
from promptly.settings import current_settings
from promptly.tasks.accounts import finish_deletions
from promptly.transactions import transaction
from tests.services.metering.meter import Meter
from tests.support import factories
from tests.support.books import Account, BooksReader, wait_for
from tests.support.races import run, together

NAMING = ("users", "api_keys", "balances", "ledger_entries", "usage_events", "usage_rollups",
          "holds", "outbox")  # fmt: skip


@pytest.fixture
def books(fresh_database: str, redis_url: str) -> Iterator[BooksReader]:
    made = BooksReader(fresh_database, redis_url)
    yield made
    made.close()


@pytest.fixture
def meter(books: BooksReader) -> Meter:
    return Meter(books)


@pytest.fixture
def account(books: BooksReader) -> Account:
    return books.account(paid_tokens=1000)


def left(books: BooksReader) -> dict[str, int]:
    """Return the row counts of the tables that name accounts, without empty tables."""
    counts = {name: books.rows(f"SELECT count(*) AS n FROM {name}")[0]["n"] for name in NAMING}
    return {name: count for name, count in counts.items() if count}


def delete(books: BooksReader, account: Account, wait_seconds: float = 10.0) -> bool:
    with books.app.app_context():
        return account_deletion.delete_account(
            account.user_id, current_settings(), wait_seconds=wait_seconds
        )


def close(books: BooksReader, account: Account) -> None:
    with books.app.app_context(), transaction():
        account_deletion.close(account.user_id, current_settings())


def test_an_idle_account_goes_at_once(books: BooksReader, account: Account) -> None:
    assert delete(books, account, wait_seconds=0)
    assert left(books) == {}
    assert delete(books, account), "once more does no harm"


def test_running_requests_settle_before_it_goes(
    books: BooksReader, account: Account, meter: Meter
) -> None:
    hold = meter.place(account, 100)
    deleted: list[bool] = []
    thread = threading.Thread(target=lambda: deleted.append(delete(books, account)))
    thread.start()
    wait_for(
        lambda: meter.checkpoint((hold.request_id, 20, 5))[hold.request_id] is not None, "the order"
    )
    assert left(books)["holds"] == 1 and not deleted
    charge = meter.settle(account, hold.request_id, 20, 7)
    assert charge is not None
    assert (charge.charged_tokens, charge.balance_tokens) == (27, 973)
    thread.join()
    assert deleted == [True]
    assert left(books) == {}


def test_the_hold_of_a_dead_process_is_settled_without_it(
    books: BooksReader, account: Account, meter: Meter, caplog: pytest.LogCaptureFixture
) -> None:
    hold = meter.place(account, 100)
    meter.checkpoint((hold.request_id, 20, 5))
    meter.silence(hold.request_id, 60)
    with caplog.at_level("INFO"):
        assert delete(books, account, wait_seconds=0)
    [line] = [record for record in caplog.records if record.message == "hold recovered"]
    assert vars(line)["charged_tokens"] == 25
    assert left(books) == {}
    assert meter.settle_late(account, hold.request_id, 20, 9) is None
    assert left(books) == {}


def test_a_request_that_does_not_end_is_waited_for_by_the_task(
    books: BooksReader, account: Account, meter: Meter
) -> None:
    hold = meter.place(account, 100)
    assert not delete(books, account, wait_seconds=0.2)
    run(books.app, finish_deletions)
    assert set(left(books)) == {"users", "api_keys", "balances", "ledger_entries", "holds"}
    assert meter.settle(account, hold.request_id, 5, 5) is not None
    run(books.app, finish_deletions)
    assert left(books) == {}


def test_a_deletion_that_was_cut_off_is_finished(books: BooksReader, account: Account) -> None:
    other = books.account()
    close(books, account)
    run(books.app, finish_deletions)
    run(books.app, finish_deletions)
    assert [row["id"] for row in books.rows("SELECT id FROM users")] == [other.user_id]


def test_a_closed_account_refuses_sign_in_and_forgets_its_address(
    books: BooksReader, account: Account
) -> None:
    settings = books.app.extensions["settings"]
    close(books, account)
    with books.app.app_context():
        assert keys.find(account.key, settings.key_pepper) is None
        with pytest.raises(NotFound):
            keys.create(account.user_id, "one more", settings.key_pepper)
        with pytest.raises(NotFound):
            accounts.find(email=account.email)
        assert accounts.is_closed(account.user_id)
    assert account.email not in str(books.rows("SELECT email FROM users"))


def test_who_registers_the_address_meanwhile_gets_an_account_of_their_own(
    books: BooksReader, account: Account, meter: Meter
) -> None:
    settings = books.app.extensions["settings"]
    hold = meter.place(account, 100)
    close(books, account)
    with books.app.app_context(), transaction():
        accounts.register(account.email, settings)
        new = accounts.find(email=account.email)
        assert new.id != account.user_id
        assert db.session.get_one(Balance, new.id).paid_tokens == 0
        new_id = new.id
    meter.settle(account, hold.request_id, 1)
    run(books.app, finish_deletions)
    assert [row["id"] for row in books.rows("SELECT id FROM users")] == [new_id]
    assert left(books) == {"users": 1, "balances": 1, "outbox": 1}


def test_registration_and_deletion_at_the_same_moment(app: Flask) -> None:
    settings = app.extensions["settings"]
    for _ in range(10):
        with app.app_context(), transaction():
            user_id = factories.user("race@example.com").id

        def register() -> None:
            with transaction():
                accounts.register("race@example.com", settings)

        def end(user_id: int = user_id) -> None:
            account_deletion.delete_account(user_id, current_settings())

        together(app, register, end)
        with app.app_context(), transaction() as session:
            found = session.query(User).all()
            # A registration before the deletion goes with the account; one after it makes another.
            assert len(found) <= 1 and all(user.id != user_id for user in found)
            for user in found:
                assert [m.kind for m in session.query(OutboxMail)] == ["new_key"]
                account_deletion.remove(user.id)


def test_a_hold_is_never_left_behind(books: BooksReader, meter: Meter) -> None:
    for _ in range(10):
        account = books.account(paid_tokens=1000)

        def ask(account: Account = account) -> str:
            try:
                return meter.place(account, 10).request_id.hex
            except Exception as problem:
                return type(problem).__name__

        def end(account: Account = account) -> bool:
            return account_deletion.delete_account(
                account.user_id, current_settings(), wait_seconds=0
            )

        placed, deleted = together(books.app, ask, end)
        if deleted:
            assert placed == "InsufficientQuota"
            assert left(books) == {}
        else:
            assert books.open_holds(account) == 1
            with books.app.app_context(), transaction():
                account_deletion.remove(account.user_id)


def test_it_is_warned_of_nothing(books: BooksReader, account: Account) -> None:
    settings = books.app.extensions["settings"]
    with books.app.app_context(), transaction() as session:
        ledger.grant(account.user_id, 10, 0, actor="test")
        session.execute(text("UPDATE users SET created_at = now() - interval '2 days'"))
        session.execute(text("UPDATE balances SET trial_expires_at = now() + interval '1 hour'"))
        session.execute(text("UPDATE users SET low_balance_armed = true"))
        account_deletion.close(account.user_id, current_settings())
        assert alerts.warn_of_trial_ends() == 0
        alerts.warn_of_low_balances(settings)
        assert session.query(OutboxMail).count() == 0


def test_purchases_stay_without_personal_data(books: BooksReader, account: Account) -> None:
    with books.app.app_context(), transaction():
        factories.order(account.user_id)
        outbox.add("new_key", account.email, user_id=account.user_id)
    assert delete(books, account)
    assert left(books) == {}
    assert [row["user_id"] for row in books.rows("SELECT user_id FROM orders")] == [None]
