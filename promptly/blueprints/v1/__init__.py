"""The inference API: all routes below /v1, guarded by `guard.admit`."""

from flask import Blueprint

from promptly.blueprints.v1 import (
    balance,
    body,
    chat,
    completions,
    embeddings,
    guard,
    key,
    messages,
    models,
    queue,
    responses,
    usage,
)
from promptly.errors import PromptlyError

blueprint = Blueprint("v1", __name__, url_prefix="/v1")
blueprint.before_request(guard.admit)
blueprint.after_app_request(guard.add_headers)
blueprint.register_error_handler(PromptlyError, guard.refuse)
blueprint.teardown_request(body.give_back)

blueprint.add_url_rule(
    "/chat/completions", "chat_completions", chat.chat_completions, methods=["POST"]
)
blueprint.add_url_rule(
    "/chat/completions/input_tokens", "count_chat_tokens", chat.count_chat_tokens, methods=["POST"]
)
blueprint.add_url_rule(
    "/completions", "text_completions", completions.text_completions, methods=["POST"]
)
blueprint.add_url_rule(
    "/embeddings", "make_embeddings", embeddings.make_embeddings, methods=["POST"]
)
blueprint.add_url_rule("/responses", "create_response", responses.create_response, methods=["POST"])
blueprint.add_url_rule(
    "/responses/input_tokens",
    "count_response_tokens",
    responses.count_response_tokens,
    methods=["POST"],
)
blueprint.add_url_rule("/messages", "create_message", messages.create_message, methods=["POST"])
blueprint.add_url_rule(
    "/messages/count_tokens",
    "count_message_tokens",
    messages.count_message_tokens,
    methods=["POST"],
)
blueprint.add_url_rule("/models", "list_models", models.list_models)
blueprint.add_url_rule("/models/<path:name>", "show_model", models.show_model)
blueprint.add_url_rule("/balance", "show_balance", balance.show_balance)
blueprint.add_url_rule("/usage", "show_usage", usage.show_usage)
blueprint.add_url_rule("/key", "show_key", key.show_key)
blueprint.add_url_rule("/queue", "list_queue", queue.list_queue)
