"""GET /v1/usage: daily totals, totals by key, model, endpoint and outcome, or one receipt."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from flask import Response, jsonify, request

from promptly.blueprints.v1 import in_flask
from promptly.clock import utcnow
from promptly.errors import InvalidRequest, NotFound
from promptly.models import ApiKey
from promptly.runtime.database import API
from promptly.services.accounts import keys
from promptly.services.usage import breakdowns, rollups
from promptly.services.usage.breakdowns import GROUPS, Group
from promptly.transactions import use_pool

DEFAULT_DAYS = 30
MAX_DAYS = 366
# Date arithmetic beyond these years overflows in Python or PostgreSQL.
YEARS = range(2000, 3000)


def show_usage() -> Response:
    """Return totals between two UTC days, or the receipt of one request."""
    use_pool(API)
    user_id = in_flask.caller().user_id
    request_id = request.args.get("request_id")
    if request_id is not None:
        return jsonify(rollups.receipt(user_id, request_id))
    start, end = _days()
    if request.args.keys().isdisjoint({"group_by", "key", "model"}):
        return jsonify(object="list", data=rollups.daily(user_id, start, end))
    return jsonify(object="list", data=_grouped(user_id, start, end))


def _grouped(user_id: int, start: date, end: date) -> list[dict[str, Any]]:
    groups = _groups()
    wanted = request.args.get("key")
    known = [] if wanted is None and "key" not in groups else keys.list_all(user_id)
    rows = breakdowns.grouped(
        user_id,
        start,
        end,
        by=groups,
        key_ids=None if wanted is None else _ids(known, wanted),
        model=request.args.get("model"),
    )
    by_id = {key.id: key for key in known}
    return [_described(row, groups, by_id) for row in rows]


def _described(
    row: dict[str, Any], groups: Sequence[Group], keys_by_id: dict[int, ApiKey]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for group in groups:
        if group == "day":
            found["date"] = row["day"].isoformat()
        elif group == "key":
            key = keys_by_id.get(row["key_id"])
            found["key"] = None if key is None else {"name": key.name, "prefix": key.prefix}
        else:
            found[group] = row[group]
    return found | {name: row[name] for name in breakdowns.TOTALS}


def _groups() -> list[Group]:
    """Return the chosen groups, several times given or separated by commas; by default, days."""
    given = request.args.getlist("group_by") or ["day"]
    names = {name.strip() for part in given for name in part.split(",")}
    if not names <= set(GROUPS):
        raise InvalidRequest(
            f"'group_by' must be one or more of {', '.join(GROUPS)}.", param="group_by"
        )
    return [group for group in GROUPS if group in names]


def _ids(known: Sequence[ApiKey], wanted: str) -> list[int]:
    """Return the ids of the keys with this name or prefix; raise NotFound if there is none.

    The message does not repeat it: somebody may send a whole key.
    """
    found = [key.id for key in known if wanted in {key.name, key.prefix}]
    if not found:
        raise NotFound("This account has no key of that name or prefix.", param="key")
    return found


def _days() -> tuple[date, date]:
    end = _day("end", utcnow().date())
    start = _day("start", end - timedelta(days=DEFAULT_DAYS - 1))
    if start > end:
        raise InvalidRequest("'start' must not be after 'end'.", param="start")
    if (end - start).days >= MAX_DAYS:
        raise InvalidRequest(f"At most {MAX_DAYS} days at a time.", param="start")
    return start, end


def _day(name: str, default: date) -> date:
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
