"""A request that is stopped from outside, while its client may not be reading."""

import uuid
from typing import Any

import pytest

from promptly.gateway import in_flight as module
from promptly.gateway.in_flight import STOPPED_SECONDS, STUCK_SECONDS, InFlightRequest
from promptly.gateway.running_hold import RunningHold
from promptly.models.states import Outcome
from promptly.prices import DEFAULT
from promptly.services.metering import Hold
from tests.support.servers import make_settings


class Clock:
    """Stands in for the module `time`."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def request_(clock: Clock) -> InFlightRequest:
    hold = Hold(uuid.uuid4(), 100, has_all=False, price=DEFAULT, terms={})
    return InFlightRequest(RunningHold(hold, make_settings(), lambda _: None, max_tokens=None))


@pytest.fixture
def hung_up(request_: InFlightRequest) -> list[Any]:
    calls: list[Any] = []
    request_.hang_up = lambda: calls.append(None)
    return calls


def test_a_write_that_takes_long_is_hung_up(
    request_: InFlightRequest, clock: Clock, hung_up: list[Any]
) -> None:
    request_.writing_since = clock.now
    request_.stop(Outcome.SHUTDOWN)
    assert not hung_up
    clock.now += STUCK_SECONDS + 0.1
    request_.stop(Outcome.SHUTDOWN)
    assert hung_up


@pytest.mark.parametrize("settled", [False, True])
def test_a_stopped_request_that_does_not_settle_is_stuck_in_a_write(
    request_: InFlightRequest, clock: Clock, hung_up: list[Any], settled: bool
) -> None:
    request_.stop(Outcome.TIMEOUT)
    request_.hold.settled = settled
    clock.now += STOPPED_SECONDS + 0.1
    request_.stop(Outcome.SHUTDOWN)
    assert bool(hung_up) is not settled
    assert request_.stop_reason is Outcome.TIMEOUT
