"""GET /v1/queue: the key's own requests that wait for a slot."""

from typing import Any

from flask import Response, jsonify

from promptly.blueprints.v1 import in_flask
from promptly.gateway import current_gateway
from promptly.gateway.slots.key_listing import QueuedRequest


def list_queue() -> Response:
    """Return the waiting requests of the key, in all processes, the next one first."""
    found = current_gateway().slots.of_key(in_flask.caller().key_id)
    return jsonify(object="list", data=[_described(item) for item in found])


def _described(item: QueuedRequest) -> dict[str, Any]:
    return {
        "object": "queued_request",
        "request_id": item.entry.request_id,
        "model": item.entry.model,
        "endpoint": item.entry.endpoint,
        "position": item.place.position,
        "estimated_wait_seconds": item.place.wait_seconds,
        "waiting_seconds": item.waiting_seconds,
    }
