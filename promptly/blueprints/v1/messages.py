"""POST /v1/messages, Anthropic's API, and the token count of its prompt."""

import orjson

from promptly.blueprints.v1.answers import Answer, as_json
from promptly.blueprints.v1.api_request import ApiRequest
from promptly.blueprints.v1.body import take_body
from promptly.blueprints.v1.counting import count_tokens, take_counted
from promptly.blueprints.v1.serving import serve_stream, serve_whole
from promptly.gateway.dialects.messages.answer import MessageAnswer
from promptly.gateway.dialects.messages.request import parse_count, parse_messages
from promptly.gateway.dialects.messages.stream import MessageStream

ENDPOINT = "messages"


def create_message(request: ApiRequest) -> Answer:
    """Create an Anthropic message, streamed or not."""
    chat, prefill = take_body(request, parse_messages)
    if chat.stream:
        stream = MessageStream(prefill, chat.stop_sequences)
        return serve_stream(request, ENDPOINT, chat, stream)
    return serve_whole(request, ENDPOINT, chat, MessageAnswer(prefill, chat.stop_sequences))


def count_message_tokens(request: ApiRequest) -> Answer:
    """Count the tokens of the request's prompt, free of charge."""
    tokens = count_tokens(request, take_counted(request, parse_count))
    return as_json(orjson.dumps({"input_tokens": tokens}))
