"""JSON errors below /v1, each in the shape of the API that the route implements."""

import orjson

from promptly.errors import PromptlyError
from promptly.gateway.dialects.messages.errors import error_body

MESSAGES = "/v1/messages"


def is_api(path: str) -> bool:
    """Return whether a path, known or not, gets JSON errors; all others get pages."""
    return path == "/v1" or path.startswith("/v1/")


def is_anthropic(path: str) -> bool:
    """Return whether a path belongs to Anthropic's API; the rest of /v1 belongs to OpenAI's."""
    return path == MESSAGES or path.startswith(f"{MESSAGES}/")


def body(path: str, problem: PromptlyError, request_id: str) -> bytes:
    """Return the error in the shape that clients of this path expect.

    OpenAI's is `{"error": {"message", "type", "param", "code"}}`, Anthropic's
    `{"type": "error", "error": {"type", "message"}, "request_id"}`.
    """
    if is_anthropic(path):
        return orjson.dumps(error_body(problem, request_id))
    return orjson.dumps(problem.body())
