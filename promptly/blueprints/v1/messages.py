"""POST /v1/messages, Anthropic's API, and the token count of its prompt."""

from flask import Response, jsonify

from promptly.blueprints.v1.body import take_body
from promptly.blueprints.v1.counting import count_tokens, take_counted
from promptly.blueprints.v1.serving import serve_stream, serve_whole
from promptly.gateway.dialects.messages.answer import MessageAnswer
from promptly.gateway.dialects.messages.request import parse_count, parse_messages
from promptly.gateway.dialects.messages.stream import MessageStream

ENDPOINT = "messages"


def create_message() -> Response:
    """Create an Anthropic message, streamed or not."""
    chat, prefill = take_body(parse_messages)
    if chat.stream:
        return serve_stream(ENDPOINT, chat, MessageStream(prefill, chat.stop_sequences))
    return serve_whole(ENDPOINT, chat, MessageAnswer(prefill, chat.stop_sequences))


def count_message_tokens() -> Response:
    """Count the tokens of the request's prompt, free of charge."""
    return jsonify(input_tokens=count_tokens(take_counted(parse_count)))
