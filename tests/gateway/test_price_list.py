"""The prices in memory: read again, kept while PostgreSQL is away, put in force at a start."""

import pytest

from promptly.errors import ServiceUnavailable
from promptly.gateway import refreshed as module
from promptly.gateway.price_list import REFRESH_SECONDS, STALE_SECONDS, PriceList
from promptly.prices import DEFAULT, Price, parse_prices
from tests.gateway.conftest import Cuttable
from tests.support.books import wait_for

WANTED = "*:150:25:333,small:10:1:30"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def make(cuttable: Cuttable, prices: str = WANTED) -> PriceList:
    return PriceList(cuttable.app, cuttable.database, parse_prices(prices))


def test_a_process_takes_the_prices_from_the_database(cuttable: Cuttable, clock: Clock) -> None:
    running = make(cuttable)
    # It was not told to put its own in force: that is for a gateway that starts.
    assert running.of("small") == running.of("other") == DEFAULT
    assert running.of("other").id == DEFAULT.id
    make(cuttable).put_in_force()
    assert running.of("small") == DEFAULT
    clock.now += REFRESH_SECONDS
    running.of("small")
    wait_for(lambda: running.of("small") == Price(10, 1, 30), "the new price")
    assert running.of("other") == Price(150, 25, 333)
    assert running.of("other").id > 1


def test_after_a_pause_the_first_request_has_the_new_price(
    cuttable: Cuttable, clock: Clock
) -> None:
    running = make(cuttable)
    assert running.of("small") == DEFAULT
    make(cuttable).put_in_force()
    clock.now += STALE_SECONDS
    assert running.of("small") == Price(10, 1, 30)


def test_a_price_that_came_back_is_a_version_of_its_own(cuttable: Cuttable, clock: Clock) -> None:
    make(cuttable).put_in_force()
    running = make(cuttable)
    before = running.of("small")
    for prices in ("*:1:1:1", WANTED):
        make(cuttable, prices).put_in_force()
    clock.now += STALE_SECONDS
    after = running.of("small")
    assert after == before
    assert after.id > before.id


def test_the_last_known_prices_stay_while_postgresql_is_away(
    cuttable: Cuttable, clock: Clock
) -> None:
    running = make(cuttable)
    running.put_in_force()
    cuttable.proxy.shut()
    for _ in range(3):
        clock.now += STALE_SECONDS
        assert running.of("small") == Price(10, 1, 30)


def test_prices_are_put_in_force_once_postgresql_is_back(cuttable: Cuttable, clock: Clock) -> None:
    cuttable.proxy.shut()
    starting = make(cuttable)
    starting.put_in_force()
    with pytest.raises(ServiceUnavailable):
        starting.of("small")
    # Pages show the setting meanwhile.
    assert starting.shown("small") == Price(10, 1, 30)
    assert starting.shown("other") == Price(150, 25, 333)
    cuttable.proxy.open()
    clock.now += 1
    assert starting.of("small") == Price(10, 1, 30)
    assert starting.of("small").id > 1
