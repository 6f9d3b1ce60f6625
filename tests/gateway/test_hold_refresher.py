"""Background work for running requests: checkpoints, hold adjustments, time limits."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from promptly.gateway import hold_refresher as module
from promptly.gateway.chunks import ChunkReader
from promptly.gateway.hold_refresher import HoldRefresher
from promptly.gateway.in_flight import InFlightRequest
from promptly.gateway.running_hold import RunningHold
from promptly.models.states import Outcome
from promptly.services import account_deletion
from promptly.services.accounts import account_limits
from promptly.services.audit import Operator
from promptly.settings import Settings, current_settings
from promptly.transactions import transaction
from tests.gateway.conftest import Cuttable
from tests.support.books import wait_for


class RequestRefresher(HoldRefresher):
    """A hold refresher that also creates its requests."""

    def __init__(self, cuttable: Cuttable, settings: Settings) -> None:
        super().__init__(settings, cuttable.database)
        self.cuttable = cuttable

    def request(self, held: int = 200, prompt: int = 0, completion: int = 0) -> InFlightRequest:
        hold = self.cuttable.meter.place(self.cuttable.account, held)
        reader = ChunkReader(include_usage=False)
        reader.prompt_size = reader.prompt_tokens = prompt
        reader.completion_tokens = completion
        running = RunningHold(hold, self._settings, self.request_adjustment, max_tokens=None)
        running.start(reader)
        in_flight = InFlightRequest(running)
        self.add(in_flight)
        return in_flight

    def adjust(self, in_flight: InFlightRequest, target_tokens: int) -> None:
        in_flight.hold._adjust(target_tokens)

    def noted(self, in_flight: InFlightRequest) -> tuple[int, int]:
        row = self.cuttable.meter.hold_row(in_flight.request_id)
        assert row is not None
        return row["prompt_tokens"], row["completion_tokens"]


@pytest.fixture
def refresher(cuttable: Cuttable, monkeypatch: pytest.MonkeyPatch) -> Iterator[RequestRefresher]:
    monkeypatch.setattr(module, "TICK_SECONDS", 0.1)
    settings: Settings = cuttable.app.extensions["settings"]
    made = RequestRefresher(cuttable, replace(settings, request_timeout_seconds=100))
    yield made
    for in_flight in list(made._in_flight.values()):
        in_flight.hold.settled = True
        made.remove(in_flight)


def test_counts_are_checkpointed(refresher: RequestRefresher) -> None:
    requests = [refresher.request(prompt=10 * n, completion=n) for n in range(1, 4)]
    wait_for(
        lambda: [refresher.noted(x) for x in requests] == [(10, 1), (20, 2), (30, 3)], "counts"
    )
    requests[0].hold.counts.completion_tokens = 50
    wait_for(lambda: refresher.noted(requests[0]) == (10, 50), "the newer count")


def test_requests_of_an_account_that_is_being_deleted_end(refresher: RequestRefresher) -> None:
    in_flight = refresher.request(prompt=10)
    wait_for(lambda: refresher.noted(in_flight) == (10, 0), "a checkpoint")
    assert in_flight.stop_reason is None
    with refresher.cuttable.meter.books.app.app_context(), transaction():
        account_deletion.close(refresher.cuttable.account.user_id, current_settings())
    wait_for(lambda: in_flight.stop_reason == "account_deleted", "the end")


def test_requests_of_a_suspended_account_end(refresher: RequestRefresher) -> None:
    in_flight = refresher.request(prompt=10)
    with refresher.cuttable.meter.books.app.app_context(), transaction():
        account_limits.suspend(refresher.cuttable.account.user_id, operator=Operator("cli:test"))
    wait_for(lambda: in_flight.stop_reason == "account_suspended", "the end")


def test_a_settled_request_is_left_alone(refresher: RequestRefresher) -> None:
    settled, running = refresher.request(prompt=10), refresher.request(prompt=20)
    settled.hold.settled = True
    wait_for(lambda: refresher.noted(running) == (20, 0), "the other's checkpoint")
    assert refresher.noted(settled) == (0, 0)
    assert len(refresher) == 2
    refresher.remove(settled)
    refresher.remove(settled)
    assert len(refresher) == 1


def test_checkpoints_go_on_after_postgres_was_away(
    refresher: RequestRefresher, caplog: pytest.LogCaptureFixture
) -> None:
    in_flight = refresher.request(prompt=10)
    wait_for(lambda: refresher.noted(in_flight) == (10, 0), "a checkpoint")
    refresher.cuttable.proxy.shut()
    in_flight.hold.counts.completion_tokens = 7
    wait_for(lambda: "checkpoint put off" in caplog.text, "a checkpoint that fails")
    assert refresher.noted(in_flight) == (10, 0)
    refresher.cuttable.proxy.open()
    wait_for(lambda: refresher.noted(in_flight) == (10, 7), "the checkpoint that was put off")
    assert in_flight.stop_reason is None


def test_an_adjustment_is_executed(refresher: RequestRefresher) -> None:
    in_flight = refresher.request(held=200, prompt=100)
    refresher.adjust(in_flight, 500)
    assert in_flight.hold.adjusted.wait(10)
    assert (in_flight.hold.held_tokens, in_flight.hold.can_grow, in_flight.hold.target_tokens) == (
        500,
        True,
        None,
    )
    assert in_flight.hold.counts.limit == 400
    refresher.adjust(in_flight, 150)
    assert in_flight.hold.adjusted.wait(10)
    assert (in_flight.hold.held_tokens, in_flight.hold.counts.limit) == (150, 50)


def test_an_adjustment_beyond_the_balance(refresher: RequestRefresher) -> None:
    in_flight = refresher.request(held=200, prompt=100)
    refresher.adjust(in_flight, 50_000)
    assert in_flight.hold.adjusted.wait(10)
    assert (in_flight.hold.held_tokens, in_flight.hold.can_grow) == (10_000, False)
    assert in_flight.hold.counts.limit == 9_900


def test_an_adjustment_of_a_settled_hold(refresher: RequestRefresher) -> None:
    in_flight = refresher.request(held=200, prompt=100)
    refresher.cuttable.meter.settle(refresher.cuttable.account, in_flight.request_id, 1)
    refresher.adjust(in_flight, 500)
    assert in_flight.hold.adjusted.wait(10)
    assert (in_flight.hold.held_tokens, in_flight.hold.can_grow) == (200, False)


def test_an_adjustment_waits_for_postgres(refresher: RequestRefresher) -> None:
    in_flight = refresher.request(held=200, prompt=100)
    refresher.cuttable.proxy.shut()
    refresher.adjust(in_flight, 500)
    assert not in_flight.hold.adjusted.wait(0.5)
    assert in_flight.stop_reason is None
    refresher.cuttable.proxy.open()
    assert in_flight.hold.adjusted.wait(10)
    assert in_flight.hold.held_tokens == 500


def test_an_overdue_request_is_stopped(refresher: RequestRefresher) -> None:
    in_flight, other = refresher.request(), refresher.request()
    in_flight.started_at -= 1000
    wait_for(lambda: in_flight.stop_reason == "timeout", "the end")
    assert other.stop_reason is None


def test_all_are_stopped_for_one_reason(refresher: RequestRefresher) -> None:
    first, second = refresher.request(), refresher.request()
    first.stop(Outcome.CLIENT_DISCONNECTED)
    refresher.stop_all(Outcome.SHUTDOWN)
    assert (first.stop_reason, second.stop_reason) == ("client_disconnected", "shutdown")
