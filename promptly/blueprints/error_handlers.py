"""Error responses: JSON in the route's shape for programs, a page for everybody else.

Views raise; only this module turns errors into responses. Each carries `x-request-id`.
"""

import logging
import time

import orjson
from flask import Flask, Request, Response, current_app, g, render_template, request
from flask.globals import request_ctx
from flask_limiter.errors import RateLimitExceeded
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from promptly.blueprints import error_shapes, refused_bodies, unexpected, wrong_urls
from promptly.blueprints.page_headers import add_page_headers
from promptly.blueprints.v1 import in_flask, refusals
from promptly.errors import (
    BodyTimeout,
    BodyTooLarge,
    Forbidden,
    InvalidRequest,
    Limit,
    NotFound,
    PromptlyError,
    RateLimited,
    ServiceUnavailable,
    UnknownURL,
)
from promptly.extensions import limiter
from promptly.request_ids import new_request_id, public_id
from promptly.runtime import request_metrics
from promptly.runtime.logs import redact
from promptly.settings import current_settings

logger = logging.getLogger(__name__)

TITLES = {
    400: "This request could not be completed",
    401: "Not signed in",
    403: "Access denied",
    404: "Page not found",
    405: "Method not allowed",
    408: "The form did not arrive in time",
    413: "Request too large",
    429: "Too many requests",
    500: "Something went wrong",
    503: "Temporarily unavailable",
}

# Our own errors in place of Werkzeug's; other statuses get a generic message.
_HTTP_ERRORS: dict[int, type[PromptlyError]] = {
    400: InvalidRequest,
    403: Forbidden,
    408: BodyTimeout,
    413: BodyTooLarge,
    429: RateLimited,
    503: ServiceUnavailable,
}


class MethodNotAllowed(InvalidRequest):
    status = 405
    code = "method_not_allowed"
    message = "Method not allowed."


def register(app: Flask) -> None:
    """Register handlers for our errors, Werkzeug's, database outages and unexpected exceptions.

    Call this before the blueprints are registered: `bind_urls` must run before their checks.
    """
    app.before_request(bind_urls)
    app.register_error_handler(HTTPException, answer_http_exception)
    app.register_error_handler(Exception, answer)


def bind_urls() -> None:
    """Let error pages link to the site even if the host name is malformed.

    Flask then answers 400 but binds no URLs to the request, and `url_for` would fail in that page.
    """
    if request_ctx.url_adapter is None:
        request_ctx.url_adapter = current_app.url_map.bind("")


def refuse_double_slashes(request: Request) -> None:
    """Answer 404 for a path with `//`, which Werkzeug would redirect or take for another one."""
    if "//" in request.environ["PATH_INFO"]:
        raise unknown_url()


def unknown_url() -> NotFound:
    """Return the error for the path of this request, which is no route."""
    if not error_shapes.wants_json(404):
        return NotFound()
    hint = wrong_urls.hint()
    return UnknownURL(f"Unknown request URL: {request.method} {redact(request.path)}.{hint}")


def request_id() -> str:
    """Return the public id of the current request."""
    if error_shapes.is_api(request.path):
        return in_flask.current().id
    if "request_id" not in g:
        g.request_id = public_id(new_request_id())
    known: str = g.request_id
    return known


def answer(problem: Exception) -> Response:
    """Return the response to an error of ours, to a database outage or to a bug."""
    if error_shapes.is_api(request.path):
        status, headers, body = refusals.refuse(problem, in_flask.current())
        return Response(body, status, Headers(headers))
    error = unexpected.translated(problem, request_id())
    if error_shapes.wants_json(error.status):
        refused_bodies.receive_small(request.environ, current_settings().trusted_proxy_hops)
    if error.limit is not None:
        request_metrics.count_limit(error.limit)
    if error is problem:
        level = logging.WARNING if error.status >= 500 else logging.INFO
        message = "request failed" if error.status >= 500 else "request refused"
        logger.log(level, message, extra=_log_fields(error))
    response = _rendered(error)
    for name, value in error.headers().items():
        response.headers.setdefault(name, value)
    response.headers["x-request-id"] = request_id()
    return response


def answer_http_exception(problem: HTTPException) -> AnyResponse:
    """Return the response to an error of Werkzeug's: unknown URL, wrong method, large body."""
    code = problem.code or 500
    if code < 400 or problem.response is not None:
        # A redirect, or an exception that brings its own response.
        return problem.get_response(request.environ)
    response = answer(_translated(problem, code))
    for name, value in problem.get_headers():
        if name.lower() in {"allow", "retry-after"}:
            response.headers[name] = value
    return response


def _translated(problem: HTTPException, code: int) -> PromptlyError:
    if isinstance(problem, RateLimitExceeded):
        return RateLimited(
            "Please wait before trying again.",
            limit=Limit.PAGES,
            retry_after_seconds=_seconds_until_reset(),
        )
    if code == 404:
        return unknown_url()
    if code == 405:
        known_methods = set(getattr(problem, "valid_methods", None) or ())
        usable = sorted(known_methods - {"HEAD", "OPTIONS"})
        hint = f" Use {' or '.join(usable)}." if usable else ""
        if not error_shapes.is_api(request.path) and error_shapes.wants_json(405):
            hint += wrong_urls.hint()
        path = redact(request.path)
        return MethodNotAllowed(f"{request.method} is not allowed for {path}.{hint}")
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


def _rendered(problem: PromptlyError) -> Response:
    if error_shapes.wants_json(problem.status):
        is_anthropic = error_shapes.is_anthropic(request)
        body = error_shapes.body(problem, request_id(), is_anthropic=is_anthropic)
        response = Response(body, mimetype="application/json")
        if is_anthropic:
            response.headers["request-id"] = request_id()
    elif g.get("answers_json"):
        # A script using the admin form API.
        response = Response(orjson.dumps(problem.body()), mimetype="application/json")
    else:
        response = _page(problem)
    response.status_code = problem.status
    return response


def _page(problem: PromptlyError) -> Response:
    title = TITLES.get(problem.status, "This request could not be completed")
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
    """Format a wait for people, rounded up; None if it is unknown."""
    if seconds is None:
        return None
    for unit, size in (("hour", 3600), ("minute", 60), ("second", 1)):
        # "90 minutes" is more precise than "2 hours".
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
