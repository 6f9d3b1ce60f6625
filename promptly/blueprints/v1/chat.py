"""POST /v1/chat/completions, and the token count of its prompt."""

from flask import Response, jsonify

from promptly.blueprints.v1.body import take_body
from promptly.blueprints.v1.counting import count_tokens, take_counted
from promptly.blueprints.v1.serving import serve_stream, serve_whole
from promptly.gateway.dialects.chat.answer import ChatAnswer, ChatStream
from promptly.gateway.dialects.chat.request import parse_chat

ENDPOINT = "chat.completions"


def chat_completions() -> Response:
    """Create an OpenAI chat completion, streamed or not."""
    chat = take_body(parse_chat)
    if chat.stream:
        stream = ChatStream(
            include_usage=chat.include_usage, without_alternatives=chat.without_alternatives
        )
        return serve_stream(ENDPOINT, chat, stream)
    return serve_whole(ENDPOINT, chat, ChatAnswer(without_alternatives=chat.without_alternatives))


def count_chat_tokens() -> Response:
    """Count the tokens of the request's prompt, free of charge."""
    chat = take_counted(parse_chat)
    return jsonify(object="response.input_tokens", input_tokens=count_tokens(chat))
