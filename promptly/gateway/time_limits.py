"""Time limits of a request: to its first token, between tokens, in total.

The wait for a slot is limited in `metered_request`, connecting in the client. The limit to the
first token is long, because prompts of 250,000 tokens take minutes; time in the queue does not
count towards it.
"""

from promptly.errors import UpstreamTimeout
from promptly.gateway.in_flight import InFlightRequest
from promptly.models.states import Outcome
from promptly.settings import Settings


def overdue(in_flight: InFlightRequest, now: float, settings: Settings) -> Outcome | None:
    """Return the outcome that a request has to end with at `now` (monotonic seconds), if any."""
    if now - in_flight.started_at > settings.request_timeout_seconds:
        return Outcome.TIMEOUT
    if in_flight.writing_since is not None:
        # The client has stopped reading; it holds a slot that others wait for.
        late = now - in_flight.writing_since > settings.upstream_idle_timeout_seconds
        return Outcome.CLIENT_DISCONNECTED if late else None
    if in_flight.stream is None:
        return None
    silent = now - in_flight.touched_at
    if in_flight.hold.counts.completion_tokens:
        return Outcome.TIMEOUT if silent > settings.upstream_idle_timeout_seconds else None
    return Outcome.TIMEOUT if silent > _first_byte_seconds(in_flight, settings) else None


def timeout_error(in_flight: InFlightRequest, now: float, settings: Settings) -> UpstreamTimeout:
    """Return the client's error for a request that ended with the outcome `timeout`."""
    if now - in_flight.started_at > settings.request_timeout_seconds:
        return UpstreamTimeout(
            f"The request took longer than {settings.request_timeout_seconds} s, the limit of "
            "this service. Set a lower limit on the output tokens."
        )
    if in_flight.hold.counts.completion_tokens:
        return UpstreamTimeout(
            "The model server stopped sending for "
            f"{settings.upstream_idle_timeout_seconds} s in the middle of its answer."
        )
    return UpstreamTimeout(
        "The model server did not begin its answer within "
        f"{_first_byte_seconds(in_flight, settings)} s. A shorter prompt starts sooner."
    )


def _first_byte_seconds(in_flight: InFlightRequest, settings: Settings) -> int:
    return in_flight.first_byte_seconds or settings.upstream_first_byte_timeout_seconds
