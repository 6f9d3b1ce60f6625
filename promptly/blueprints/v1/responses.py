"""POST /v1/responses, and the token count of its prompt."""

from collections.abc import Callable
from functools import partial

from flask import Response, g, jsonify

from promptly.blueprints.v1.body import take_body
from promptly.blueprints.v1.counting import count_tokens, take_counted
from promptly.blueprints.v1.serving import serve_stream, serve_whole
from promptly.errors import ContextLengthExceeded, InvalidRequest, RequestRejected
from promptly.gateway import Gateway, current_gateway
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


def create_response() -> Response:
    """Create an OpenAI response, streamed or not."""
    gateway = current_gateway()
    chat, echo = take_body(_parser(gateway))
    # Until upstream reports it itself.
    model = gateway.model_names.resolve(chat.model, chat.path)
    try:
        if chat.stream:
            return serve_stream(ENDPOINT, chat, _streamed(model, echo))
        return serve_whole(ENDPOINT, chat, _whole(model, echo))
    except InvalidRequest as problem:
        raise _in_terms_of_input(problem) from None


def count_response_tokens() -> Response:
    """Count the tokens of the request's prompt, free of charge."""
    chat, _ = take_counted(_parser(current_gateway()))
    try:
        tokens = count_tokens(chat)
    except InvalidRequest as problem:
        raise _in_terms_of_input(problem) from None
    return jsonify(object="response.input_tokens", input_tokens=tokens)


def _parser(gateway: Gateway) -> Callable[[Body], tuple[ChatRequest, Echo]]:
    return partial(parse_responses, profile=PROFILES[gateway.settings.responses_profile])


def _streamed(model: str, echo: Echo) -> StreamedAnswer:
    answer = ResponsesStream(g.request_uuid, model, echo)
    return StreamedAnswerByCall(answer, echo) if echo.answer_tool else answer


def _whole(model: str, echo: Echo) -> WholeAnswer:
    answer = ResponsesAnswer(g.request_uuid, model, echo)
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
