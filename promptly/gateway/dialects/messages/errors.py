"""Errors in Anthropic's format: https://docs.anthropic.com/en/api/errors."""

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
    """Build the error object; answers that are not streamed include the request's id.

    Our own error code is where Anthropic has its finer ones.
    """
    error: dict[str, Any] = {"type": error_type(problem.status), "message": _message(problem)}
    if problem.code is not None:
        error["details"] = {"error_code": problem.code}
    body: dict[str, Any] = {"type": "error", "error": error}
    if request_id is not None:
        body["request_id"] = request_id
    return body


def error_type(status: int) -> str:
    """Return Anthropic's type of an error with this status."""
    return _TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")


def _message(problem: PromptlyError) -> str:
    """Return the message, prefixed with the field's path: the format has no field for that."""
    if isinstance(problem, ContextLengthExceeded) and problem.prompt_tokens is not None:
        # Exactly these words, without "at least" before a lower bound: agents recognize them, and
        # shorten the conversation.
        return f"prompt is too long: {problem.prompt_tokens} tokens > {problem.n_ctx} maximum"
    if problem.param is None:
        return problem.message
    path = _INDEX.sub(r".\1", problem.param).removesuffix("[...]")
    return f"{path}: {problem.message.replace(problem.param, path)}"
