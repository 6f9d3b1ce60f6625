"""GET /v1/models and /v1/models/{id}: what is loaded, built from what promptly knows.

Upstream's own answer holds paths and sizes; nothing of it is passed on.
"""

from typing import Any

from flask import Response, jsonify

from promptly.errors import NotFound
from promptly.gateway import current_gateway


def loaded() -> list[dict[str, Any]]:
    """The loaded models, each once."""
    models: dict[str, dict[str, Any]] = {}
    for upstream in current_gateway().pool.ready():
        models.setdefault(
            upstream.model,
            {
                "id": upstream.model,
                "object": "model",
                "created": 0,
                "owned_by": "promptly",
                "meta": {"n_ctx": upstream.n_ctx},
            },
        )
    return list(models.values())


def list_models() -> Response:
    """The models that answer now."""
    return jsonify(object="list", data=loaded())


def show_model(name: str) -> Response:
    """One model; an unknown id is 404."""
    for model in loaded():
        if model["id"] == name:
            return jsonify(model)
    raise NotFound(
        f"The model '{name[:100]}' does not exist.", param="model", code="model_not_found"
    )
