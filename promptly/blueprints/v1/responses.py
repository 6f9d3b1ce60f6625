"""POST /v1/responses, and the token count of its prompt."""

from collections.abc import Callable
from functools import partial
from uuid import UUID

import orjson

from promptly.blueprints.v1.answers import Answer, as_json
from promptly.blueprints.v1.api_request import ApiRequest
from promptly.blueprints.v1.body import take_body
from promptly.blueprints.v1.counting import count_tokens, take_counted
from promptly.blueprints.v1.serving import serve_stream, serve_whole
from promptly.errors import ContextLengthExceeded, InvalidRequest, RequestRejected
from promptly.gateway import Gateway
from promptly.gateway.chat_request import ChatRequest
from promptly.gateway.dialects import StreamedAnswer, WholeAnswer
from promptly.gateway.dialects.responses.answer import ResponsesAnswer
from promptly.gateway.dialects.responses.answer_tool import (
    StreamedAnswerByCall,
    WholeAnswerByCall,
)
from promptly.gateway.dialects.responses.echo import Echo
from promptly.gateway.dialects.responses.profile import PROFILES
from promptly.gateway.dialects.responses.request import parse_responses
from promptly.gateway.dialects.responses.stream import ResponsesStream
from promptly.gateway.json_bounds import Body

ENDPOINT = "responses"


def create_response(request: ApiRequest) -> Answer:
    """Create an OpenAI response, streamed or not."""
    gateway = request.gateway
    chat, echo = take_body(request, _parser(gateway))
    # Until upstream reports it itself.
    model = gateway.model_names.resolve(chat.model, chat.path)
    try:
        if chat.stream:
            return serve_stream(request, ENDPOINT, chat, _streamed(request.uuid, model, echo))
        return serve_whole(request, ENDPOINT, chat, _whole(request.uuid, model, echo))
    except InvalidRequest as problem:
        raise _in_terms_of_input(problem) from None


def count_response_tokens(request: ApiRequest) -> Answer:
    """Count the tokens of the request's prompt, free of charge."""
    chat, _ = take_counted(request, _parser(request.gateway))
    try:
        tokens = count_tokens(request, chat)
    except InvalidRequest as problem:
        raise _in_terms_of_input(problem) from None
    return as_json(orjson.dumps({"object": "response.input_tokens", "input_tokens": tokens}))


def _parser(gateway: Gateway) -> Callable[[Body], tuple[ChatRequest, Echo]]:
    return partial(parse_responses, profile=PROFILES[gateway.settings.responses_profile])


def _streamed(request_id: UUID, model: str, echo: Echo) -> StreamedAnswer:
    answer = ResponsesStream(request_id, model, echo)
    return StreamedAnswerByCall(answer, echo) if echo.answer_tool else answer


def _whole(request_id: UUID, model: str, echo: Echo) -> WholeAnswer:
    answer = ResponsesAnswer(request_id, model, echo)
    return WholeAnswerByCall(answer, echo) if echo.answer_tool else answer


def _in_terms_of_input(problem: InvalidRequest) -> InvalidRequest:
    """Rephrase upstream's refusal of the chat request that we built from a Responses request."""
    if isinstance(problem, RequestRejected):
        return problem
    if isinstance(problem, ContextLengthExceeded):
        return ContextLengthExceeded(problem.message, param="input")
    return InvalidRequest(
        "The model server refused the request. Check 'tools', 'text.format' and the order of the "
        "roles in 'input'.",
        param="input",
    )
