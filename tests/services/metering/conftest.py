"""One database for all metering tests; each test creates its own accounts."""

from collections.abc import Iterator

import pytest

from tests.services.metering.meter import Meter
from tests.support.books import Account, BooksReader
from tests.support.databases import Databases


@pytest.fixture(scope="package")
def shared_meter(databases: Databases, template_database: str) -> Iterator[Meter]:
    with databases.temporary(template_database) as url:
        books = BooksReader(url, "redis://127.0.0.1:1/0")
        yield Meter(books)
        books.close()


@pytest.fixture
def meter(shared_meter: Meter) -> Iterator[Meter]:
    """The shared meter, whose books must balance after every test."""
    yield shared_meter
    assert shared_meter.differences() == []


@pytest.fixture
def account(meter: Meter) -> Account:
    """An account with 1,000 paid tokens."""
    return meter.books.account(paid_tokens=1000)


@pytest.fixture
def trial_account(meter: Meter) -> Account:
    """An account with 1,000 paid tokens and a trial of 300."""
    return meter.books.account(paid_tokens=1000, trial_tokens=300)
