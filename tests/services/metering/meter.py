"""The steps of metering on a test's database, with short signatures."""

import uuid
from datetime import timedelta
from typing import Any

from promptly.models import Balance
from promptly.models.states import Outcome
from promptly.prices import DEFAULT, Price
from promptly.request_ids import new_request_id
from promptly.services import metering
from promptly.services.ledger.verification import Difference
from promptly.services.metering import recovery
from promptly.transactions import transaction
from tests.support.books import Account, BooksReader

TOP_UP_URL = "https://example.com/dashboard"


class Meter:
    """Place, adjust, settle and recover holds of the accounts of `books`."""

    def __init__(self, books: BooksReader) -> None:
        self.books = books
        self.database = books.app.extensions["hot_path_database"]

    def place(
        self,
        account: Account,
        wanted: int,
        minimum: int | None = None,
        max_open_holds: int = 8,
        price: Price = DEFAULT,
    ) -> metering.Hold:
        return metering.place_hold(
            self.database,
            request_id=new_request_id(),
            user_id=account.user_id,
            key_id=account.key_id,
            endpoint="chat.completions",
            model="test-model",
            wanted_tokens=wanted,
            minimum_tokens=wanted if minimum is None else minimum,
            max_open_holds=max_open_holds,
            price=price,
            top_up_url=TOP_UP_URL,
        )

    def settlement(
        self,
        account: Account,
        request_id: uuid.UUID,
        prompt: int,
        completion: int,
        outcome: Outcome = Outcome.COMPLETED,
        cached: int = 0,
        price: Price = DEFAULT,
    ) -> metering.Settlement:
        return metering.Settlement(
            request_id=request_id,
            user_id=account.user_id,
            key_id=account.key_id,
            endpoint="chat.completions",
            model="test-model",
            outcome=outcome,
            prompt_tokens=prompt,
            cached_prompt_tokens=cached,
            completion_tokens=completion,
            time_to_first_token_ms=12,
            duration_ms=345,
            price_id=price.id,
        )

    def settle(
        self,
        account: Account,
        request_id: uuid.UUID,
        prompt: int,
        completion: int = 0,
        *,
        cached: int = 0,
    ) -> metering.Charge | None:
        return metering.settle(
            self.database, self.settlement(account, request_id, prompt, completion, cached=cached)
        )

    def settle_late(
        self,
        account: Account,
        request_id: uuid.UUID,
        prompt: int,
        completion: int = 0,
        *,
        cached: int = 0,
        price: Price = DEFAULT,
    ) -> metering.Charge | None:
        settlement = self.settlement(
            account, request_id, prompt, completion, cached=cached, price=price
        )
        with self.books.app.app_context(), transaction() as session:
            return recovery.settle_late(session, settlement)

    def adjust(self, request_id: uuid.UUID, target: int) -> int | None:
        moved = metering.adjust_hold(self.database, request_id, target)
        return None if moved is None else moved.held_tokens

    def checkpoint(
        self, *counts: tuple[uuid.UUID, int, int], cached: int = 0
    ) -> dict[uuid.UUID, Outcome | None]:
        """Store (request, prompt tokens, completion tokens); `cached` is that of each prompt."""
        return metering.checkpoint(
            self.database,
            [
                metering.RunningCounts(request_id, prompt, cached, completion)
                for request_id, prompt, completion in counts
            ],
        )

    def recover(self, request_id: uuid.UUID) -> bool:
        with self.books.app.app_context(), transaction() as session:
            return recovery.recover(session, request_id)

    def silence(self, request_id: uuid.UUID, seconds: float) -> None:
        """Move a hold's last checkpoint `seconds` into the past."""
        self.books.rows(
            "UPDATE holds SET checkpoint_at = now() - :age WHERE request_id = :request_id",
            request_id=request_id,
            age=timedelta(seconds=seconds),
        )

    def end_trial(self, account: Account) -> None:
        """Make the account's trial end a second ago."""
        self.books.rows(
            "UPDATE balances SET trial_expires_at = now() - interval '1 second'"
            " WHERE user_id = :user_id",
            user_id=account.user_id,
        )

    def row(self, account: Account) -> dict[str, Any]:
        """Return the account's row in `balances`, by column."""
        columns = ", ".join(column.name for column in Balance.__table__.columns)
        [row] = self.books.rows(
            f"SELECT {columns} FROM balances WHERE user_id = :user_id", user_id=account.user_id
        )
        return row

    def figures(self, account: Account) -> tuple[int, int, int, int, int]:
        """Return paid, trial, held paid and held trial tokens, and the number of open holds."""
        row = self.row(account)
        return (
            row["paid_tokens"],
            row["trial_tokens"],
            row["held_paid"],
            row["held_trial"],
            row["open_holds"],
        )

    def hold_row(self, request_id: uuid.UUID) -> dict[str, Any] | None:
        """Return the hold as stored, or None if it is gone."""
        rows = self.books.rows(
            "SELECT * FROM holds WHERE request_id = :request_id", request_id=request_id
        )
        return rows[0] if rows else None

    def differences(self) -> list[Difference]:
        return self.books.differences()
