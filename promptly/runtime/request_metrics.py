"""Metrics of requests to /v1, summed over all workers of a gateway.

The first three families are those of OpenTelemetry's GenAI conventions for servers, with the
recommended bounds. Every label has a fixed set of values: nothing that a client wrote becomes one.
"""

from collections.abc import Iterator

from promptly.errors import Limit, PromptlyError
from promptly.runtime.shared_metrics import Families, Histogram

families = Families()

OPERATION = "gen_ai_operation_name"
# By the endpoint that is recorded in usage events.
_OPERATIONS = {
    "chat.completions": "chat",
    "messages": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}
_NAMES = sorted(set(_OPERATIONS.values()))

# Why a metered request failed: outcomes, and the codes of errors that are told apart.
ERROR_TYPES = (
    "upstream_error",
    "upstream_unavailable",
    "queue_full",
    "timeout",
    "shutdown",
    "service_unavailable",
    "rejected",
    "account_deleted",
    "account_suspended",
    "internal_error",
)
NO_ERROR = ""

_durations = families.histograms_by(
    "gen_ai_server_request_duration_seconds",
    "Time from a request's hold to the end of its answer, its wait for a slot included.",
    (OPERATION, "error_type"),
    [(name, error_type) for name in _NAMES for error_type in (NO_ERROR, *ERROR_TYPES)],
    (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
)
_first_tokens = families.histograms_by(
    "gen_ai_server_time_to_first_token_seconds",
    "Time from a request's hold to its first token, its wait for a slot included.",
    (OPERATION,),
    [(name,) for name in _NAMES],
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
)
_later_tokens = families.histograms_by(
    "gen_ai_server_time_per_output_token_seconds",
    "Average time between the tokens of a complete answer, after the first.",
    (OPERATION,),
    [(name,) for name in _NAMES],
    (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5),
)

_tokens = families.counters(
    "promptly_tokens_total",
    "Tokens of ended requests: input, the part of it that model servers had cached, and output.",
    "type",
    ("input", "cached", "output"),
)
_input, _cached, _output = _tokens.values()

# The classes of requests that share the slots (gateway/slots/requests.py).
CLASSES = ("paying", "trial", "batch")

_waits = families.histograms_by(
    "promptly_queue_wait_seconds",
    "Time that requests waited for a model server's slot, whether they got one or not.",
    ("class",),
    [(name,) for name in CLASSES],
    (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)
queue_waits = {name: _waits[(name,)] for name in CLASSES}
displaced = families.counters(
    "promptly_queue_displaced_total",
    "Requests that a full queue turned away, or sent away while they waited.",
    "class",
    CLASSES,
)
HIT, MISS, NOT_ASKED = "hit", "miss", "none"
_grants = families.counters(
    "promptly_slots_granted_total",
    "Slots given to requests: hit if the slot has the beginning of the prompt cached, miss if not, "
    "none where caches are not known or not used.",
    "cache",
    (HIT, MISS, NOT_ASKED),
)
streams_open = families.gauge(
    "promptly_streams_open", "Streamed answers of which the client has got a part but not the end."
)
settlements_waiting = families.gauge(
    "promptly_settlements_waiting", "Ended requests whose charge waits for PostgreSQL."
)

OTHER = "other"


def _codes(kind: type[PromptlyError]) -> Iterator[str]:
    if kind.code is not None:
        yield kind.code
    for narrower in kind.__subclasses__():
        yield from _codes(narrower)


_refused = families.counters(
    "promptly_requests_refused_total",
    "Requests to /v1 that were answered with an error, by its code.",
    "code",
    sorted({*_codes(PromptlyError), "method_not_allowed", "model_not_found", OTHER}),
)
_limits_hit = families.counters(
    "promptly_limits_hit_total",
    "Requests, and for the limit `connections` connections, that met a limit.",
    "limit",
    sorted(Limit),
)


def count_refusal(problem: PromptlyError) -> None:
    """Count a request to /v1 that is answered with this error."""
    _refused.get(problem.code or OTHER, _refused[OTHER]).add()


def count_grant(cache: str) -> None:
    """Count a slot that was given to a request: HIT, MISS or NOT_ASKED."""
    _grants[cache].add()


def count_limit(limit: Limit) -> None:
    """Count a limit that was met."""
    _limits_hit[limit].add()


class Operation:
    """The measurements of one kind of metered requests."""

    __slots__ = ("_durations", "_first_token", "_later_tokens")

    def __init__(self, name: str) -> None:
        self._durations: dict[str, Histogram] = {
            error_type: _durations[name, error_type] for error_type in (NO_ERROR, *ERROR_TYPES)
        }
        self._first_token = _first_tokens[(name,)]
        self._later_tokens = _later_tokens[(name,)]

    def record(
        self,
        *,
        error_type: str,
        seconds: float,
        first_token_seconds: float | None,
        token_seconds: float | None,
        tokens: tuple[int, int, int],
    ) -> None:
        """Record an ended request; `tokens` are its input, cached and output tokens.

        `first_token_seconds` and the average `token_seconds` are None if there are none.
        """
        self._durations[error_type].observe(seconds)
        if first_token_seconds is not None:
            self._first_token.observe(first_token_seconds)
        if token_seconds is not None:
            self._later_tokens.observe(token_seconds)
        _input.add(tokens[0])
        _output.add(tokens[2])
        if tokens[1]:
            _cached.add(tokens[1])


operations = {endpoint: Operation(name) for endpoint, name in _OPERATIONS.items()}
