"""GET /v1/key: the key's own limits, and what it has used of them."""

from flask import Response, jsonify

from promptly.blueprints.v1 import in_flask
from promptly.errors import NotFound
from promptly.runtime.database import API
from promptly.services.accounts import key_limits, keys
from promptly.transactions import use_pool


def show_key() -> Response:
    """Return the key that the request carries."""
    use_pool(API)
    key = keys.find_active(in_flask.caller().key_id)
    if key is None:
        raise NotFound("This key has just been revoked.")
    return jsonify(key_limits.described(key))
