"""The inference API: all routes below /v1, guarded by `guard.admit`."""

from flask import Blueprint

from promptly.blueprints.v1 import (
    account,
    chat,
    completions,
    embeddings,
    guard,
    messages,
    models,
    responses,
)

blueprint = Blueprint("v1", __name__, url_prefix="/v1")
blueprint.before_request(guard.admit)
blueprint.before_app_request(guard.admit_unknown)
blueprint.after_app_request(guard.add_headers)

blueprint.post("/chat/completions")(chat.chat_completions)
blueprint.post("/chat/completions/input_tokens")(chat.count_chat_tokens)
blueprint.post("/completions")(completions.text_completions)
blueprint.post("/embeddings")(embeddings.make_embeddings)
blueprint.post("/responses")(responses.create_response)
blueprint.post("/responses/input_tokens")(responses.count_response_tokens)
blueprint.post("/messages")(messages.create_message)
blueprint.post("/messages/count_tokens")(messages.count_message_tokens)
blueprint.get("/models")(models.list_models)
blueprint.get("/models/<path:name>")(models.show_model)
blueprint.get("/balance")(account.show_balance)
blueprint.get("/usage")(account.show_usage)
