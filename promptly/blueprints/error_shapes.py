"""The JSON of errors below /v1: each route has the shape of the API that it belongs to."""

import orjson

from promptly.errors import PromptlyError
from promptly.gateway.dialects.messages.errors import error_body

MESSAGES = "/v1/messages"


def is_api(path: str) -> bool:
    """Whether programs call this path; people get a page. The URL need not be known."""
    return path == "/v1" or path.startswith("/v1/")


def is_anthropic(path: str) -> bool:
    """Whether clients of this path speak Anthropic's API; all others of /v1 speak OpenAI's."""
    return path == MESSAGES or path.startswith(f"{MESSAGES}/")


def body(path: str, problem: PromptlyError, request_id: str) -> bytes:
    """The error as clients of this path read it.

    OpenAI's is `{"error": {"message", "type", "param", "code"}}`, Anthropic's
    `{"type": "error", "error": {"type", "message"}, "request_id"}`.
    """
    if is_anthropic(path):
        return orjson.dumps(error_body(problem, request_id))
    return orjson.dumps(problem.body())
