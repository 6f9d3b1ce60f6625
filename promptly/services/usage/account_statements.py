"""An account's statement: an opening balance, then every charge and credit in time order.

    opening + all changes = what the account owns at the end (paid and trial tokens)

It is read page by page in short transactions, while requests go on. Two bounds keep it complete:
it ends no later than the moment it was requested, and starts no earlier than the oldest usage that
has not been pruned. A settlement booked late, at a moment already written, would be missing; a
last line carries any difference to the balance, so the sum is always exact.
"""

import heapq
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import Row, TextClause, text

from promptly.errors import NotFound
from promptly.extensions import db
from promptly.request_ids import public_id
from promptly.services.usage import receipts
from promptly.transactions import transaction

PAGE = 1000

# End of the account's pruned months: usage before it is known only as a sum.
# A closing entry's reference is the partition's name and the account's number.
_BOUNDS = text("""
SELECT now(), u.created_at, (
    SELECT max(to_date(substring(reference FROM '\\d{4}_\\d{2}'), 'YYYY_MM') + interval '1 month')
    FROM ledger_entries WHERE user_id = :user_id AND kind = 'usage_closing'
)
FROM users u WHERE u.id = :user_id
""")

# Sum of bookings before a moment; pruned usage always precedes the start of a statement.
_BEFORE = text("""
SELECT coalesce(l.paid, 0) - coalesce(e.paid, 0), coalesce(l.trial, 0) - coalesce(e.trial, 0)
FROM
    (SELECT sum(paid_delta) AS paid, sum(trial_delta) AS trial FROM ledger_entries
     WHERE user_id = :user_id AND (created_at < :moment OR kind = 'usage_closing')) l,
    (SELECT sum(charged_paid) AS paid, sum(charged_trial) AS trial FROM usage_events
     WHERE user_id = :user_id AND created_at < :moment) e
""")

# Tokens that the account owned at a moment: those it owns now, without later bookings.
_OWNED = text("""
SELECT b.paid_tokens - coalesce(l.paid, 0) + coalesce(e.paid, 0),
       b.trial_tokens - coalesce(l.trial, 0) + coalesce(e.trial, 0)
FROM balances b,
    (SELECT sum(paid_delta) AS paid, sum(trial_delta) AS trial FROM ledger_entries
     WHERE user_id = :user_id AND created_at >= :moment AND kind <> 'usage_closing') l,
    (SELECT sum(charged_paid) AS paid, sum(charged_trial) AS trial FROM usage_events
     WHERE user_id = :user_id AND created_at >= :moment) e
WHERE b.user_id = :user_id
""")

_EVENTS = text("""
SELECT created_at, request_id, charged_paid, charged_trial, endpoint, e.model, outcome,
       prompt_tokens, cached_prompt_tokens, completion_tokens, uncharged_tokens,
       time_to_first_token_ms, duration_ms, key_id,
       p.input || ':' || p.cached || ':' || p.output AS price
FROM usage_events e JOIN prices p ON p.id = e.price_id
WHERE user_id = :user_id AND created_at >= :start AND created_at < :end
  AND created_at >= :after AND (created_at, request_id) > (:after, :after_id)
ORDER BY created_at, request_id
LIMIT :page
""")

_ENTRIES = text("""
SELECT created_at, id, paid_delta, trial_delta, kind, reference
FROM ledger_entries
WHERE user_id = :user_id AND kind <> 'usage_closing'
  AND created_at >= :start AND created_at < :end AND (created_at, id) > (:after, :after_id)
ORDER BY created_at, id
LIMIT :page
""")


@dataclass(frozen=True, slots=True)
class Line:
    """One change of the account's tokens; `kind` is opening, usage, booked_late or an entry's."""

    created_at: datetime
    kind: str
    paid_delta: int
    trial_delta: int
    balance_tokens: int
    details: dict[str, Any]


