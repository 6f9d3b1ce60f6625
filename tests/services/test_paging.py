from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from promptly.models import OutboxMail
from promptly.services.paging import START, Columns, Cursor, Page, newest_first, oldest_first
from tests.support import factories

LIMIT = 3


def page(at: Cursor = START) -> Page[OutboxMail]:
    return newest_first(select(OutboxMail), OutboxMail.id, LIMIT, at)


def ids(found: Page[OutboxMail]) -> list[int]:
    return [mail.id for mail in found.rows]


@pytest.mark.parametrize("number", range(11))
@pytest.mark.parametrize("key", [OutboxMail.id, (OutboxMail.attempts, OutboxMail.id)])
@pytest.mark.parametrize("read", [newest_first, oldest_first])
def test_every_row_once_there_and_back(
    session: Session, number: int, key: Columns, read: Any
) -> None:
    for _ in range(number):
        factories.mail()
    if key is not OutboxMail.id:
        # Pages end within and between rows of equal values.
        session.execute(update(OutboxMail).values(attempts=OutboxMail.id % 3))
    expected = sorted((mail.attempts, mail.id) for mail in session.scalars(select(OutboxMail)))
    if read is newest_first:
        expected.reverse()
    pages = [read(select(OutboxMail), key, LIMIT, START)]
    while (at := pages[-1].next) is not None:
        pages.append(read(select(OutboxMail), key, LIMIT, at))
    assert [(mail.attempts, mail.id) for found in pages for mail in found.rows] == expected
    assert all(found.rows for found in pages) or number == 0
    assert all(len(found.rows) == LIMIT for found in pages[:-1])
    assert pages[0].previous is None
    for earlier, later in pairwise(pages):
        assert later.previous is not None
        assert read(select(OutboxMail), key, LIMIT, later.previous) == earlier


def test_less_than_a_page_of_newer_rows_is_the_newest_page(session: Session) -> None:
    made = [factories.mail().id for _ in range(5)]
    found = page(Cursor(made[-2], backwards=True))
    assert ids(found) == made[:1:-1] and found.previous is None and found.next is not None
    assert ids(page(Cursor(made[-1], backwards=True))) == made[:1:-1]


def test_rows_that_came_meanwhile_change_no_older_page(session: Session) -> None:
    made = [factories.mail().id for _ in range(5)]
    first = page()
    factories.mail()
    assert first.next is not None
    assert ids(page(first.next)) == [made[1], made[0]]


def test_beyond_the_end_there_is_nothing(session: Session) -> None:
    made = [factories.mail().id for _ in range(2)]
    found = page(Cursor(made[0]))
    assert found.rows == [] and found.previous is None and found.next is None
    assert ids(page(Cursor(2**62))) == made[::-1]


def test_rows_may_be_tuples(session: Session) -> None:
    mail = factories.mail()
    query = select(OutboxMail, OutboxMail.kind)
    assert newest_first(query, OutboxMail.id, 1, START).rows == [(mail, "new_key")]


def test_rows_may_be_mapped(session: Session) -> None:
    made = [factories.mail().id for _ in range(4)]
    found = page().map(lambda mail: mail.id)
    assert found == Page(made[:0:-1], previous=None, next=Cursor(made[1]))
