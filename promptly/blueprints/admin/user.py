"""The page of one account: balance, usage, keys, purchases, ledger and audit log."""

from datetime import timedelta

from flask import render_template

from promptly import cap_periods, labels
from promptly.blueprints.admin import flash_messages, limit_confirmations, pages
from promptly.blueprints.charts import Series, every_day, stacked
from promptly.clock import utcnow
from promptly.services import audit, paging
from promptly.services.accounts import accounts, key_activity, key_limits, keys
from promptly.services.ledger import balances, ledger
from promptly.services.metering import running
from promptly.services.payments import customer_view
from promptly.services.usage import rollups
from promptly.settings import current_settings

CHART_DAYS = 30
RECENT = 10

_FIGURES = (
    "requests",
    "prompt_tokens",
    "cached_prompt_tokens",
    "completion_tokens",
    "charged_tokens",
)


def user(user_id: int) -> str:
    row = accounts.find(user_id=user_id)
    today = utcnow().date()
    start = today - timedelta(days=CHART_DAYS - 1)
    days = every_day(rollups.daily(user_id, start, today), start, today, _FIGURES)
    bought = customer_view.history(user_id, RECENT)
    entries = ledger.page(user_id, RECENT)
    acts = audit.entries(RECENT, user_id=user_id)
    balance = balances.read(user_id)
    return render_template(
        "admin/user.html",
        notice=flash_messages.notice(user_id),
        user=row,
        balance=balance,
        limits=limit_confirmations.LABELS,
        defaults=limit_confirmations.defaults(current_settings(), pays=balance["paid_tokens"] > 0),
        chart=stacked(
            [start + timedelta(days=number) for number in range(CHART_DAYS)],
            [
                Series("first", "prompt", [day["prompt_tokens"] for day in days]),
                Series("second", "completion", [day["completion_tokens"] for day in days]),
            ],
        ),
        totals={name: sum(day[name] for day in days) for name in _FIGURES},
        recent=rollups.recent(user_id, RECENT),
        entries=entries.rows,
        more_entries=entries.next is not None,
        keys=keys.list_active(user_id),
        key_limits=key_limits.of_keys(user_id),
        per=cap_periods.LABELS,
        last_used=key_activity.last_used(user_id),
        scopes=labels.SCOPES,
        purchases=bought.rows,
        more_purchases=bought.next is not None,
        holds=running.of_account(user_id),
        acts=acts.rows,
        more_acts=acts.next is not None,
    )


def user_ledger(user_id: int) -> str:
    """List all ledger entries of an account."""
    page = ledger.page(user_id, paging.PAGE_SIZE, pages.cursor())
    newer, older = pages.links(page)
    return render_template(
        "admin/user_ledger.html",
        user=accounts.find(user_id=user_id),
        entries=page.rows,
        newer=newer,
        older=older,
    )
