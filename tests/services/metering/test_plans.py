"""The steps of a request find rows by index, whatever PostgreSQL knew when it planned them."""

from typing import Any

import pytest
from sqlalchemy import Connection, text

from promptly.errors import ServiceUnavailable
from promptly.extensions import db
from promptly.models import ApiKey
from promptly.services import metering
from promptly.services.accounts.authentication import authenticate
from tests.services.metering.meter import Meter
from tests.services.metering.test_admission import admit
from tests.support.books import Account

WHOLE_READS = """
SELECT relname, seq_scan FROM pg_stat_xact_user_tables
WHERE relname IN ('holds', 'balances', 'api_keys', 'users', 'prices')
"""


class OneTransaction:
    """The hot path's database, but in one open transaction, which PostgreSQL counts apart."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def fetch_all(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._connection.exec_driver_sql(statement, parameters)]

    def fetch_one(self, statement: str, parameters: dict[str, Any]) -> tuple[Any, ...] | None:
        return next(iter(self.fetch_all(statement, parameters)), None)

    look_up = fetch_one


def test_no_step_reads_a_whole_table(meter: Meter, account: Account) -> None:
    with meter.books.app.app_context(), db.engine.begin() as connection:
        key_hash = db.session.get_one(ApiKey, account.key_id).key_hash
        # Small tables, as after a quiet night: reading all of one looks cheapest.
        connection.execute(text("ANALYZE holds, balances, api_keys, users, prices"))
        inside = Meter(meter.books)
        inside.database = OneTransaction(connection)
        before = inside.database.fetch_all(WHOLE_READS, {})
        for batch in (1, 3):
            caller = authenticate(inside.database, key_hash)
            assert caller is not None
            caller.unproven_key_hash = key_hash
            assert admit(inside, caller) is not None
            held = [inside.place(account, 100) for _ in range(batch)]
            for hold in held:
                assert inside.adjust(hold.request_id, 40) == 40
            settlements = [inside.settlement(account, hold.request_id, 20, 5) for hold in held]
            charges = metering.settle_many(inside.database, settlements)
            assert [charge.charged_tokens for charge in charges if charge] == [25] * batch
        assert inside.database.fetch_all(WHOLE_READS, {}) == before


def test_a_single_settlement_does_not_wait_for_a_locked_account(
    meter: Meter, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of other accounts would wait behind it."""
    hold = meter.place(account, 100)
    settlement = meter.settlement(account, hold.request_id, 20, 5)
    with meter.books.app.app_context(), db.engine.begin() as connection:
        lock = text("SELECT FROM balances WHERE user_id = :user_id FOR UPDATE")
        connection.execute(lock, {"user_id": account.user_id})
        with pytest.raises(ServiceUnavailable):
            metering.settle_many(meter.database, [settlement])
    assert [getattr(record, "reason", "") for record in caplog.records] == [
        "canceling statement due to lock timeout"
    ]
    assert metering.settle_many(meter.database, [settlement]) == [metering.Charge(25, 0, 975)]
