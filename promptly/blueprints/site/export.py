"""GET /dashboard/usage.csv: the account's statement, streamed while it is read."""

import csv
import io
from collections.abc import Iterator
from datetime import date

from flask import Response, g, request, stream_with_context

from promptly.blueprints.site.limits import EXPORTS
from promptly.errors import InvalidRequest
from promptly.extensions import limiter
from promptly.models import ApiKey
from promptly.services.usage import account_statements
from promptly.services.usage.account_statements import Line, Statement

COLUMNS = (
    "time", "kind", "paid_change", "trial_change", "change", "balance",
    "request_id", "endpoint", "model", "outcome",
    "prompt_tokens", "completion_tokens", "uncharged_tokens",
    "time_to_first_token_ms", "duration_ms", "key", "reference",
    # New columns come last, so that older ones keep their numbers.
    "cached_prompt_tokens", "price",
)  # fmt: skip
DETAILS = COLUMNS[6:]
# First characters that make a spreadsheet treat text as a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
LINES_A_PIECE = 500
YEARS = range(2000, 3000)


def statement() -> Response:
    """Return the whole statement, or that of `?start=&end=`: days in UTC, both included."""
    key: ApiKey = g.key
    user_id = key.user_id
    start, end = _day("start"), _day("end")
    if start is not None and end is not None and start > end:
        raise InvalidRequest("'start' must not be after 'end'.", param="start")
    with limiter.shared_limit(EXPORTS, scope="export", key_func=lambda: str(user_id)):
        found = account_statements.of(user_id, start, end)
    response = Response(stream_with_context(_written(found)), mimetype="text/csv")
    name = f"promptly-usage-{found.end:%Y-%m-%d}.csv"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _written(found: Statement) -> Iterator[bytes]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for number, line in enumerate(found.lines(), 1):
        writer.writerow(_cells(line))
        if number % LINES_A_PIECE == 0:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()


def _cells(line: Line) -> list[str | int]:
    return [
        f"{line.created_at:%Y-%m-%dT%H:%M:%S.%f}Z",
        line.kind,
        line.paid_delta,
        line.trial_delta,
        line.paid_delta + line.trial_delta,
        line.balance_tokens,
        *(_cell(line.details.get(name)) for name in DETAILS),
    ]


def _cell(value: str | int | None) -> str | int:
    """Quote text that a spreadsheet would run as a formula; keep numbers."""
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return "" if value is None else value


def _day(name: str) -> date | None:
    given = request.args.get(name)
    if not given:
        return None
    try:
        found = date.fromisoformat(given)
    except ValueError:
        found = date.min
    if found.year not in YEARS:
        raise InvalidRequest(f"'{name}' must be a date in the form YYYY-MM-DD.", param=name)
    return found
