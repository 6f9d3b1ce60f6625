"""Periodic tasks: recover dead holds, with a grace period after an interruption, and purge."""

import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import text

from promptly.services.metering import recovery
from promptly.tasks.metering import purge_holds, recover_holds
from promptly.transactions import transaction
from tests.services.metering.meter import Meter
from tests.support.books import Account, BooksReader
from tests.support.races import together


@pytest.fixture
def own(app: Flask, fresh_database: str) -> Iterator[Meter]:
    """A meter on the test's own database, swept a moment ago (and since PostgreSQL's start)."""
    meter = Meter(BooksReader(fresh_database, "redis://127.0.0.1:1/0"))
    note_sweep(meter, seconds_ago=0)
    yield meter
    meter.books.close()


@pytest.fixture
def spender(own: Meter) -> Account:
    return own.books.account(paid_tokens=1000)


def note_sweep(meter: Meter, seconds_ago: float) -> None:
    """Store that the sweep last ran `seconds_ago`, without a grace period."""
    meter.books.rows(
        "INSERT INTO sweep_states (name, last_run_at) VALUES ('holds', now() - :age)"
        " ON CONFLICT (name) DO UPDATE SET last_run_at = now() - :age, grace_until = NULL",
        age=timedelta(seconds=seconds_ago),
    )


def begin(app: Flask) -> bool:
    with app.app_context(), transaction() as session:
        return recovery.begin_sweep(session)


def dead_holds(meter: Meter, account: Account, count: int) -> list[uuid.UUID]:
    """Place holds with a cost of 10 tokens each whose process has fallen silent."""
    ids = [meter.place(account, 20, max_open_holds=1000).request_id for _ in range(count)]
    meter.checkpoint(*((request_id, 8, 2) for request_id in ids))
    for request_id in ids:
        meter.silence(request_id, recovery.STALE_SECONDS + 1)
    return ids


def sweep(app: Flask) -> None:
    with app.app_context():
        recover_holds()


def test_a_regular_sweep_goes_ahead(app: Flask, own: Meter) -> None:
    assert begin(app)
    assert begin(app)


def test_the_first_sweep_of_all_holds_still(app: Flask, own: Meter) -> None:
    own.books.rows("DELETE FROM sweep_states")
    assert not begin(app)
    assert not begin(app)


def test_after_missed_sweeps_living_processes_report_first(app: Flask, own: Meter) -> None:
    note_sweep(own, seconds_ago=3 * recovery.SWEEP_SECONDS + 5)
    assert not begin(app)
    # Further sweeps do not prolong the grace period, and it ends.
    assert not begin(app)
    grace = "grace_until - now()"
    [row] = own.books.rows(f"SELECT {grace} AS left FROM sweep_states")
    assert timedelta() < row["left"] <= timedelta(seconds=recovery.GRACE_SECONDS)
    own.books.rows("UPDATE sweep_states SET grace_until = now() - interval '1 second'")
    assert begin(app)


def test_after_a_restart_of_postgresql_living_processes_report_first(
    app: Flask, own: Meter
) -> None:
    with app.app_context(), transaction() as session:
        started = session.scalar(text("SELECT pg_postmaster_start_time()"))
    own.books.rows(
        "UPDATE sweep_states SET last_run_at = CAST(:at AS timestamptz) - interval '1 second'",
        at=started,
    )
    assert not begin(app)


def test_a_sweep_that_holds_still_recovers_nothing(
    app: Flask, own: Meter, spender: Account
) -> None:
    dead_holds(own, spender, 2)
    note_sweep(own, seconds_ago=1000)
    sweep(app)
    assert own.figures(spender) == (1000, 0, 40, 0, 2)


def test_recovering_twice_charges_once(app: Flask, own: Meter, spender: Account) -> None:
    dead_holds(own, spender, 3)
    living = own.place(spender, 100)
    sweep(app)
    sweep(app)
    assert own.figures(spender) == (970, 0, 100, 0, 1)
    assert own.settle(spender, living.request_id, 100) is not None
    assert own.differences() == []


def test_recovering_in_parallel_charges_once(app: Flask, own: Meter, spender: Account) -> None:
    dead_holds(own, spender, 30)
    together(app, *[recover_holds] * 4)
    assert own.figures(spender) == (700, 0, 0, 0, 0)
    assert len(own.books.events(spender)) == 30
    assert own.differences() == []


def test_ended_holds_are_purged_after_a_while(app: Flask, own: Meter, spender: Account) -> None:
    still_open = own.place(spender, 10).request_id
    old, settled_late, young = dead_holds(own, spender, 3)
    for request_id in (old, settled_late, young):
        own.recover(request_id)
    own.settle_late(spender, settled_late, 12)
    for request_id in (old, settled_late, still_open):
        own.silence(request_id, recovery.KEEP_SECONDS + 1)
    own.silence(young, recovery.KEEP_SECONDS - 60)
    together(app, purge_holds, purge_holds)
    together(app, purge_holds)
    left = {row["request_id"] for row in own.books.rows("SELECT request_id FROM holds")}
    assert left == {young, still_open}
    assert own.differences() == []
