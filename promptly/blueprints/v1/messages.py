"""POST /v1/messages, Anthropic's API, and the token count of its prompt."""

from flask import Response, jsonify

from promptly.blueprints.v1.body import read_body
from promptly.blueprints.v1.serving import serve_stream, serve_whole
from promptly.gateway import current_gateway, hold_placement
from promptly.gateway.dialects.messages.answer import MessageAnswer
from promptly.gateway.dialects.messages.request import parse_count, parse_messages
from promptly.gateway.dialects.messages.stream import MessageStream

ENDPOINT = "messages"


def create_message() -> Response:
    """Create an Anthropic message, streamed or not."""
    chat, prefill = parse_messages(read_body(current_gateway().settings))
    if chat.stream:
        return serve_stream(ENDPOINT, chat, MessageStream(prefill))
    return serve_whole(ENDPOINT, chat, MessageAnswer(prefill))


def count_message_tokens() -> Response:
    """Count the tokens of the request's prompt, free of charge."""
    gateway = current_gateway()
    chat = parse_count(read_body(gateway.settings))
    return jsonify(input_tokens=hold_placement.count_prompt(gateway, chat))
