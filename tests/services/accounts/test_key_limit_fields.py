"""Limits of a key as text: parsed, refused with the field's name, written as they are parsed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from promptly.clock import utcnow
from promptly.errors import InvalidRequest
from promptly.models.states import CapPeriod
from promptly.services.accounts import key_limit_fields as fields
from promptly.services.accounts.key_limits import KeyLimits

NONE = KeyLimits(None, None, None, None, None, None)
CAPPED = KeyLimits(None, None, None, None, 500, CapPeriod.WEEK)


@pytest.mark.parametrize(
    ("entered", "expected"),
    [
        ({}, {}),
        ({"cap": "1,000_000", "per": "day"}, {"cap_tokens": 1_000_000, "cap_period": "day"}),
        ({"cap": " none ", "per": "day"}, {"cap_tokens": None, "cap_period": None}),
        ({"concurrency": "4"}, {"concurrent_requests": 4}),
        ({"concurrency": ""}, {"concurrent_requests": None}),
        ({"models": "a, b c,,a"}, {"allowed_models": ["a", "b", "c"]}),
        ({"models": "all"}, {"allowed_models": None}),
        (
            {"addresses": "192.0.2.1, 2001:db8::/32 10.0.0.0/8"},
            {"allowed_addresses": ["192.0.2.1/32", "2001:db8::/32", "10.0.0.0/8"]},
        ),
        ({"addresses": " , "}, {"allowed_addresses": None}),
        # The last day is one on which the key works.
        ({"expires": "2999-12-31"}, {"expires_at": datetime(3000, 1, 1, tzinfo=UTC)}),
        (
            {"expires": "2999-12-31T18:00+02:00"},
            {"expires_at": datetime(2999, 12, 31, 16, tzinfo=UTC)},
        ),
        ({"expires": "never"}, {"expires_at": None}),
    ],
)
def test_what_is_entered(entered: dict[str, str], expected: dict[str, Any]) -> None:
    assert fields.parse(entered) == expected


def test_a_cap_without_a_period_keeps_the_present_one() -> None:
    assert fields.parse({"cap": "9"}, CAPPED) == {"cap_tokens": 9, "cap_period": CapPeriod.WEEK}
    assert fields.parse({"per": "ever"}, CAPPED) == {
        "cap_tokens": 500,
        "cap_period": CapPeriod.EVER,
    }
    assert fields.parse({"per": "day"}, NONE) == {"cap_tokens": None, "cap_period": None}


@pytest.mark.parametrize(
    ("entered", "param", "message"),
    [
        ({"cap": "0", "per": "day"}, "cap", "from 1 to"),
        ({"cap": "1e6", "per": "day"}, "cap", "whole number"),
        ({"cap": "5"}, "per", "day, week, month, ever"),
        ({"cap": "5", "per": "year"}, "per", "one of"),
        ({"concurrency": "10001"}, "concurrency", "10,000"),
        ({"models": " ".join(map(str, range(21)))}, "models", "20 entries"),
        ({"models": "a\x00b"}, "models", "not one"),
        ({"addresses": "192.0.2.7/24"}, "addresses", r"Do you mean 192\.0\.2\.0/24\?"),
        ({"addresses": "example.com"}, "addresses", "neither an address nor a network"),
        ({"expires": "tomorrow"}, "expires", "must be a date"),
        ({"expires": "2026-02-30"}, "expires", "must be a date"),
        ({"expires": "2001-01-01"}, "expires", "in the past"),
        ({"expires": "9999-12-31"}, "expires", "must be a date"),
    ],
)
def test_what_is_refused(entered: dict[str, str], param: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as refusal:
        fields.parse(entered)
    assert refusal.value.param == param


@pytest.mark.parametrize(
    "limits",
    [
        NONE,
        KeyLimits(
            datetime(2999, 1, 1, tzinfo=UTC), ["a", "b"], ["10.0.0.0/8"], 3, 7, CapPeriod.DAY
        ),
        KeyLimits(datetime(2999, 1, 1, 8, 30, tzinfo=UTC), None, None, None, 7, CapPeriod.EVER),
        KeyLimits(datetime(2999, 1, 1, 8, 30, 5, tzinfo=UTC), None, None, None, None, None),
        # Saving the form of an expired key changes only what was typed.
        KeyLimits(datetime(2001, 1, 1, tzinfo=UTC), None, None, None, None, None),
    ],
)
def test_a_form_that_is_sent_back_changes_nothing(limits: KeyLimits) -> None:
    assert limits.settings() | dict(fields.parse(fields.as_entered(limits), limits)) == (
        limits.settings()
    )


def test_a_moment_ago_is_the_past() -> None:
    with pytest.raises(InvalidRequest):
        fields.expiry((utcnow() - timedelta(seconds=2)).isoformat())
