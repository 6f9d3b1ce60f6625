"""The operators' list of all accounts: searched, sorted, paged.

A page starts after the last row of the previous one, by that row's sort value and account id, so
every page costs the same and equal values do not matter. A first query reads the ids of a page,
from the table that is cheapest to read in that order; a second one reads the columns shown.

Sorting by balance reads all balances: they change with every request, and an index on them would
make every request more expensive.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, text

from promptly.extensions import db
from promptly.models import User
from promptly.services.paging import PAGE_SIZE, START, Cursor, Page, read_page

JOINED, EMAIL, BALANCE, USAGE = "joined", "email", "balance", "usage"
ORDERS = (JOINED, EMAIL, BALANCE, USAGE)

# An expired trial counts only as far as running requests still hold it, as everywhere.
AVAILABLE = """(b.paid_tokens - b.held_paid - b.held_trial
    + CASE WHEN b.trial_expires_at > now() THEN b.trial_tokens ELSE b.held_trial END)"""

# Collation "C" compares bytes, in half the time; addresses are ASCII.
_MATCHES = "u.email COLLATE \"C\" ILIKE :part ESCAPE '!'"

Value = str | int | datetime


@dataclass(frozen=True)
class Place:
    """A row's place in an order: its sort value and its account's id."""

    value: Value
    user_id: int

    def __str__(self) -> str:
        value = self.value.isoformat() if isinstance(self.value, datetime) else self.value
        return f"{value}~{self.user_id}"

    @classmethod
    def parse(cls, order: str, written: str) -> "Place | None":
        """Parse the place in a link; return None if it is invalid."""
        value, _, number = written.rpartition("~")
        try:
            return cls(_READ[order](value), _bigint(number))
        except (ValueError, OverflowError):
            return None


def _bigint(written: str) -> int:
    number = int(written)
    if abs(number) >= 2**63:
        raise OverflowError
    return number


def _moment(written: str) -> datetime:
    moment = datetime.fromisoformat(written)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _address(written: str) -> str:
    if "\x00" in written:
        raise ValueError("no address")
    return written


_READ: dict[str, Callable[[str], Value]] = {
    JOINED: _moment,
    EMAIL: _address,
    BALANCE: _bigint,
    USAGE: _bigint,
}


@dataclass(frozen=True)
class Listed:
    """One account in the list; `month_tokens` are the tokens it used in the last 30 days."""

    user_id: int
    email: str
    key_prefix: str | None
    available_tokens: int
    trial_tokens: int
    trial_expires_at: datetime | None
    month_tokens: int
    created_at: datetime
    closed: bool
    suspended: bool


@dataclass(frozen=True)
class _Section:
    """Part of an order: the table it reads, and the value and account id it is sorted by.

    With a `constant`, all rows have this value, and the ids decide.
    """

    source: str
    value: str
    key: str
    only: str | None = None
    constant: int | None = None


_NOTHING_USED = _Section(
    "users u",
    "CAST(0 AS bigint)",
    "u.id",
    only="NOT EXISTS (SELECT FROM account_activity a WHERE a.user_id = u.id AND a.tokens > 0)",
    constant=0,
)
_SECTIONS: dict[str, tuple[_Section, ...]] = {
    JOINED: (_Section("users u", "u.created_at", "u.id"),),
    EMAIL: (_Section("users u", "u.email", "u.id"),),
    BALANCE: (_Section("balances b", AVAILABLE, "b.user_id"),),
    # Accounts without usage have no row of activity, or one with 0 tokens.
    USAGE: (
        _NOTHING_USED,
        _Section("account_activity a", "a.tokens", "a.user_id", only="a.tokens > 0"),
    ),
}

_SHOWN = text(f"""
SELECT u.id, u.email, u.key_prefix, {AVAILABLE},
       CASE WHEN b.trial_expires_at > now() THEN b.trial_tokens ELSE b.held_trial END,
       b.trial_expires_at, coalesce(a.tokens, 0), u.created_at, u.closed_at IS NOT NULL,
       u.suspended_at IS NOT NULL
FROM users u JOIN balances b ON b.user_id = u.id
LEFT JOIN account_activity a ON a.user_id = u.id
WHERE u.id = ANY(:ids)
""")  # noqa: S608 - a constant of this module


def page(
    *,
    part: str = "",
    order: str = JOINED,
    descending: bool = True,
    at: Cursor = START,
    limit: int = PAGE_SIZE,
) -> Page[Listed]:
    """Return a page of accounts in an order; the keys of its cursors are places.

    `part` limits the list to addresses that contain it, ignoring case.
    """

    def fetch(start: Cursor, count: int) -> list[Place]:
        return _places(part, order, descending != start.backwards, start.key, count)

    found = read_page(fetch, lambda place: place, limit, at)
    accounts = _shown([place.user_id for place in found.rows])
    return Page(accounts, found.previous, found.next)


def addresses(user_ids: Iterable[int]) -> dict[int, str]:
    """Return the email addresses of accounts that exist, by their ids."""
    query = select(User.id, User.email).where(User.id.in_(list(user_ids)))
    return {row.id: row.email for row in db.session.execute(query)}


def _places(
    part: str, order: str, descending: bool, place: Place | None, limit: int
) -> list[Place]:
    found: list[Place] = []
    sections = _SECTIONS[order]
    for section in reversed(sections) if descending else sections:
        if len(found) < limit:
            statement, parameters = _statement(section, part, descending, place)
            parameters["limit"] = limit - len(found)
            rows = db.session.execute(text(statement), parameters)
            found.extend(Place(row[0], row[1]) for row in rows)
    return found


def _statement(
    section: _Section, part: str, descending: bool, place: Place | None
) -> tuple[str, dict[str, Any]]:
    conditions = [] if section.only is None else [section.only]
    parameters: dict[str, Any] = {}
    if part:
        matches = f"{section.key} IN (SELECT u.id FROM users u WHERE {_MATCHES})"  # noqa: S608
        conditions.append(_MATCHES if section.source == "users u" else matches)
        parameters["part"] = f"%{_escaped(part)}%"
    if place is not None:
        comparison = "<" if descending else ">"
        if section.constant is None:
            place_of_row = f"({section.value}, {section.key})"
            conditions.append(f"{place_of_row} {comparison} (:value, :user_id)")
        elif section.constant == place.value:
            conditions.append(f"{section.key} {comparison} :user_id")
        elif (section.constant < int(str(place.value))) != descending:
            conditions.append("false")
        parameters |= {"value": place.value, "user_id": place.user_id}
    direction = "DESC" if descending else "ASC"
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    # Built from this module's constants only; user input is passed as parameters.
    statement = (
        f"SELECT {section.value}, {section.key} FROM {section.source}{where}"  # noqa: S608
        f" ORDER BY {section.value} {direction}, {section.key} {direction} LIMIT :limit"
    )
    return statement, parameters


def _shown(ids: list[int]) -> list[Listed]:
    found = {row[0]: Listed(*row) for row in db.session.execute(_SHOWN, {"ids": ids})}
    # Skip accounts that were deleted between the two queries.
    return [found[user_id] for user_id in ids if user_id in found]


def _escaped(part: str) -> str:
    for character in "!%_":
        part = part.replace(character, f"!{character}")
    return part
