import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from promptly.models import OutboxMail
from promptly.services.paging import NEWEST, Cursor, Page, newest_first
from tests.support import factories

LIMIT = 3


def page(at: Cursor = NEWEST) -> Page[OutboxMail]:
    return newest_first(select(OutboxMail), OutboxMail.id, LIMIT, at)


def ids(found: Page[OutboxMail]) -> list[int]:
    return [mail.id for mail in found.rows]


@pytest.mark.parametrize("number", range(11))
def test_every_row_once_there_and_back(session: Session, number: int) -> None:
    made = [factories.mail().id for _ in range(number)]
    newest_to_oldest = made[::-1]
    seen, pages, at = [], [], NEWEST
    while True:
        found = page(at)
        pages.append(ids(found))
        seen += ids(found)
        if found.older is None:
            break
        at = found.older
    assert seen == newest_to_oldest
    assert all(pages) or number == 0
    assert all(len(rows) == LIMIT for rows in pages[:-1])
    back = [pages[-1]]
    while (newer := found.newer) is not None:
        found = page(newer)
        back.append(ids(found))
    assert back == pages[::-1]


def test_less_than_a_page_of_newer_rows_is_the_newest_page(session: Session) -> None:
    made = [factories.mail().id for _ in range(5)]
    found = page(Cursor(after_id=made[-2]))
    assert ids(found) == made[:1:-1] and found.newer is None and found.older is not None
    assert ids(page(Cursor(after_id=made[-1]))) == made[:1:-1]


def test_rows_that_came_meanwhile_change_no_older_page(session: Session) -> None:
    made = [factories.mail().id for _ in range(5)]
    first = page()
    factories.mail()
    assert first.older is not None
    assert ids(page(first.older)) == [made[1], made[0]]


def test_beyond_the_end_there_is_nothing(session: Session) -> None:
    made = [factories.mail().id for _ in range(2)]
    found = page(Cursor(before_id=made[0]))
    assert found.rows == [] and found.newer is None and found.older is None
    assert ids(page(Cursor(before_id=2**62))) == made[::-1]


def test_rows_may_be_tuples(session: Session) -> None:
    mail = factories.mail()
    query = select(OutboxMail, OutboxMail.kind)
    assert newest_first(query, OutboxMail.id, 1, NEWEST).rows == [(mail, "new_key")]
