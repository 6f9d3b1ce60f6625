"""Rates of accounts in memory: read before they are needed, and kept while PostgreSQL is away."""

import pytest
from sqlalchemy import text

from promptly.gateway import account_rates as module
from promptly.gateway.account_rates import AccountRates
from promptly.services.accounts import account_limits, key_format
from promptly.services.accounts.account_limits import AccountRate
from promptly.services.audit import Operator
from promptly.transactions import transaction
from tests.gateway.conftest import Cuttable
from tests.support.books import wait_for
from tests.support.servers import make_settings

UNKNOWN = b"x" * 32


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFRESH_SECONDS", 0.05)


def set_rate(cuttable: Cuttable, rate: int | None) -> None:
    with cuttable.meter.books.app.app_context(), transaction():
        account_limits.set_limits(
            cuttable.account.user_id, {"requests_per_minute": rate}, operator=Operator("cli:test")
        )


def hash_of(cuttable: Cuttable) -> bytes:
    return key_format.digest(cuttable.account.key, make_settings().key_pepper.reveal())


def test_the_first_request_knows_them(cuttable: Cuttable) -> None:
    set_rate(cuttable, 600)
    rates = AccountRates(cuttable.database)
    rate = AccountRate(cuttable.account.user_id, 600)
    assert rates.find([hash_of(cuttable)]) == rate
    # A key may be stored under an older pepper.
    assert rates.find([UNKNOWN, hash_of(cuttable)]) == rate
    assert rates.find([UNKNOWN]) is None


def test_changes_arrive_and_the_last_known_stay(
    cuttable: Cuttable, caplog: pytest.LogCaptureFixture
) -> None:
    key_hash = hash_of(cuttable)
    rates = AccountRates(cuttable.database)
    assert rates.find([key_hash]) is None
    set_rate(cuttable, 600)
    wait_for(lambda: rates.find([key_hash]) is not None, "the new rate")
    cuttable.proxy.shut()
    set_rate(cuttable, None)
    wait_for(lambda: rates.find([key_hash]) is None or "not read" in caplog.text, "a failure")
    assert rates.find([key_hash]) == AccountRate(cuttable.account.user_id, 600)
    cuttable.proxy.open()
    wait_for(lambda: rates.find([key_hash]) is None, "the default again")


def test_later_requests_do_not_wait_for_a_reading(cuttable: Cuttable) -> None:
    set_rate(cuttable, 600)
    key_hash = hash_of(cuttable)
    rates = AccountRates(cuttable.database)
    known = rates.find([key_hash])
    assert known is not None
    with cuttable.meter.books.app.app_context(), transaction() as session:
        session.execute(text("LOCK TABLE users IN ACCESS EXCLUSIVE MODE"))
        wait_for(
            lambda: rates.find([key_hash]) == known and rates._rates.is_reading,
            "an answer while the reading waits",
        )
    wait_for(lambda: not rates._rates.is_reading, "the end of the reading")
