"""The way of a POST to /v1: one plain WSGI function, in front of Flask.

Flask's dispatch costs as much as a request's limits and authentication together (ADR 38). It
serves all other requests, also those with another method or spelling of the path.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.http import HTTP_STATUS_CODES

from promptly.blueprints import address_limit, error_shapes, hosts
from promptly.blueprints.v1 import guard, refusals
from promptly.blueprints.v1.answers import Answer
from promptly.blueprints.v1.api_request import ApiRequest
from promptly.errors import InvalidRequest
from promptly.gateway import Gateway

View = Callable[[ApiRequest], Answer]


class Front:
    """Answers POSTs to exactly these paths, and passes all else on to `otherwise`.

    The views of `holding` paths place a hold, which may look up the key.
    """

    def __init__(
        self,
        gateway: Gateway,
        views: Mapping[str, View],
        holding: Container[str],
        otherwise: WSGIApplication,
    ) -> None:
        self._gateway = gateway
        self._views = views
        self._holding = holding
        self._otherwise = otherwise

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        view = self._views.get(path)
        if view is None or environ["REQUEST_METHOD"] != "POST":
            return self._otherwise(environ, start_response)
        is_anthropic = error_shapes.is_of_messages(path)
        request = ApiRequest(self._gateway, environ, is_anthropic=is_anthropic)
        try:
            admit(request, holds=path in self._holding)
            answer = view(request)
        except Exception as problem:
            answer = refusals.refuse(guard.unless_refused(request, problem), request)
        finally:
            request.give_back_body()
        headers = [*answer.headers, *request.standing_headers()]
        start_response(f"{answer.status} {HTTP_STATUS_CODES[answer.status].upper()}", headers)
        return answer.body


def admit(request: ApiRequest, *, holds: bool) -> None:
    """Check what Flask's hooks check of other requests; raises their errors."""
    settings = request.gateway.settings
    address_limit.count(request.environ, settings)
    try:
        hosts.refuse_foreign_host(request.environ, settings)
    except InvalidRequest:
        guard.count(request)
        raise
    guard.admit(request, holds=holds)
