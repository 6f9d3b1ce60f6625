"""How a hold follows its request, and where the request's output ends."""

from collections.abc import Generator, Iterator
from typing import TypeVar

import pytest

from promptly.errors import ServiceUnavailable
from promptly.gateway.chunks import ChunkReader
from promptly.gateway.counts import MOST_TOKENS
from promptly.gateway.hold_refresher import HoldRefresher
from promptly.gateway.in_flight import InFlightRequest
from promptly.gateway.running_hold import NEVER, RunningHold
from promptly.prices import DEFAULT, Price
from promptly.request_ids import new_request_id
from promptly.services import metering
from promptly.settings import Settings
from tests.gateway.conftest import Cuttable
from tests.support.books import wait_for
from tests.support.servers import make_settings

T = TypeVar("T")


class Request:
    """A running request whose answer upstream has just started."""

    def __init__(self, cuttable: Cuttable, settings: Settings, *, held: int, prompt: int) -> None:
        self.meter = cuttable.meter
        self.refresher = HoldRefresher(settings, cuttable.database)
        placed = self.meter.place(cuttable.account, held)
        self.hold = RunningHold(
            placed, settings, self.refresher.request_adjustment, max_tokens=None
        )
        self.reader = ChunkReader(include_usage=False, output_limit=self.hold.output_limit)
        self.reader.prompt_size = self.reader.prompt_tokens = prompt
        self.reader.completion_tokens = 1
        self.hold.start(self.reader)
        self.in_flight = InFlightRequest(self.hold)
        self.refresher.add(self.in_flight)

    def held(self) -> int:
        row = self.meter.hold_row(self.in_flight.request_id)
        assert row is not None
        return int(row["held_trial"] + row["held_paid"])


@pytest.fixture
def running(cuttable: Cuttable) -> Iterator[Request]:
    settings: Settings = cuttable.app.extensions["settings"]
    made = Request(cuttable, settings, held=5_000, prompt=100)
    yield made
    made.hold.settled = True
    made.refresher.remove(made.in_flight)


def drained(generator: Generator[bytes, None, T]) -> T:
    """The result of a generator that yields nothing for the client."""
    while True:
        try:
            assert next(generator) == b": keep-alive\n\n"
        except StopIteration as end:
            value: T = end.value
            return value


def test_freed_tokens_are_not_spent_before_postgres_answers(
    cuttable: Cuttable, running: Request
) -> None:
    cuttable.proxy.shut()
    running.hold.keep_ahead()
    # The prompt, the token so far and a quantum are kept; nothing beyond is spent from here on.
    quantum = cuttable.app.extensions["settings"].hold_quantum_tokens
    assert running.reader.limit == 1 + quantum
    assert running.held() == 5_000
    cuttable.proxy.open()
    assert running.hold.adjusted.wait(10)
    assert running.held() == running.hold.held_tokens == 101 + quantum
    assert running.reader.limit == 1 + quantum


def test_a_hold_ended_by_another_process_is_not_spent_further(
    cuttable: Cuttable, running: Request
) -> None:
    running.hold.keep_ahead()
    wait_for(running.hold.adjusted.is_set, "the smaller hold")
    running.meter.settle(cuttable.account, running.in_flight.request_id, 101)
    running.reader.completion_tokens = running.reader.limit or 0
    with pytest.raises(ServiceUnavailable):
        drained(running.hold.grow(running.in_flight))


def test_a_used_up_hold_grows_by_a_quantum(cuttable: Cuttable, running: Request) -> None:
    quantum = cuttable.app.extensions["settings"].hold_quantum_tokens
    running.hold.keep_ahead()
    assert running.hold.adjusted.wait(10)
    running.reader.completion_tokens = 1 + quantum
    assert drained(running.hold.grow(running.in_flight)) is True
    assert running.held() == running.hold.held_tokens == 101 + 2 * quantum
    assert running.reader.limit == 1 + 2 * quantum


