"""Labels of the metrics about requests: fixed sets, which contain all that occurs."""

import pytest

from promptly.errors import (
    InsufficientQuota,
    InvalidRequest,
    Limit,
    PromptlyError,
    QueueFull,
    RateLimited,
)
from promptly.gateway.slots.requests import ServiceClass
from promptly.models.states import Outcome
from promptly.runtime import request_metrics

FINE = {
    Outcome.COMPLETED,
    Outcome.BALANCE_EXHAUSTED,
    Outcome.KEY_LIMIT_REACHED,
    Outcome.CLIENT_DISCONNECTED,
}
# The sweep's: no process that could count it is left.
BY_RECOVERY = {Outcome.RECOVERED}


def value(name: str, **labels: str) -> float:
    """Return a sample of this process; 0 if it is not shown."""
    for family in request_metrics.families.collect():
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return 0


def test_every_failure_has_an_error_type() -> None:
    failures = set(Outcome) - FINE - BY_RECOVERY
    assert failures <= set(request_metrics.ERROR_TYPES)


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (InsufficientQuota(), "insufficient_quota"),
        (QueueFull(), "queue_full"),
        (PromptlyError(), "other"),
        # Nothing that is not known beforehand becomes a label.
        (InvalidRequest("No.", code="made up"), "other"),
    ],
)
def test_refusals(problem: PromptlyError, code: str) -> None:
    before = value("promptly_requests_refused_total", code=code)
    request_metrics.count_refusal(problem)
    assert value("promptly_requests_refused_total", code=code) == before + 1


def test_classes_are_those_of_the_slots() -> None:
    assert tuple(ServiceClass) == request_metrics.CLASSES
    for name in ServiceClass:
        before = value("promptly_queue_wait_seconds_count", **{"class": name})
        request_metrics.queue_waits[name].observe(0.3)
        assert value("promptly_queue_wait_seconds_count", **{"class": name}) == before + 1


def test_limits() -> None:
    assert QueueFull().limit == Limit.QUEUE
    assert RateLimited().limit is None
    for limit in Limit:
        before = value("promptly_limits_hit_total", limit=limit)
        request_metrics.count_limit(limit)
        assert value("promptly_limits_hit_total", limit=limit) == before + 1
