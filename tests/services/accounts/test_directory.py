"""Pages of the account directory; the tests of the panel's user list cover more."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from promptly.models import AccountActivity
from promptly.services.accounts import directory
from promptly.services.accounts.directory import BALANCE, EMAIL, JOINED, ORDERS, USAGE, Place
from tests.support import factories

WHEN = datetime(2026, 11, 1, 12, 30, 15, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    ("order", "place"),
    [
        (JOINED, Place(WHEN, 5)),
        (EMAIL, Place("a~b@example.com", 7)),
        (BALANCE, Place(-3, 1)),
        (USAGE, Place(2**63 - 1, 2**63 - 1)),
    ],
)
def test_a_place_survives_its_link(order: str, place: Place) -> None:
    assert Place.parse(order, str(place)) == place


@pytest.mark.parametrize("written", ["", "~", "1~", "x~y", f"{2**63}~1", f"1~{2**63}", "1e3~1"])
def test_texts_that_are_not_places(written: str) -> None:
    for order in ORDERS:
        parsed = Place.parse(order, written)
        assert parsed is None or order == EMAIL


def test_available_tokens(session: Session) -> None:
    now = datetime.now(UTC)
    rich = factories.user(paid_tokens=100, trial_tokens=50, trial_expires_at=now + timedelta(1))
    factories.hold(rich.id, held_paid=30, held_trial=20)
    poor = factories.user(paid_tokens=90, trial_tokens=50, trial_expires_at=now - timedelta(1))
    session.add(AccountActivity(user_id=poor.id, tokens=7, requests=1))
    session.flush()
    first, second = directory.page(order=BALANCE).rows
    assert (first.user_id, first.available_tokens, first.trial_tokens) == (rich.id, 100, 50)
    assert (second.user_id, second.available_tokens, second.trial_tokens) == (poor.id, 90, 0)
    assert (first.month_tokens, second.month_tokens) == (0, 7)


def test_short_pages(session: Session) -> None:
    ids = [factories.user().id for _ in range(5)]
    whole = directory.page(order=JOINED, descending=False)
    assert [row.user_id for row in whole.rows] == ids
    assert (whole.previous, whole.next) == (None, None)
    middle = directory.page(order=JOINED, descending=False, limit=2)
    assert middle.previous is None and middle.next is not None
    last = directory.page(order=JOINED, descending=False, limit=3, at=middle.next)
    assert [row.user_id for row in last.rows] == ids[2:]
    assert last.next is None and last.previous is not None
    # With less than a page before it, the first page is returned in full.
    back = directory.page(order=JOINED, descending=False, limit=3, at=last.previous)
    assert [row.user_id for row in back.rows] == ids[:3] and back.previous is None
