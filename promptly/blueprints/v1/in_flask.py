"""Requests to /v1 that Flask serves: GETs, preflights, and those that match no route."""

from flask import Request, Response, g
from flask.globals import request_ctx

from promptly.blueprints import error_shapes
from promptly.blueprints.v1 import guard
from promptly.blueprints.v1.api_request import ApiRequest
from promptly.gateway import current_gateway
from promptly.services.accounts.authentication import Caller


def current() -> ApiRequest:
    """Return Flask's current request, which must be one to /v1; the same object each time."""
    if "api_request" not in g:
        request: Request = request_ctx.request
        is_anthropic = error_shapes.is_anthropic(request)
        g.api_request = ApiRequest(current_gateway(), request.environ, is_anthropic=is_anthropic)
    known: ApiRequest = g.api_request
    return known


def caller() -> Caller:
    """Return the authenticated caller of the current request."""
    return current().caller


def admit() -> None:
    """Admit the current request, or raise like `guard.admit`."""
    guard.admit(current())


def count_refused() -> None:
    """Count a request that is refused before `admit` against its address; pages have no limit.

    One with an unknown URL or method is counted too; it needs no key.
    """
    if error_shapes.is_api(request_ctx.request.path):
        guard.count(current())


def answer_preflight() -> Response | None:
    """Answer a browser's question whether a page may call a path below /v1; None if it is not one.

    It has no key, and counts against its address only.
    """
    request: Request = request_ctx.request
    if request.method != "OPTIONS" or not error_shapes.is_api(request.path):
        return None
    headers = current_gateway().cors.preflight(request.environ)
    if headers is None:
        return None
    guard.count(current())
    response = Response(status=204, headers=headers)
    response.headers.remove("content-type")
    return response


def add_headers(response: Response) -> Response:
    """Add the headers of every response of the API, including errors and unknown URLs."""
    if error_shapes.is_api(request_ctx.request.path):
        response.headers.extend(current().standing_headers())
    return response
