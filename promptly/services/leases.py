"""Leases: the right to work on a row while calling a provider or the mail server.

No transaction is open during such a call. So take the lease and commit, make the call, then write
the result in another transaction, only if the lease is still this holder's: once it has expired,
another process may have taken it over. Leases are not renewed, and last longer than any call.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, Update, and_, func, or_, update
from sqlalchemy.orm import InstrumentedAttribute


@dataclass(frozen=True)
class Lease:
    """One holder's lease of one row."""

    row_id: int
    holder: str


def new_holder() -> str:
    """Return an id for the holder of one lease: the attempt, not its process."""
    return uuid.uuid4().hex


class Leases:
    """The leases of one table, by its columns; the statements are for the caller to complete."""

    def __init__(
        self,
        row_id: InstrumentedAttribute[int],
        holder: InstrumentedAttribute[str | None],
        until: InstrumentedAttribute[datetime | None],
        seconds: int,
    ) -> None:
        self._row_id = row_id
        self._holder = holder
        self._until = until
        self._duration = timedelta(seconds=seconds)
        # Values of a row that has no lease.
        self.none: dict[str, None] = {holder.key: None, until.key: None}

    def take(self, row_id: int, holder: str) -> Update:
        """Lease one row, unless it is leased; waits for the row's lock."""
        return self._taken(holder).where(self._row_id == row_id, self._is_free())

    def take_first(self, due: Select[int], holder: str) -> Update:
        """Lease the first row of `due`, ids in order, that is not leased; skips locked rows."""
        free = due.where(self._is_free()).limit(1).with_for_update(skip_locked=True)
        return self._taken(holder).where(self._row_id == free.scalar_subquery())

    def held(self, lease: Lease) -> ColumnElement[bool]:
        """Condition of the lease's row, if the lease was neither released nor taken over."""
        return and_(self._row_id == lease.row_id, self._holder == lease.holder)

    def change(self, lease: Lease) -> Update:
        """Change the lease's row if the lease is still held."""
        return self._update().where(self.held(lease))

    def release(self, lease: Lease) -> Update:
        """Release the lease if it is still held."""
        return self.change(lease).values(self.none)

    def clear(self, row: object) -> None:
        """Remove any lease of a row of the session."""
        for name, value in self.none.items():
            setattr(row, name, value)

    def _is_free(self) -> ColumnElement[bool]:
        return or_(self._until.is_(None), self._until < func.now())

    def _taken(self, holder: str) -> Update:
        return self._update().values(
            {self._holder.key: holder, self._until.key: func.now() + self._duration}
        )

    def _update(self) -> Update:
        return update(self._row_id.class_).execution_options(synchronize_session=False)
