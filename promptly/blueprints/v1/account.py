"""GET /v1/balance and /v1/usage: the account's tokens, and how they were used."""

from datetime import date, timedelta

from flask import Response, jsonify, request

from promptly.blueprints.v1 import guard
from promptly.clock import utcnow
from promptly.errors import InvalidRequest
from promptly.runtime.database import API
from promptly.services.ledger import balances
from promptly.services.usage import rollups
from promptly.transactions import use_pool

DEFAULT_DAYS = 30
MAX_DAYS = 366
# Date arithmetic beyond these years overflows in Python or PostgreSQL.
YEARS = range(2000, 3000)


def show_balance() -> Response:
    """Return the balance, in tokens."""
    use_pool(API)
    return jsonify(balances.read(guard.caller().user_id))


def show_usage() -> Response:
    """Return daily totals between two UTC days, or the receipt of one request."""
    use_pool(API)
    request_id = request.args.get("request_id")
    if request_id is not None:
        return jsonify(rollups.receipt(guard.caller().user_id, request_id))
    today = utcnow().date()
    end = day("end", today)
    start = day("start", end - timedelta(days=DEFAULT_DAYS - 1))
    if start > end:
        raise InvalidRequest("'start' must not be after 'end'.", param="start")
    if (end - start).days >= MAX_DAYS:
        raise InvalidRequest(f"At most {MAX_DAYS} days at a time.", param="start")
    return jsonify(object="list", data=rollups.daily(guard.caller().user_id, start, end))


def day(name: str, default: date) -> date:
    """Parse a query argument in the form YYYY-MM-DD; raise InvalidRequest."""
    text = request.args.get(name)
    if text is None:
        return default
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            f"'{name}' must be a date in the form YYYY-MM-DD.", param=name
        ) from None
    if found.year not in YEARS:
        raise InvalidRequest(
            f"'{name}' must be between {YEARS[0]}-01-01 and {YEARS[-1]}-12-31.", param=name
        )
    return found
