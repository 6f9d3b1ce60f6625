"""Pages of other origins: preflights, and the headers that let them read answers."""

from flask import Request, Response, current_app

from promptly.blueprints import error_shapes
from promptly.runtime.cors import Cors


def preflight(request: Request) -> Response | None:
    """Return the answer to a browser's question whether a page may call a path below /v1.

    None for any other request.
    """
    if request.method != "OPTIONS" or not error_shapes.is_api(request.path):
        return None
    headers = _rules().preflight(request.environ)
    if headers is None:
        return None
    response = Response(status=204, headers=headers)
    response.headers.remove("content-type")
    return response


def add_headers(response: Response, origin: str) -> None:
    """Let pages of this origin read a response, if it is allowed."""
    response.headers.extend(_rules().headers(origin))


def _rules() -> Cors:
    rules: Cors = current_app.extensions["cors"]
    return rules
