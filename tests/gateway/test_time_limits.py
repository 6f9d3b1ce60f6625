"""The limit that a request has exceeded, and its error message."""

import time
from typing import Any

import pytest

from promptly.gateway.in_flight import InFlightRequest
from promptly.gateway.running_hold import RunningHold
from promptly.gateway.time_limits import overdue, timeout_error
from promptly.prices import DEFAULT
from promptly.request_ids import new_request_id
from promptly.services.metering import Hold
from tests.support.servers import make_settings

# Stands for an open stream.
STREAM = object()
LONG = 1000


def request(now: float, state: dict[str, Any]) -> InFlightRequest:
    placed = Hold(new_request_id(), held_tokens=200, has_all=False, price=DEFAULT, terms={})
    hold = RunningHold(placed, make_settings(), lambda _: None, max_tokens=None)
    hold.counts.completion_tokens = state.get("completion", 0)
    in_flight = InFlightRequest(hold)
    in_flight.started_at = in_flight.touched_at = now
    in_flight.stream = state.get("stream")
    in_flight.writing_since = now if state.get("writing") else None
    return in_flight


@pytest.mark.parametrize(
    ("limit", "state", "outcome", "message"),
    [
        ("request_timeout_seconds", {}, "timeout", "longer than 5 s"),
        (
            "upstream_first_byte_timeout_seconds",
            {"stream": STREAM},
            "timeout",
            "did not begin its answer within 5 s",
        ),
        (
            "upstream_idle_timeout_seconds",
            {"stream": STREAM, "completion": 5},
            "timeout",
            "stopped sending for 5 s",
        ),
        ("upstream_idle_timeout_seconds", {"writing": True}, "client_disconnected", None),
        # Neither of upstream's limits applies in the queue.
        ("upstream_first_byte_timeout_seconds", {}, None, None),
        # Before the first token the longer limit applies.
        ("upstream_idle_timeout_seconds", {"stream": STREAM}, None, None),
        ("upstream_first_byte_timeout_seconds", {"stream": STREAM, "completion": 5}, None, None),
    ],
)
def test_time_limits(
    limit: str, state: dict[str, Any], outcome: str | None, message: str | None
) -> None:
    limits = {
        "request_timeout_seconds": LONG,
        "upstream_first_byte_timeout_seconds": LONG,
        "upstream_idle_timeout_seconds": LONG,
    }
    settings = make_settings(**{**limits, limit: 5})
    now = time.monotonic()
    in_flight = request(now, state)
    assert overdue(in_flight, now + 4, settings) is None
    assert overdue(in_flight, now + 6, settings) == outcome
    if message is not None:
        error = timeout_error(in_flight, now + 6, settings)
        assert message in error.message
        assert (error.status, error.headers()) == (504, {"x-should-retry": "false"})
