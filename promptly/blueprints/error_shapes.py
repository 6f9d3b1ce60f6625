"""JSON errors, each in the shape of the API that the client speaks."""

import orjson
from flask import Request, request

from promptly.errors import PromptlyError
from promptly.gateway.dialects.messages.errors import error_body

MESSAGES = "/v1/messages"

# Routes that both APIs have, and paths that are no route.
_OF_BOTH = frozenset({"v1.list_models", "v1.show_model", None})


def is_api(path: str) -> bool:
    """Return whether a path, known or not, gets JSON errors; all others get pages."""
    return path == "/v1" or path.startswith("/v1/")


def is_of_messages(path: str) -> bool:
    """Return whether a path belongs to Anthropic's API only."""
    return path == MESSAGES or path.startswith(f"{MESSAGES}/")


def is_anthropic(request: Request) -> bool:
    """Return whether a request is one of Anthropic's API; the rest of /v1 is OpenAI's.

    The path tells, or where it does not, the header that Anthropic's clients send.
    """
    if is_of_messages(request.path):
        return True
    return "HTTP_ANTHROPIC_VERSION" in request.environ and request.endpoint in _OF_BOTH


def wants_json(status: int) -> bool:
    """Return whether an error with this status is JSON: below /v1, and where programs look for it.

    Those have a wrong base URL; they send a key or JSON, which no browser opening a page does.
    """
    if is_api(request.path):
        return True
    if status not in {404, 405}:
        return False
    has_key = request.headers.get("Authorization", "")[:7].lower() == "bearer "
    return has_key or "x-api-key" in request.headers or request.is_json


def body(problem: PromptlyError, request_id: str, *, is_anthropic: bool) -> bytes:
    """Return the error in the shape of the client's API.

    OpenAI's is `{"error": {"message", "type", "param", "code"}}`, Anthropic's
    `{"type": "error", "error": {"type", "message"}, "request_id"}`.
    """
    if is_anthropic:
        return orjson.dumps(error_body(problem, request_id))
    return orjson.dumps(problem.body())
