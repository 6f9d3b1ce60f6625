"""Recovery of requests whose process died or stalled, or whose hold was lost."""

import logging
import uuid
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly.request_ids import started_at_ms
from promptly.services.metering import sql
from promptly.services.metering.holds import Charge, Settlement, parameters_of

logger = logging.getLogger(__name__)

# Holds without a checkpoint for this long count as dead. With the sweep's interval and the grace
# below, the holds of a dead process are settled well within 90 seconds.
STALE_SECONDS = 30
# After an interruption of PostgreSQL, or of the sweep itself, let live processes report first.
GRACE_SECONDS = 25
SWEEP_SECONDS = 10
BATCH = 200

# Ended holds are kept as long as a stalled process may come back to settle late.
KEEP_SECONDS = 3600

SWEEP = """
INSERT INTO sweep_states AS s (name, last_run_at, grace_until)
VALUES ('holds', now(), now() + make_interval(secs => :grace))
ON CONFLICT (name) DO UPDATE
SET last_run_at = now(),
    grace_until = CASE
        WHEN s.last_run_at < now() - make_interval(secs => :missed)
          OR pg_postmaster_start_time() > s.last_run_at
        THEN now() + make_interval(secs => :grace)
        ELSE s.grace_until
    END
RETURNING grace_until > now()
"""


def begin_sweep(session: Session) -> bool:
    """Record that the sweep runs; return False while live processes have time to report."""
    waiting = session.scalar(text(SWEEP), {"grace": GRACE_SECONDS, "missed": 3 * SWEEP_SECONDS})
    return not waiting


def stale_holds(session: Session) -> list[uuid.UUID]:
    """Return a batch of open holds without a checkpoint for STALE_SECONDS, oldest first."""
    rows = session.connection().exec_driver_sql(
        sql.STALE_HOLDS, {"stale_seconds": STALE_SECONDS, "limit": BATCH}
    )
    return [uuid.UUID(str(row[0])) for row in rows]


def recover(session: Session, request_id: uuid.UUID, silent_seconds: float = STALE_SECONDS) -> bool:
    """Settle a dead hold at its last checkpoint; return False if it has ended or is alive."""
    row = (
        session.connection()
        .exec_driver_sql(
            sql.RECOVER, {"request_id": str(request_id), "stale_seconds": silent_seconds}
        )
        .first()
    )
    if row is None:
        return False
    logger.info(
        "hold recovered",
        extra={"request_id": request_id.hex, "user_id": row[0], "charged_tokens": row[1]},
    )
    return True


def purge_holds(session: Session) -> int:
    """Delete a batch of ended holds that are too old for a late settlement; return how many."""
    done = session.connection().exec_driver_sql(
        sql.PURGE_HOLDS, {"keep_seconds": KEEP_SECONDS, "limit": 5000}
    )
    return done.rowcount


def settle_late(session: Session, settlement: Settlement) -> Charge | None:
    """Settle a request whose hold is not open, charging only what has not been charged yet.

    If it costs less than what was charged at its last checkpoint, the difference is given back.

    An earlier attempt whose answer was lost may have settled the hold, the sweep may have
    recovered it while this process was stalled, or a crash of PostgreSQL may have lost it.
    Returns None if the account itself is gone.
    """
    parameters = parameters_of(settlement)
    request = {"request_id": parameters["request_id"]}
    started_at = datetime.fromtimestamp(started_at_ms(settlement.request_id) / 1000, UTC)
    parameters["not_before"] = started_at - timedelta(minutes=5)

    # An earlier attempt, or the sweep, may still run in PostgreSQL: wait for it, then read with a
    # new snapshot. A lock within the next statement would not do: it would keep its snapshot.
    session.execute(text(sql.LOCK_REQUEST), request)
    session.execute(text(sql.LOCK_HOLD), request)
    state, charged, uncharged, balance, cost = session.execute(
        text(sql.LATE_STATE), parameters
    ).one()
    if state == "open":
        row = session.connection().exec_driver_sql(sql.SETTLE, parameters_of(settlement)).first()
        return None if row is None else Charge(*row)
    if charged is not None and state != "recovered":
        return Charge(charged, uncharged, balance)

    event = (
        session.execute(text(sql.EVENT_CHARGES), parameters).first()
        if charged is not None
        else None
    )
    balances = session.execute(text(sql.LOCK_BALANCE), parameters).first()
    if balances is None:
        return None
    free_trial, free_paid, has_trial, has_limited_keys = balances
    so_far = _Split(0, 0, 0) if event is None else _Split(*event[:3])
    charged_at = None if event is None else event.created_at
    key = _KeyPart(session, settlement.key_id, charged_at) if has_limited_keys else None
    change = so_far.change_to(cost, free_trial, free_paid, None if key is None else key.room)
    # Tokens given back to an expired trial cannot be spent.
    spendable_trial = change.trial if has_trial else max(change.trial, 0)
    parameters |= {
        "charged_trial": change.trial,
        "charged_paid": change.paid,
        "uncharged_tokens": change.uncharged,
        "balance_tokens": free_trial + free_paid - spendable_trial - change.paid,
    }
    session.execute(text(sql.CHARGE_FREE), parameters)
    if key is not None:
        key.charge(change.trial + change.paid)
    session.execute(text(sql.MARK_SETTLED), request)
    statement = sql.INSERT_EVENT if event is None else sql.UPDATE_EVENT
    return Charge(*session.execute(text(statement), parameters).one())


class _KeyPart:
    """The part of a late settlement that concerns the limits of its key."""

    def __init__(self, session: Session, key_id: int, charged_at: datetime | None) -> None:
        """`charged_at` is the time of the event that was charged before, if there is one."""
        room, period_start = session.execute(text(sql.KEY_ROOM), {"key_id": key_id}).one()
        self._session = session
        self._key_id = key_id
        # An event stays in its period; of one that has ended it is not known any more what is left.
        self._has_ended = None not in (charged_at, period_start) and charged_at < period_start
        self.room: int | None = 0 if self._has_ended and room is not None else room

    def charge(self, tokens: int) -> None:
        """Count tokens as used in the key's period; negative ones are given back."""
        if not self._has_ended:
            self._session.execute(
                text(sql.CHARGE_KEY), {"key_id": self._key_id, "charged_of_key": tokens}
            )


class _Split(NamedTuple):
    """A cost by who bears it: trial tokens, paid tokens, or nobody."""

    trial: int
    paid: int
    uncharged: int

    def change_to(self, cost: int, free_trial: int, free_paid: int, room: int | None) -> "_Split":
        """Return what is added for `cost` in all, or what is taken off, as negative figures.

        It is spent in the usual order from what is free, and given back in the reverse one. A key
        with a cap has `room` for so many more tokens.
        """
        more = cost - sum(self)
        if more >= 0:
            charged = more if room is None else min(more, room)
            trial = min(charged, free_trial)
            paid = min(charged - trial, free_paid)
            return _Split(trial, paid, more - trial - paid)
        uncharged = max(more, -self.uncharged)
        paid = max(more - uncharged, -self.paid)
        return _Split(more - uncharged - paid, paid, uncharged)
