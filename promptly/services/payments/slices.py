"""Read a provider's list in slices of time, oldest first, and remember how far a run came.

The providers list the newest first, and a run can read only so much: cutting off such a list would
leave the oldest unread for ever. So a list is read slice by slice, each small enough to be read
whole, and a run that has to stop leaves a mark from which the next one goes on. Each provider and
list has marks of its own.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import text

from promptly.extensions import db

T = TypeVar("T")
Fetch = Callable[[int, int, int], list[T]]

# The most items of a slice, and of a slice of one second, which cannot be divided.
MOST_IN_SLICE = 500
MOST_IN_SECOND = 10_000

_PLACE = text("SELECT last_run_at FROM sweep_states WHERE name = :name")
_SET_PLACE = text("""
INSERT INTO sweep_states (name, last_run_at) VALUES (:name, :at)
ON CONFLICT (name) DO UPDATE SET last_run_at = excluded.last_run_at
""")
_REMOVE = text("DELETE FROM sweep_states WHERE name = :name")


def slices(fetch: Fetch[T], since: int, until: int) -> Iterator[tuple[int, list[T]]]:
    """Yield the items from `since` to before `until` (Unix seconds), oldest first, in slices.

    Each comes with the end of its time. `fetch(since, until, most)` returns the newest first.
    """
    width = until - since
    while since < until:
        end = min(since + width, until)
        is_second = end - since <= 1
        most = MOST_IN_SECOND if is_second else MOST_IN_SLICE
        found = fetch(since, end, most)
        if len(found) >= most and not is_second:
            width = (end - since) // 2
            continue
        yield end, found[::-1]
        since = end
        if len(found) < most // 4:
            width *= 2


def start(name: str, otherwise: datetime, back: datetime, overlap_seconds: int) -> int:
    """Return where to begin (Unix seconds): where the last run stopped, if it could not finish.

    Otherwise with some overlap where it ended, or earlier at `back`; `otherwise` if none ever ran.
    """
    stopped = db.session.scalar(_PLACE, {"name": _stopped(name)})
    if stopped is not None:
        return int(stopped.timestamp())
    ended = db.session.scalar(_PLACE, {"name": name})
    begin = otherwise.timestamp() if ended is None else ended.timestamp() - overlap_seconds
    return int(min(begin, back.timestamp()))


def advance(name: str, to: int) -> None:
    """Remember that everything before `to` (Unix seconds) was read, for a run that stops there."""
    _set(_stopped(name), to)


def finish(name: str, at: int) -> None:
    """Remember that a run has read everything before `at`."""
    _set(name, at)
    db.session.execute(_REMOVE, {"name": _stopped(name)})


def _stopped(name: str) -> str:
    return f"{name} stopped"


def _set(name: str, at: int) -> None:
    db.session.execute(_SET_PLACE, {"name": name, "at": datetime.fromtimestamp(at, UTC)})