@dataclass(frozen=True)
class Statement:
    """An account's statement from `start` to `end`, which is excluded.

    Without a start it covers everything since the account was created, at `opened_at`.
    """

    user_id: int
    opened_at: datetime
    start: datetime | None
    end: datetime

    def lines(self) -> Iterator[Line]:
        """Yield the lines in time order; opens a transaction for each page of them."""
        start = self.start or datetime(1970, 1, 1, tzinfo=UTC)
        found = self._sums(_BEFORE, start)
        if found is None:
            return
        paid, trial = found
        yield Line(self.start or self.opened_at, "opening", paid, trial, paid + trial, {})
        changes = heapq.merge(
            self._entries(start), self._usage(start), key=lambda line: line.created_at
        )
        for line in changes:
            paid, trial = paid + line.paid_delta, trial + line.trial_delta
            yield replace(line, balance_tokens=paid + trial)
        owned = self._sums(_OWNED, self.end)
        if owned is not None and owned != (paid, trial):
            changes_left = owned[0] - paid, owned[1] - trial
            yield Line(self.end, "booked_late", *changes_left, sum(owned), {})

    def _sums(self, statement: TextClause, moment: datetime) -> tuple[int, int] | None:
        """Return paid and trial tokens before a moment; None if the account is gone."""
        with transaction() as session:
            session.execute(text("SET LOCAL statement_timeout = '180s'"))
            row = session.execute(statement, {"user_id": self.user_id, "moment": moment}).first()
        return None if row is None else (int(row[0]), int(row[1]))

    def _usage(self, start: datetime) -> Iterator[Line]:
        names: dict[int | None, str] = {}
        for rows in self._pages(_EVENTS, start, uuid.UUID(int=0)):
            unknown = {row.key_id for row in rows} - names.keys()
            with transaction():
                names |= receipts.key_names(self.user_id, unknown)
            for row in rows:
                details = {
                    "request_id": public_id(row.request_id),
                    "endpoint": row.endpoint,
                    "model": row.model,
                    "outcome": row.outcome,
                    "prompt_tokens": row.prompt_tokens,
                    "cached_prompt_tokens": row.cached_prompt_tokens,
                    "completion_tokens": row.completion_tokens,
                    "uncharged_tokens": row.uncharged_tokens,
                    "time_to_first_token_ms": row.time_to_first_token_ms,
                    "duration_ms": row.duration_ms,
                    "key": names.get(row.key_id),
                    "price": row.price,
                }
                paid, trial = -row.charged_paid, -row.charged_trial
                yield Line(row.created_at, "usage", paid, trial, 0, details)

    def _entries(self, start: datetime) -> Iterator[Line]:
        for rows in self._pages(_ENTRIES, start, 0):
            for row in rows:
                details = {"reference": row.reference}
                yield Line(row.created_at, row.kind, row.paid_delta, row.trial_delta, 0, details)

    def _pages(
        self, statement: TextClause, start: datetime, first_id: object
    ) -> Iterator[Sequence[Row[Any]]]:
        values: dict[str, Any] = {"user_id": self.user_id, "start": start, "end": self.end}
        values |= {"page": PAGE, "after": start - timedelta(microseconds=1), "after_id": first_id}
        while True:
            with transaction() as session:
                rows = session.execute(statement, values).all()
            yield rows
            if len(rows) < PAGE:
                return
            values |= {"after": rows[-1][0], "after_id": rows[-1][1]}


def of(user_id: int, first: date | None = None, last: date | None = None) -> Statement:
    """Return the statement of the UTC days from `first` to `last`, both included; default is all.

    Raises NotFound if the account does not exist.
    """
    row = db.session.execute(_BOUNDS, {"user_id": user_id}).first()
    if row is None:
        raise NotFound("There is no such account.")
    now, opened_at, pruned_until = row
    start = None if pruned_until is None else pruned_until.replace(tzinfo=UTC)
    if first is not None:
        start = max(_midnight(first), start or _midnight(first))
    end = now if last is None else min(_midnight(last + timedelta(days=1)), now)
    return Statement(user_id, opened_at, start, max(end, start or end))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
