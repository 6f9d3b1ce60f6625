"""Forms for the limits of a key, on the dashboard and in the panel."""

from typing import Any

from flask import Request

from promptly import labels
from promptly.errors import InvalidRequest
from promptly.models.states import CapPeriod
from promptly.services.accounts import key_changes, key_limit_fields
from promptly.services.accounts.key_limits import KeyLimits

LABELS = {
    "name": "Name",
    "scope": "Scope",
    "expires": "Expires",
    "cap": "Cap in tokens",
    "per": "Cap is for",
    "models": "Models",
    "addresses": "Addresses",
    "concurrency": "Requests at a time",
}


def entered(request: Request) -> dict[str, str]:
    """Return the fields of the form that the request has."""
    values = request.values
    return {name: values[name] for name in key_changes.FIELDS if name in values}


def in_form(limits: KeyLimits | None, typed: dict[str, str] | None = None) -> dict[str, Any]:
    """Return what a form for limits shows: those of a key, or what was typed into it."""
    shown = {} if limits is None else key_limit_fields.as_entered(limits)
    return {
        "limit_values": shown | (typed or {}),
        "limit_periods": [(str(period), PERIODS[period]) for period in CapPeriod],
        "scopes": labels.SCOPES,
    }


def plain(problem: InvalidRequest) -> str:
    """Return an error in the words of a form, whose label names the field already."""
    return problem.message.replace(f"'{problem.param}'", "This")


PERIODS = {
    CapPeriod.DAY: "a day (UTC)",
    CapPeriod.WEEK: "a week (from Monday, UTC)",
    CapPeriod.MONTH: "a month (UTC)",
    CapPeriod.EVER: "all time",
}
