"""POST /v1/responses, and the token count of its prompt."""

from flask import Response, g, jsonify

from promptly.blueprints.v1.body import take_body
from promptly.blueprints.v1.counting import count_tokens, take_counted
from promptly.blueprints.v1.serving import serve_stream, serve_whole
from promptly.errors import ContextLengthExceeded, InvalidRequest, RequestRejected
from promptly.gateway import Gateway, current_gateway
from promptly.gateway.dialects.responses.answer import ResponsesAnswer
from promptly.gateway.dialects.responses.request import parse_responses
from promptly.gateway.dialects.responses.stream import ResponsesStream

ENDPOINT = "responses"


def create_response() -> Response:
    """Create an OpenAI response, streamed or not."""
    chat, echo = take_body(parse_responses)
    model = _loaded_model(current_gateway())
    try:
        if chat.stream:
            return serve_stream(ENDPOINT, chat, ResponsesStream(g.request_uuid, model, echo))
        return serve_whole(ENDPOINT, chat, ResponsesAnswer(g.request_uuid, model, echo))
    except InvalidRequest as problem:
        raise _in_terms_of_input(problem) from None


def count_response_tokens() -> Response:
    """Count the tokens of the request's prompt, free of charge."""
    chat, _ = take_counted(parse_responses)
    try:
        tokens = count_tokens(chat)
    except InvalidRequest as problem:
        raise _in_terms_of_input(problem) from None
    return jsonify(object="response.input_tokens", input_tokens=tokens)


def _loaded_model(gateway: Gateway) -> str:
    """Return the model name that a response carries until upstream reports its own."""
    ready = gateway.pool.ready()
    return ready[0].model if ready else ""


def _in_terms_of_input(problem: InvalidRequest) -> InvalidRequest:
    """Rephrase upstream's refusal of the chat request that we built from a Responses request."""
    if isinstance(problem, RequestRejected):
        return problem
    if isinstance(problem, ContextLengthExceeded):
        return ContextLengthExceeded(problem.message, param="input")
    return InvalidRequest(
        "The model server refused the request. Check 'text.format' and the order of the roles in "
        "'input'.",
        param="input",
    )
