"""GET /openapi.json: the OpenAPI document of /v1, public."""

from functools import lru_cache

import orjson
from flask import Blueprint, Response, request
from werkzeug.wrappers import Response as AnyResponse

from promptly.blueprints.page_headers import add_page_headers
from promptly.openapi import document
from promptly.settings import current_settings

MAX_AGE_SECONDS = 300


def show() -> AnyResponse:
    """Return the document, or 304 if the client has the current one."""
    settings = current_settings()
    found = encoded(settings.base_url, settings.responses_profile)
    response = Response(found, mimetype="application/json")
    response.add_etag()
    response.cache_control.public = True
    response.cache_control.max_age = MAX_AGE_SECONDS
    return response.make_conditional(request)


@lru_cache(maxsize=4)
def encoded(base_url: str, responses_profile: str) -> bytes:
    """Return the document as JSON, built once per process."""
    return orjson.dumps(document(base_url, responses_profile))


blueprint = Blueprint("openapi", __name__)
blueprint.after_request(add_page_headers)
blueprint.add_url_rule("/openapi.json", "show", show)
