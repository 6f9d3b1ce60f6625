"""Errors as answers: JSON in the route's shape below /v1, a page of the design everywhere else.

Views raise; only this module answers for them. Every answer carries `x-request-id`.
"""

import logging
import time

import orjson
import psycopg2
from flask import Flask, Response, g, render_template, request
from flask_limiter.errors import RateLimitExceeded
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from promptly.blueprints import error_shapes
from promptly.blueprints.page_headers import add_page_headers
from promptly.errors import (
    BodyTimeout,
    BodyTooLarge,
    Forbidden,
    InvalidRequest,
    NotFound,
    PromptlyError,
    RateLimited,
    ServiceUnavailable,
    UnknownURL,
)
from promptly.extensions import limiter
from promptly.request_ids import new_request_id, public_id

logger = logging.getLogger(__name__)

TITLES = {
    400: "That did not work",
    401: "Not signed in",
    403: "Not allowed",
    404: "Page not found",
    405: "Not possible here",
    413: "Too large",
    429: "Too many requests",
    500: "Something went wrong",
    503: "Back in a moment",
}

# Our own words for Werkzeug's errors; what is not listed keeps its general description.
_HTTP_ERRORS: dict[int, type[PromptlyError]] = {
    400: InvalidRequest,
    403: Forbidden,
    404: NotFound,
    408: BodyTimeout,
    413: BodyTooLarge,
    429: RateLimited,
    503: ServiceUnavailable,
}


class MethodNotAllowed(InvalidRequest):
    status = 405
    code = "method_not_allowed"
    message = "This method is not allowed here."


def register(app: Flask) -> None:
    """Map the error tree, Werkzeug's errors, a missing PostgreSQL and anything unknown."""
    app.register_error_handler(PromptlyError, answer)
    app.register_error_handler(HTTPException, answer_http_exception)
    # Pages speak SQLAlchemy; these say that PostgreSQL is away, not that a statement is wrong.
    for away in (OperationalError, InterfaceError, PoolTimeout, psycopg2.OperationalError):
        app.register_error_handler(away, answer_database_away)
    app.register_error_handler(Exception, answer_unknown)


def request_id() -> str:
    """The public id of the current request; one is made where the view has made none."""
    if "request_id" not in g:
        g.request_id = public_id(new_request_id())
    known: str = g.request_id
    return known


def answer(problem: PromptlyError) -> Response:
    """The answer to an error that was raised on purpose."""
    # No log line below /v1, which writes one for every request, with its outcome.
    if not error_shapes.is_api(request.path):
        if problem.status >= 500:
            logger.warning("request failed", extra=_log_fields(problem))
        else:
            logger.info("request refused", extra=_log_fields(problem))
    response = _rendered(problem)
    for name, value in problem.headers().items():
        response.headers.setdefault(name, value)
    response.headers["x-request-id"] = request_id()
    return response


def answer_http_exception(problem: HTTPException) -> AnyResponse:
    """The answer to Werkzeug's own errors: unknown URL, wrong method, a body too large."""
    code = problem.code or 500
    if code < 400 or problem.response is not None:
        # A redirect, or an answer that somebody has already built.
        return problem.get_response(request.environ)
    response = answer(_translated(problem, code))
    for name, value in problem.get_headers():
        if name.lower() in {"allow", "retry-after"}:
            response.headers[name] = value
    return response


def answer_database_away(problem: Exception) -> Response:
    """The answer while PostgreSQL is away: 503, worth another try."""
    if isinstance(problem, DBAPIError) and not _means_away(problem):
        return answer_unknown(problem)
    logger.warning("PostgreSQL is away", extra={"reason": type(problem).__name__})
    return answer(ServiceUnavailable())


def answer_unknown(problem: Exception) -> Response:
    """The answer to a bug: its traceback is logged once, the client learns the request id."""
    logger.error("unexpected error", exc_info=problem, extra={"request_id": request_id()})
    response = _rendered(PromptlyError())
    response.headers["x-request-id"] = request_id()
    return response


def _translated(problem: HTTPException, code: int) -> PromptlyError:
    if isinstance(problem, RateLimitExceeded):
        return RateLimited(
            "Please wait a little before you try this again.",
            retry_after_seconds=_seconds_until_reset(),
        )
    if code == 404 and error_shapes.is_api(request.path):
        return UnknownURL(f"Unknown request URL: {request.method} {request.path}.")
    if code == 405:
        return MethodNotAllowed(f"{request.method} is not allowed for {request.path}.")
    known = _HTTP_ERRORS.get(code)
    if known is None:
        known = InvalidRequest if code < 500 else PromptlyError
        known = type(known.__name__, (known,), {"status": code})
    if code in {400, 413}:
        return known(problem.description)
    return known()


def _seconds_until_reset() -> int:
    limit = limiter.current_limit
    return max(1, int(limit.reset_at - time.time()) + 1) if limit is not None else 60


def _means_away(problem: DBAPIError) -> bool:
    # With an SQLSTATE the server answered; these classes of it say that it could not work.
    state = getattr(problem.orig, "pgcode", None)
    return state is None or state[:2] in {"08", "53", "55", "57"}


def _rendered(problem: PromptlyError) -> Response:
    if error_shapes.is_api(request.path):
        body = error_shapes.body(request.path, problem, request_id())
        response = Response(body, mimetype="application/json")
    elif g.get("answers_json"):
        # A script at the administration's form API.
        response = Response(orjson.dumps(problem.body()), mimetype="application/json")
    else:
        response = _page(problem)
    response.status_code = problem.status
    return response


def _page(problem: PromptlyError) -> Response:
    title = TITLES.get(problem.status, "That did not work")
    response = Response(
        render_template(
            "error.html",
            title=title,
            status=problem.status,
            message=problem.message,
            wait=wait_in_words(problem.retry_after_seconds),
            request_id=request_id() if problem.status >= 500 else None,
        ),
        mimetype="text/html",
    )
    return add_page_headers(response)


def wait_in_words(seconds: int | None) -> str | None:
    """How long to wait, as a person would say it, rounded up; None if nobody knows."""
    if seconds is None:
        return None
    for unit, size in (("hour", 3600), ("minute", 60), ("second", 1)):
        # "90 minutes" says more than "2 hours".
        if seconds >= 2 * size or size == 1:
            number = max(-(-seconds // size), 1)
            return f"{number} {unit}{'' if number == 1 else 's'}"
    return None


def _log_fields(problem: PromptlyError) -> dict[str, object]:
    return {
        "request_id": request_id(),
        "path": request.path,
        "status": problem.status,
        "code": problem.code,
    }
