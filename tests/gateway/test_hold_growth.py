"""How a hold follows its request, and where output ends meanwhile."""

from collections.abc import Iterator

import pytest

from promptly.errors import ServiceUnavailable
from promptly.gateway.chunks import ChunkReader
from promptly.gateway.hold_growth import HoldGrowth
from promptly.gateway.hold_refresher import HoldRefresher
from promptly.gateway.in_flight import InFlightRequest
from promptly.settings import Settings
from tests.gateway.conftest import Cuttable
from tests.support.books import wait_for


class Request:
    """A running request of which upstream has just begun the answer."""

    def __init__(self, cuttable: Cuttable, settings: Settings, *, held: int, prompt: int) -> None:
        self.meter = cuttable.meter
        hold = self.meter.place(cuttable.account, held)
        self.reader = ChunkReader(include_usage=False)
        self.reader.prompt_size = self.reader.prompt_tokens = prompt
        self.reader.completion_tokens = 1
        self.in_flight = InFlightRequest(hold.request_id, self.reader, hold.held_tokens, None)
        self.in_flight.hold = hold
        self.hold_refresher = HoldRefresher(settings, cuttable.database)
        self.hold_refresher.add(self.in_flight)
        self.growth = HoldGrowth(settings, self.hold_refresher, self.in_flight, self.reader)

    def held(self) -> int:
        row = self.meter.hold_row(self.in_flight.request_id)
        assert row is not None
        return int(row["held_trial"] + row["held_paid"])


@pytest.fixture
def request_made(cuttable: Cuttable) -> Iterator[Request]:
    settings: Settings = cuttable.app.extensions["settings"]
    made = Request(cuttable, settings, held=5_000, prompt=100)
    yield made
    made.hold_refresher.remove(made.in_flight)


def test_what_is_given_up_is_not_used_before_postgres_answers(
    cuttable: Cuttable, request_made: Request
) -> None:
    cuttable.proxy.shut()
    request_made.growth.keep_ahead()
    # The prompt, the token so far and a quantum are kept; nothing beyond is spent from here on.
    quantum = cuttable.app.extensions["settings"].hold_quantum_tokens
    assert request_made.reader.limit == 1 + quantum
    assert request_made.held() == 5_000
    cuttable.proxy.open()
    assert request_made.in_flight.adjusted.wait(10)
    assert request_made.held() == request_made.in_flight.held_tokens == 101 + quantum
    assert request_made.reader.limit == 1 + quantum


def test_a_hold_that_somebody_ended_is_not_spent_further(
    cuttable: Cuttable, request_made: Request
) -> None:
    reader, in_flight = request_made.reader, request_made.in_flight
    request_made.growth.keep_ahead()
    wait_for(in_flight.adjusted.is_set, "the smaller hold")
    request_made.meter.settle(cuttable.account, in_flight.request_id, 101)
    reader.limit_reached = True
    reader.completion_tokens = reader.limit or 0
    with pytest.raises(ServiceUnavailable):
        list(request_made.growth.grow())


def test_what_later_parts_will_cost_is_not_spent_on_an_earlier_one(
    cuttable: Cuttable, request_made: Request
) -> None:
    in_flight, reader = request_made.in_flight, request_made.reader
    quantum = cuttable.app.extensions["settings"].hold_quantum_tokens
    in_flight.reserved_tokens, in_flight.subrequests_left = 900, 3
    request_made.growth.keep_ahead()
    assert in_flight.adjusted.wait(10)
    # The later ones', the prompt, the token so far and a quantum.
    assert request_made.held() == 900 + 101 + quantum
    assert reader.limit == 1 + quantum
    in_flight.max_tokens = 10
    assert in_flight.whole_cost(100) == 900 + 100 + 3 * 10


def test_the_next_part_begins_with_what_is_left(request_made: Request) -> None:
    in_flight = request_made.in_flight
    request_made.reader.completion_tokens = 50
    second = ChunkReader(include_usage=False)
    in_flight.attention_at = 7
    in_flight.begin_subrequest(second, 150)
    assert in_flight.counts() == (in_flight.request_id, 100, 50)
    assert (in_flight.attention_at, in_flight.reserved_tokens, in_flight.reader) == (0, 150, second)
    second.prompt_size = second.prompt_tokens = 30
    second.completion_tokens = 5
    assert in_flight.counts() == (in_flight.request_id, 130, 55)
    in_flight.set_limits(16)
    assert second.limit == 5_000 - 150 - 30


@pytest.mark.parametrize(
    ("least", "wanted", "covered", "held"),
    [(4_000, 6_000, True, 5_000), (6_000, 7_000, True, 7_000), (10_001, 12_000, False, 10_000)],
    ids=["it is held", "more is held", "there is no more"],
)
def test_a_part_begins_when_it_is_covered(
    request_made: Request, least: int, wanted: int, covered: bool, held: int
) -> None:
    answers = []

    def wait() -> Iterator[bytes]:
        answers.append((yield from request_made.growth.cover(least, wanted)))

    assert list(wait()) == []
    assert answers == [covered]
    assert request_made.held() == request_made.in_flight.held_tokens == held


def test_a_part_whose_hold_somebody_ended_does_not_begin(
    cuttable: Cuttable, request_made: Request
) -> None:
    request_made.meter.settle(cuttable.account, request_made.in_flight.request_id, 101)
    with pytest.raises(ServiceUnavailable):
        list(request_made.growth.cover(6_000, 7_000))
