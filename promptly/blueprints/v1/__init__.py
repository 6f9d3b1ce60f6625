"""The inference API: all routes below /v1, guarded by `guard.admit`.

`front` answers POSTs without Flask, which serves the rest (`in_flask`).
"""

from flask import Blueprint

from promptly.blueprints.v1 import (
    balance,
    chat,
    completions,
    embeddings,
    in_flask,
    key,
    messages,
    models,
    queue,
    responses,
    usage,
)
from promptly.blueprints.v1.front import Front, View

__all__ = ["HOLDING", "POSTED", "Front", "blueprint", "in_flask"]

PREFIX = "/v1"

# Views that `front` calls, by their paths.
POSTED: dict[str, View] = {
    "/v1/chat/completions": chat.chat_completions,
    "/v1/chat/completions/input_tokens": chat.count_chat_tokens,
    "/v1/completions": completions.text_completions,
    "/v1/embeddings": embeddings.make_embeddings,
    "/v1/messages": messages.create_message,
    "/v1/messages/count_tokens": messages.count_message_tokens,
    "/v1/responses": responses.create_response,
    "/v1/responses/input_tokens": responses.count_response_tokens,
}

# Those whose views place a hold for one request that generates text, and do nothing else before.
HOLDING = frozenset(
    ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"),
)

blueprint = Blueprint("v1", __name__, url_prefix=PREFIX)
blueprint.before_request(in_flask.admit)
blueprint.after_app_request(in_flask.add_headers)

for path, view in POSTED.items():
    # Without a view: Flask answers other methods, and hints at these paths.
    blueprint.add_url_rule(path.removeprefix(PREFIX), view.__name__, methods=["POST"])
blueprint.add_url_rule("/models", "list_models", models.list_models)
blueprint.add_url_rule("/models/<path:name>", "show_model", models.show_model)
blueprint.add_url_rule("/balance", "show_balance", balance.show_balance)
blueprint.add_url_rule("/usage", "show_usage", usage.show_usage)
blueprint.add_url_rule("/key", "show_key", key.show_key)
blueprint.add_url_rule("/queue", "list_queue", queue.list_queue)
