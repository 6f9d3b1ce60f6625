"""GET /v1/models and /v1/models/{id}: the loaded models.

Upstream's own answer, which contains paths and sizes, is not passed on.
"""

from typing import Any

from flask import Response, jsonify

from promptly.errors import NotFound
from promptly.gateway import current_gateway


def loaded() -> list[dict[str, Any]]:
    """Return the loaded models in OpenAI's format, each once."""
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
    """List the models that are ready."""
    return jsonify(object="list", data=loaded())


def show_model(name: str) -> Response:
    """Return one model; raise NotFound for an unknown id."""
    for model in loaded():
        if model["id"] == name:
            return jsonify(model)
    raise NotFound(
        f"The model '{name[:100]}' does not exist.", param="model", code="model_not_found"
    )
