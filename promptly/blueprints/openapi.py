"""GET /openapi.json: the contract of /v1, for whoever wants it; it needs no key."""

from functools import lru_cache

import orjson
from flask import Blueprint, Response, current_app, request
from werkzeug.wrappers import Response as AnyResponse

from promptly.blueprints.page_headers import add_page_headers
from promptly.openapi import document
from promptly.settings import Settings

MAX_AGE_SECONDS = 300

blueprint = Blueprint("openapi", __name__)
blueprint.after_request(add_page_headers)


@blueprint.get("/openapi.json")
def show() -> AnyResponse:
    """The document; 304 for who has it already."""
    settings: Settings = current_app.extensions["settings"]
    response = Response(encoded(settings.base_url), mimetype="application/json")
    response.add_etag()
    response.cache_control.public = True
    response.cache_control.max_age = MAX_AGE_SECONDS
    return response.make_conditional(request)


@lru_cache(maxsize=4)
def encoded(base_url: str) -> bytes:
    """The document as JSON, built once in a process."""
    return orjson.dumps(document(base_url))
