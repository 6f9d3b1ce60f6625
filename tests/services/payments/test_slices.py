"""Long lists are read in slices, oldest first, and a run goes on where the last one stopped."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from promptly.services.payments import slices

EARLY, LATE = datetime.fromtimestamp(1000, UTC), datetime.fromtimestamp(9000, UTC)


class Shelf:
    """A provider's list of moments, newest first."""

    def __init__(self, moments: list[int]) -> None:
        self.moments = sorted(moments, reverse=True)
        self.calls = 0

    def fetch(self, since: int, until: int, most: int) -> list[int]:
        self.calls += 1
        return [item for item in self.moments if since <= item < until][:most]


@given(st.lists(st.integers(0, 5000), max_size=200), st.integers(0, 3000))
def test_everything_is_read_once_and_in_order(moments: list[int], since: int) -> None:
    shelf = Shelf(moments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "MOST_IN_SLICE", 8)
        found = list(slices.slices(shelf.fetch, since, 5001))
    assert [item for _, items in found for item in items] == sorted(
        item for item in moments if item >= since
    )
    ends = [end for end, _ in found]
    assert ends == sorted(set(ends)) and ends[-1] == 5001


def test_a_quiet_time_is_one_call() -> None:
    shelf = Shelf(list(range(0, 10_000, 100)))
    assert len(list(slices.slices(shelf.fetch, 0, 10**7))) == shelf.calls == 1


def test_where_the_next_run_begins(session: Session) -> None:
    assert slices.start("a", EARLY, LATE, 60) == 1000
    slices.advance("a", 4000)
    slices.advance("b", 5)
    assert slices.start("a", EARLY, LATE, 60) == 4000, "where the last one stopped"
    slices.finish("a", 8000)
    assert slices.start("a", EARLY, LATE, 60) == 7940, "with an overlap, once it has ended"
    assert slices.start("a", EARLY, EARLY, 60) == 1000
    assert slices.start("b", EARLY, LATE, 60) == 5