def test_the_cost_of_later_subrequests_is_not_spent_on_an_earlier_one(
    cuttable: Cuttable, running: Request
) -> None:
    hold = running.hold
    quantum = cuttable.app.extensions["settings"].hold_quantum_tokens
    hold.reserved_hundredths, hold.subrequests_left = 90_000, 3
    hold.keep_ahead()
    assert hold.adjusted.wait(10)
    # The later ones' cost, the prompt, the token so far and a quantum.
    assert running.held() == 900 + 101 + quantum
    assert running.reader.limit == 1 + quantum


def test_a_hold_never_grows_beyond_the_whole_cost(running: Request) -> None:
    hold = running.hold
    hold.reserved_hundredths, hold.subrequests_left = 400_000, 3
    hold.max_tokens = 10
    hold.held_tokens = 4_105
    hold.keep_ahead()
    assert running.reader.limit == 5
    hold.keep_ahead()
    assert hold.target_tokens == 4_000 + 100 + 3 * 10


def test_the_next_subrequest_starts_with_the_rest(running: Request) -> None:
    hold = running.hold
    running.reader.completion_tokens = 50
    running.reader.cached_tokens = 80
    second = ChunkReader(include_usage=False, output_limit=hold.output_limit)
    hold.next_check_at = 7
    hold.start_next(second, 15_000)
    assert hold.total_counts() == (hold.request_id, 100, 80, 50)
    assert (hold.next_check_at, hold.reserved_hundredths, hold.counts) == (0, 15_000, second)
    second.prompt_size = second.prompt_tokens = 30
    second.completion_tokens = 5
    second.cached_tokens = 20
    assert hold.total_counts() == (hold.request_id, 130, 100, 55)
    assert hold.total_counts(with_prompt=False) == (hold.request_id, 100, 80, 55)
    hold.update_limit()
    assert second.limit == 5_000 - 150 - 30


def test_cached_tokens_are_at_most_the_prompt_that_the_database_stores(running: Request) -> None:
    running.reader.prompt_tokens = running.reader.cached_tokens = MOST_TOKENS
    second = ChunkReader(include_usage=False)
    running.hold.start_next(second, 0)
    second.prompt_tokens = second.cached_tokens = 7
    counts = running.hold.total_counts()
    assert (counts.prompt_tokens, counts.cached_prompt_tokens) == (MOST_TOKENS, MOST_TOKENS)


@pytest.mark.parametrize(
    ("least", "wanted", "covered", "held"),
    [(4_000, 6_000, True, 5_000), (6_000, 7_000, True, 7_000), (10_001, 12_000, False, 10_000)],
    ids=["it is held", "more is held", "there is no more"],
)
def test_a_subrequest_starts_when_it_is_covered(
    running: Request, least: int, wanted: int, covered: bool, held: int
) -> None:
    assert drained(running.hold.cover(running.in_flight, least, wanted)) is covered
    assert running.held() == running.hold.held_tokens == held


def test_a_subrequest_without_its_hold_does_not_start(cuttable: Cuttable, running: Request) -> None:
    running.meter.settle(cuttable.account, running.in_flight.request_id, 101)
    with pytest.raises(ServiceUnavailable):
        drained(running.hold.cover(running.in_flight, 6_000, 7_000))


def hold_of(
    held: int, *, has_all: bool = False, max_tokens: int | None = None, price: Price = DEFAULT
) -> RunningHold:
    placed = metering.Hold(
        new_request_id(), held_tokens=held, has_all=has_all, price=price, terms={}
    )
    return RunningHold(placed, make_settings(), lambda _: None, max_tokens=max_tokens)


@pytest.mark.parametrize(
    ("max_tokens", "limit"), [(None, 400), (1_000, 400), (400, None), (10, None)]
)
def test_output_ends_where_the_hold_does_unless_upstream_stops_before(
    max_tokens: int | None, limit: int | None
) -> None:
    hold = hold_of(500, max_tokens=max_tokens)
    reader = ChunkReader(include_usage=False, output_limit=hold.output_limit)
    hold.start(reader)
    reader.read(b'data: {"choices":[],"prompt_progress":{"total":100,"processed":1}}\n\n')
    assert reader.limit == limit
    hold.update_limit()
    assert reader.limit == limit
    assert (hold.next_check_at == NEVER) is (limit is None)


