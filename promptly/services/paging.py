"""Keyset pagination of long lists: the thousandth page is as fast as the first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute

from promptly.extensions import db

T = TypeVar("T")


@dataclass(frozen=True)
class Cursor:
    """Start of a page: right before or right after the row of an id, or at the newest row."""

    before_id: int | None = None
    after_id: int | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is the start of the list."""
        return self.before_id is None and self.after_id is None


NEWEST = Cursor()


@dataclass(frozen=True)
class Page(Generic[T]):
    """Rows, newest first, and the cursors of the adjacent pages, if they exist."""

    rows: list[T]
    newer: Cursor | None = None
    older: Cursor | None = None


def newest_first(
    query: Select[*tuple[Any, ...]], key: InstrumentedAttribute[int], limit: int, at: Cursor
) -> Page[Any]:
    """Return a page of a query of models with this ascending key, or of tuples led by one.

    `query` must have no order of its own. Without an id in `at`, or if fewer than `limit` rows are
    newer than `after_id`, the page starts at the newest row.
    """
    if at.after_id is not None:
        rows = _fetch(query.where(key > at.after_id).order_by(key), limit + 1)
        if len(rows) < limit:
            # Fewer rows than a page are newer: return the newest page, whole.
            return newest_first(query, key, limit, NEWEST)
        newer = len(rows) > limit
        rows = rows[:limit][::-1]
        return _page(rows, key, newer=newer, older=True)
    if at.before_id is not None:
        query = query.where(key < at.before_id)
    rows = _fetch(query.order_by(key.desc()), limit + 1)
    return _page(rows[:limit], key, newer=at.before_id is not None, older=len(rows) > limit)


def _fetch(query: Select[*tuple[Any, ...]], limit: int) -> list[Any]:
    found: Sequence[Any] = db.session.execute(query.limit(limit)).all()
    return [row[0] if len(row) == 1 else tuple(row) for row in found]


def _page(
    rows: list[Any], key: InstrumentedAttribute[int], *, newer: bool, older: bool
) -> Page[Any]:
    def id_of(row: Any) -> int:
        found: int = getattr(row[0] if isinstance(row, tuple) else row, key.key)
        return found

    return Page(
        rows,
        newer=Cursor(after_id=id_of(rows[0])) if rows and newer else None,
        older=Cursor(before_id=id_of(rows[-1])) if rows and older else None,
    )
