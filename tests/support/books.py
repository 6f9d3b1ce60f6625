"""Accounts for tests of a running gateway, and access to their records in its database."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Flask
from sqlalchemy import CursorResult, text

from promptly.app import create_app
from promptly.extensions import db
from promptly.services.accounts import accounts, keys
from promptly.services.ledger import balances, ledger, verification
from promptly.services.ledger.verification import Difference
from promptly.transactions import transaction
from tests.support.servers import make_settings

DEADLINE_SECONDS = 20.0


@dataclass(frozen=True)
class Account:
    """An account and its raw key."""

    user_id: int
    email: str
    key_id: int
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


class BooksReader:
    """One gateway's database, accessed through the services in an application of its own."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        settings = make_settings(
            database_url=database_url, redis_url=redis_url, trial_tokens=0, log_level="warning"
        )
        self.app: Flask = create_app(settings)
        self._settings = settings
        self._made = 0

    def close(self) -> None:
        """Close all connections."""
        with self.app.app_context():
            for engine in db.engines.values():
                engine.dispose()
        self.app.extensions["hot_path_database"].dispose()
        self.app.extensions["hot_path_redis"].client.close()

    def account(self, paid_tokens: int = 1_000_000, trial_tokens: int = 0) -> Account:
        """Create an account with this balance and one key."""
        self._made += 1
        with self.app.app_context(), transaction():
            user = accounts.create(f"account{self._made}@example.com", self._settings)
            if trial_tokens:
                ledger.grant(user.id, trial_tokens, 7, actor="test")
            if paid_tokens:
                ledger.adjust(user.id, paid_tokens, actor="test")
            row, raw = keys.create(user.id, "default", self._settings.key_pepper)
            return Account(user.id, user.email, row.id, raw)

    def key(self, account: Account) -> Account:
        """Create another key of an account."""
        with self.app.app_context(), transaction():
            row, raw = keys.create(account.user_id, "another", self._settings.key_pepper)
            return Account(account.user_id, account.email, row.id, raw)

    def balance(self, account: Account) -> dict[str, Any]:
        """Return the balance as the API shows it."""
        with self.app.app_context(), transaction():
            return balances.read(account.user_id)

    def events(self, account: Account) -> list[dict[str, Any]]:
        """Return the account's usage events, oldest first; `charged_tokens` is paid plus trial."""
        return self.rows(
            "SELECT *, charged_paid + charged_trial AS charged_tokens FROM usage_events"
            " WHERE user_id = :user_id ORDER BY created_at",
            user_id=account.user_id,
        )

    def open_holds(self, account: Account | None = None) -> int:
        """Return the number of open holds, of one account or of all."""
        condition = "" if account is None else " AND user_id = :user_id"
        [row] = self.rows(
            f"SELECT count(*) AS open FROM holds WHERE state = 'open'{condition}",
            **({} if account is None else {"user_id": account.user_id}),
        )
        return int(row["open"])

    def rows(self, statement: str, **parameters: object) -> list[dict[str, Any]]:
        """Execute and commit a statement, and return its rows."""
        with self.app.app_context(), transaction() as session:
            result = session.execute(text(statement), parameters)
            assert isinstance(result, CursorResult)
            return [dict(row) for row in result.mappings()] if result.returns_rows else []

    def differences(self) -> list[Difference]:
        """Return the differences that `flask ledger verify` would report."""
        with self.app.app_context(), transaction():
            return verification.verify()

    def wait_for_events(self, account: Account, count: int) -> list[dict[str, Any]]:
        """Wait for exactly `count` usage events and no open hold, and return the events."""
        wait_for(
            lambda: len(self.events(account)) >= count and not self.open_holds(account),
            f"{count} usage events",
        )
        events = self.events(account)
        assert len(events) == count
        return events


def wait_for(
    condition: Callable[[], bool], what: str, deadline_seconds: float = DEADLINE_SECONDS
) -> None:
    """Poll every 20 ms until the condition holds; fail naming `what` at the deadline."""
    deadline = time.monotonic() + deadline_seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {deadline_seconds:g} s: {what}"
        time.sleep(0.02)
