"""Adds an ended request to the metrics (runtime/request_metrics.py)."""

from promptly.gateway.in_flight import InFlightRequest
from promptly.models.states import Outcome
from promptly.runtime.request_metrics import ERROR_TYPES, NO_ERROR, operations
from promptly.services.metering import Settlement

# The others are failures.
_FINE = (
    Outcome.COMPLETED,
    Outcome.BALANCE_EXHAUSTED,
    Outcome.KEY_LIMIT_REACHED,
    Outcome.CLIENT_DISCONNECTED,
)


def record(
    settlement: Settlement,
    in_flight: InFlightRequest,
    *,
    error_code: str | None,
    answers: int,
) -> None:
    """Record a request, once, when it is about to be settled.

    `error_code` is that of the error with which it ended; `answers` is their number, one after the
    other.
    """
    first = settlement.time_to_first_token_ms
    first_token_seconds = token_seconds = None
    if first is not None:
        first_token_seconds = first / 1000
        later_tokens = settlement.completion_tokens - 1
        if later_tokens > 0 and answers == 1 and settlement.outcome == Outcome.COMPLETED:
            # Upstream's last bytes came with the last token, or right after it.
            last_token_seconds = in_flight.touched_at - in_flight.started_at
            token_seconds = max(last_token_seconds - first_token_seconds, 0.0) / later_tokens
    operations[settlement.endpoint].record(
        error_type=_error_type(settlement.outcome, error_code),
        seconds=settlement.duration_ms / 1000,
        first_token_seconds=first_token_seconds,
        token_seconds=token_seconds,
        tokens=(
            settlement.prompt_tokens,
            settlement.cached_prompt_tokens,
            settlement.completion_tokens,
        ),
    )


def _error_type(outcome: str, code: str | None) -> str:
    if outcome in _FINE:
        return NO_ERROR
    return code if code in ERROR_TYPES else outcome