@pytest.mark.parametrize(
    ("has_all", "prompt_tokens", "max_tokens", "expected"),
    [
        (True, 100, None, 400),
        (True, 100, 1_000, 400),
        (True, 100, 10, 10),
        # Only a counted prompt says what is left for output.
        (True, None, 1_000, 1_000),
        # The balance has more than this hold.
        (False, 100, None, None),
    ],
)
def test_upstream_ends_at_the_last_token_of_the_balance(
    has_all: bool, prompt_tokens: int | None, max_tokens: int | None, expected: int | None
) -> None:
    hold = hold_of(500, has_all=has_all)
    for owns_cache in (False, True):
        limit = hold.limit_output(prompt_tokens, max_tokens, owns_cache=owns_cache)
        assert limit == expected == hold.max_tokens


@pytest.mark.parametrize(
    ("price", "owns_cache", "for_upstream", "cached", "limit"),
    [
        # 500 tokens less 100 of the prompt at 1.5: 350, of which 116 tokens at 3 take 348.
        (Price(150, 50, 300), False, 116, 0, None),
        # At best all of the prompt is cached; 60 of it are, and leave 410.
        (Price(150, 50, 300), True, 150, 60, 136),
        (Price(150, 50, 300), True, 150, 0, 116),
        # Cached tokens that cost more.
        (Price(50, 150, 300), True, 150, 60, 130),
        (Price(100, 0, 1), True, 50_000, 99, 49_900),
        # Free output needs no limit.
        (Price(100, 100, 0), True, None, 60, 2**31 - 1),
    ],
)
def test_output_ends_at_the_last_token_that_the_price_leaves(
    price: Price, owns_cache: bool, for_upstream: int | None, cached: int, limit: int | None
) -> None:
    hold = hold_of(500, has_all=True, price=price)
    reader = ChunkReader(include_usage=False, output_limit=hold.output_limit)
    hold.start(reader)
    assert hold.limit_output(100, None, owns_cache=owns_cache) == for_upstream
    reader.read(
        b'data: {"choices":[],"prompt_progress":{"total":100,"processed":99,"cache":%d}}\n\n'
        % cached
    )
    assert reader.limit == limit
    last = (for_upstream or 0) if limit is None else limit
    if price.output:
        assert price.cost(100, cached, last) <= 500 < price.cost(100, cached, last + 1)


def test_a_quantum_of_output_is_held_at_its_price() -> None:
    hold = hold_of(50_000, price=Price(150, 25, 333))
    quantum = make_settings().hold_quantum_tokens
    hold.counts.prompt_size = hold.counts.prompt_tokens = 101
    hold.counts.cached_tokens = 40
    hold.counts.completion_tokens = 7
    hold.shrink()
    assert hold.target_tokens == hold.held_tokens
    assert hold.target_tokens == -(-(61 * 150 + 40 * 25 + (7 + quantum) * 333) // 100)
    hold.on_adjusted(metering.MovedHold(hold.held_tokens, stopped_by_key=False))
    assert hold.counts.limit == 7 + quantum
    hold.counts.completion_tokens = 7 + quantum
    hold.keep_ahead()
    assert hold.target_tokens == hold.held_tokens + -(-quantum * 333 // 100)
    # The cost of earlier prompts, and the bound of later ones, is added before it is rounded.
    hold.start_next(hold.counts, reserved_hundredths=49_999 * 100 + 1)
    hold.counts.completion_tokens = hold.counts.prompt_size = hold.counts.cached_tokens = 0
    hold.held_tokens = 50_000 + 3
    hold.update_limit()
    assert hold.counts.limit == 1


def test_tokens_that_turn_out_to_be_cached_leave_more_for_output(running: Request) -> None:
    hold = hold_of(500, has_all=True, price=Price(100, 0, 100))
    hold.start(running.reader)
    hold.can_grow = False
    hold.update_limit()
    assert running.reader.limit == 400
    running.reader.completion_tokens, running.reader.cached_tokens = 400, 70
    assert drained(hold.grow(running.in_flight)) is True
    assert running.reader.limit == 470
