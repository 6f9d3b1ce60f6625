"""Errors in Anthropic's shape: https://docs.anthropic.com/en/api/errors."""

import re
from typing import Any

from promptly.errors import ContextLengthExceeded, PromptlyError

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}

_INDEX = re.compile(r"\[(\d+)\]")


def error_body(problem: PromptlyError, request_id: str | None = None) -> dict[str, Any]:
    """The error object, with the id of the request in a whole answer.

    Our own code stands where Anthropic has its finer ones.
    """
    error: dict[str, Any] = {"type": error_type(problem.status), "message": _message(problem)}
    if problem.code is not None:
        error["details"] = {"error_code": problem.code}
    body: dict[str, Any] = {"type": "error", "error": error}
    if request_id is not None:
        body["request_id"] = request_id
    return body


def error_type(status: int) -> str:
    """The type of an error with this status."""
    return _TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")


def _message(problem: PromptlyError) -> str:
    """The message, which begins with the field's path, for the shape has no other place for it."""
    if isinstance(problem, ContextLengthExceeded) and problem.prompt_tokens is not None:
        # In these words: agents look for them, and shorten the conversation.
        return f"prompt is too long: {problem.prompt_tokens} tokens > {problem.n_ctx} maximum"
    if problem.param is None:
        return problem.message
    path = _INDEX.sub(r".\1", problem.param).removesuffix("[...]")
    return f"{path}: {problem.message.replace(problem.param, path)}"
