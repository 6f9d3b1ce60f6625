"""POST /v1/chat/completions, and the token count of its prompt."""

import orjson

from promptly.blueprints.v1.answers import Answer, as_json
from promptly.blueprints.v1.api_request import ApiRequest
from promptly.blueprints.v1.body import take_body
from promptly.blueprints.v1.counting import count_tokens, take_counted
from promptly.blueprints.v1.serving import serve_stream, serve_whole
from promptly.gateway.dialects.chat.answer import ChatAnswer, ChatStream
from promptly.gateway.dialects.chat.request import parse_chat

ENDPOINT = "chat.completions"


def chat_completions(request: ApiRequest) -> Answer:
    """Create an OpenAI chat completion, streamed or not."""
    chat = take_body(request, parse_chat)
    if chat.stream:
        stream = ChatStream(
            include_usage=chat.include_usage, without_alternatives=chat.without_alternatives
        )
        return serve_stream(request, ENDPOINT, chat, stream)
    answer = ChatAnswer(without_alternatives=chat.without_alternatives)
    return serve_whole(request, ENDPOINT, chat, answer)


def count_chat_tokens(request: ApiRequest) -> Answer:
    """Count the tokens of the request's prompt, free of charge."""
    tokens = count_tokens(request, take_counted(request, parse_chat))
    return as_json(orjson.dumps({"object": "response.input_tokens", "input_tokens": tokens}))
