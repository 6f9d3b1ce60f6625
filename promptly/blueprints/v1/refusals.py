"""Answers to requests that failed, in the shape of the client's API; each is counted."""

from promptly.blueprints import error_shapes, refused_bodies, unexpected
from promptly.blueprints.v1.answers import Answer, as_json
from promptly.blueprints.v1.api_request import ApiRequest
from promptly.runtime import request_metrics


def refuse(problem: Exception, request: ApiRequest) -> Answer:
    """Return the answer to a request that failed."""
    error = unexpected.translated(problem, request.id)
    refused_bodies.receive_small(request.environ, request.gateway.settings.trusted_proxy_hops)
    if error.limit is not None:
        request_metrics.count_limit(error.limit)
    request_metrics.count_refusal(error)
    body = error_shapes.body(error, request.id, is_anthropic=request.is_anthropic)
    return as_json(body, error.headers().items(), error.status)
