"""The dashboard: balance, usage, requests, packs, purchases, keys, sessions, email alerts."""

from datetime import date, datetime, timedelta
from typing import Any

from flask import Response, g, make_response, render_template, request

from promptly import cap_periods
from promptly.blueprints import key_limits as forms
from promptly.blueprints.charts import Chart, Series, every_day, stacked
from promptly.blueprints.site.landing import example_model
from promptly.clock import utcnow
from promptly.models import ApiKey
from promptly.services.accounts import accounts, key_activity, key_limits, keys, sessions
from promptly.services.ledger import balances
from promptly.services.mail import alerts
from promptly.services.payments import customer_view, offers
from promptly.services.usage import receipts, rollups
from promptly.settings import current_settings

CHART_DAYS = 30
RECENT_REQUESTS = 10
RECENT_PURCHASES = 5
PERIODS = (("Today", 1), ("7 days", 7), ("30 days", CHART_DAYS))
# Suggested in the form while the low-balance alert is off.
SUGGESTED_TOKENS = 50_000

_TOTALS = (
    "requests",
    "prompt_tokens",
    "cached_prompt_tokens",
    "completion_tokens",
    "charged_tokens",
)


def dashboard() -> Response:
    """Show the dashboard of the account whose key the session or the URL carries."""
    return page()


def page(*, status: int = 200, **entered: Any) -> Response:
    """Render the dashboard, with the input and errors of its forms.

    `entered`: `threshold` and `threshold_error`; `key_name`, `key_error`, `key_scope`, `key_batch`
    and `scope_error`; `limit_wrong` and `limit_message`, and what `key_limits.in_form` returns;
    `amount` and `amount_error`.
    """
    key: ApiKey = g.key
    settings = current_settings()
    now = utcnow()
    today = now.date()
    start = today - timedelta(days=CHART_DAYS - 1)
    user = accounts.find(user_id=key.user_id)
    balance = balances.read(key.user_id)
    choice = alerts.choice_of(user, settings)
    bought = customer_view.history(key.user_id, RECENT_PURCHASES)
    days = every_day(rollups.daily(key.user_id, start, today), start, today, _TOTALS)
    recent = receipts.history(key.user_id, RECENT_REQUESTS)
    values: dict[str, Any] = {
        "email": user.email,
        "balance": balance,
        "trial_left": remaining(balance["trial_expires_at"], now),
        "offers": offers.offers(settings),
        "custom_offer": offers.custom_offer(settings),
        "purchases": bought.rows,
        "more_purchases": bought.next is not None,
        "periods": [(name, totals(days[-number:])) for name, number in PERIODS],
        "chart": daily_chart(days),
        "receipts": recent.rows,
        "more_receipts": recent.next is not None,
        "keys": keys.list_active(key.user_id),
        "last_used": key_activity.last_used(key.user_id),
        **forms.in_form(None),
        "key_limits": key_limits.of_keys(key.user_id),
        "per": cap_periods.LABELS,
        "limit_wrong": None,
        "limit_message": None,
        "own_key_id": key.id,
        "most_keys": keys.MOST_KEYS,
        "longest_name": keys.LONGEST_NAME,
        "sessions": sessions.list_open(key.user_id),
        "own_session_id": g.session_id,
        "base_url": settings.base_url,
        "model": example_model(),
        "choice": choice,
        "warns": bool(choice.low_balance_tokens) or "threshold" in entered,
        "threshold": f"{choice.low_balance_tokens or SUGGESTED_TOKENS:,}",
        "wants_security_notice": user.security_notice,
        "saved": request.args.get("saved"),
    }
    return make_response(render_template("dashboard/index.html", **values | entered), status)


def daily_chart(days: list[dict[str, Any]]) -> Chart:
    """Chart the prompt and completion tokens of each day."""
    return stacked(
        [date.fromisoformat(row["date"]) for row in days],
        [
            Series("first", "Prompt", [row["prompt_tokens"] for row in days]),
            Series("second", "Completion", [row["completion_tokens"] for row in days]),
        ],
    )


def totals(days: list[dict[str, Any]]) -> dict[str, int]:
    return {name: sum(row[name] for row in days) for name in _TOTALS}


def remaining(expires_at: str | None, now: datetime) -> str | None:
    """Return how long a trial still lasts, in words; None without a trial.

    Rounded to the nearest unit, so that a new trial of seven days shows seven.
    """
    if expires_at is None:
        return None
    seconds = (datetime.fromisoformat(expires_at) - now).total_seconds()
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        # Below two of a unit, the next smaller unit is used.
        if seconds >= 2 * size or (unit == "minute" and seconds >= size):
            number = round(seconds / size)
            return f"{number} {unit}{'' if number == 1 else 's'} left"
    return "ending now"
