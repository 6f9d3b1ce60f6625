"""Keyset pagination of long lists: the thousandth page is as fast as the first."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from promptly.extensions import db

# Rows of a page: of most lists, of an account's purchases, and the most that a command prints.
PAGE_SIZE = 50
SHORT_PAGE_SIZE = 25
LARGEST_PAGE_SIZE = 10_000

Row = TypeVar("Row")
Other = TypeVar("Other")
_Column = InstrumentedAttribute[Any]
Columns = _Column | tuple[_Column, ...]


@dataclass(frozen=True)
class Cursor:
    """Start of a page: right after the row with a key, or backwards, right before it.

    A key is a row's value in the column that orders the list, or its values if there are several.
    Without a key the page starts with the list.
    """

    key: Any = None
    backwards: bool = False


START = Cursor()


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Rows in the list's order, and the cursors of the adjacent pages, if they exist."""

    rows: list[Row]
    previous: Cursor | None = None
    next: Cursor | None = None

    def map(self, function: Callable[[Row], Other]) -> "Page[Other]":
        """Return the page with the function's result in each row's place."""
        return Page([function(row) for row in self.rows], self.previous, self.next)


def newest_first(
    query: Select[*tuple[Any, ...]], key: Columns, limit: int, at: Cursor
) -> Page[Any]:
    """Return a page of a query of models, or of tuples led by one, with the largest keys first.

    `query` must have no order of its own.
    """
    return _ordered_page(query, key, limit, at, descending=True)


def oldest_first(
    query: Select[*tuple[Any, ...]], key: Columns, limit: int, at: Cursor
) -> Page[Any]:
    """As `newest_first`, with the smallest keys first."""
    return _ordered_page(query, key, limit, at, descending=False)


def read_page(
    fetch: Callable[[Cursor, int], list[Row]],
    key_of: Callable[[Row], Any],
    limit: int,
    at: Cursor,
) -> Page[Row]:
    """Return a page of a list that `fetch` reads: from a cursor on, up to so many rows.

    `fetch` returns the nearest row first, so backwards the rows are in reverse order. If fewer
    than `limit` rows come before the cursor, the page starts with the list.
    """
    rows = fetch(at, limit + 1)
    if at.backwards and len(rows) < limit:
        return read_page(fetch, key_of, limit, START)
    more = len(rows) > limit
    rows = rows[:limit]
    # The page that the reader came from exists.
    has_previous, has_next = at.key is not None, more
    if at.backwards:
        rows.reverse()
        has_previous, has_next = more, True
    return Page(
        rows,
        previous=Cursor(key_of(rows[0]), backwards=True) if rows and has_previous else None,
        next=Cursor(key_of(rows[-1])) if rows and has_next else None,
    )


def _ordered_page(
    query: Select[*tuple[Any, ...]],
    key: Columns,
    limit: int,
    at: Cursor,
    *,
    descending: bool,
) -> Page[Any]:
    columns = key if isinstance(key, tuple) else (key,)

    def fetch(start: Cursor, count: int) -> list[Any]:
        down = descending != start.backwards
        part = query if start.key is None else query.where(*_beyond(columns, start.key, down=down))
        part = part.order_by(*(column.desc() if down else column for column in columns))
        found = db.session.execute(part.limit(count)).all()
        return [row[0] if len(row) == 1 else tuple(row) for row in found]

    def key_of(row: Any) -> Any:
        model = row[0] if isinstance(row, tuple) else row
        values = tuple(getattr(model, column.key) for column in columns)
        return values if isinstance(key, tuple) else values[0]

    return read_page(fetch, key_of, limit, at)


def _beyond(columns: tuple[_Column, ...], key: Any, *, down: bool) -> list[ColumnElement[bool]]:
    """Return the conditions of the rows that come after a key."""
    first = columns[0]
    if len(columns) == 1:
        return [first < key if down else first > key]
    return [
        # An index and partitions serve the first condition; the second splits equal values.
        first <= key[0] if down else first >= key[0],
        tuple_(*columns) < key if down else tuple_(*columns) > key,
    ]
