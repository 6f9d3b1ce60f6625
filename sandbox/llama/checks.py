"""The real server's validation: its messages and its statuses, which are often 500."""

from typing import Any

import orjson

from sandbox.llama.prompt import Body
from sandbox.llama.replies import BadRequest


def check_chat(body: Body) -> None:
    """Raise BadRequest for a chat request that the real server refuses."""
    if "messages" not in body:
        raise BadRequest("'messages' is required")
    messages = body["messages"]
    if not isinstance(messages, list):
        raise BadRequest("Expected 'messages' to be an array")
    for message in messages:
        _check_message(message)
    for tool in body.get("tools") or []:
        if not isinstance(tool, dict) or "function" not in tool:
            dumped = orjson.dumps(tool).decode()
            raise BadRequest(
                f"Failed to parse tools: Missing tool function: {dumped}", "server_error", 500
            )
    kind = (body.get("response_format") or {}).get("type", "text")
    if kind not in ("text", "json_object", "json_schema"):
        raise BadRequest(
            f'response_format type must be one of "text" or "json_object", but got: {kind}'
        )
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        raise BadRequest("top_logprobs requires logprobs to be set to true")
    if body.get("logprobs") and body.get("tools") and body.get("stream"):
        raise BadRequest("logprobs is not supported with tools + stream")


def _check_message(message: Any) -> None:
    if not isinstance(message, dict) or "role" not in message:
        dumped = orjson.dumps(message).decode()
        raise BadRequest(
            f"Failed to parse messages: Missing 'role' in message: {dumped}", "server_error", 500
        )
    content = message.get("content")
    if not isinstance(content, str | list | None):
        raise BadRequest("Expected 'content' to be a string or an array")
    for part in content if isinstance(content, list) else []:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "image_url":
            raise BadRequest(
                "image input is not supported - hint: if this is unexpected, you may need to "
                "provide the mmproj",
                "server_error",
                500,
            )
        if kind != "text":
            raise BadRequest("unsupported content[].type")
    if message["role"] != "assistant" and "content" not in message:
        raise BadRequest("All non-assistant messages must contain 'content'")
    if "content" not in message and "tool_calls" not in message:
        raise BadRequest("Assistant message must contain either 'content' or 'tool_calls'!")
    for name in ("reasoning_content", "name"):
        if not isinstance(message.get(name, ""), str):
            raise _unparsed("[json.exception.type_error.302] type must be string")
    for call in message.get("tool_calls") or []:
        _check_call(call)


def _check_call(call: dict[str, Any]) -> None:
    for name in ("type", "function"):
        if name not in call:
            raise _unparsed(f"Missing tool call {name}: {orjson.dumps(call).decode()}")
    function = call["function"]
    if "name" not in function:
        raise _unparsed(f"Missing tool call name: {orjson.dumps(call).decode()}")
    if "arguments" not in function:
        raise _unparsed("[json.exception.out_of_range.403] key 'arguments' not found")
    if isinstance(function["arguments"], str):
        _check_arguments(function["arguments"])


def _unparsed(reason: str) -> BadRequest:
    return BadRequest(f"Failed to parse messages: {reason}", "server_error", 500)


def _check_arguments(text: str) -> None:
    """Check an earlier call's arguments; some 100,000 nesting levels crash the real server."""
    try:
        orjson.loads(text.removeprefix("\ufeff"))
    except ValueError as error:
        raise BadRequest(
            f"Failed to parse tool call arguments as JSON: {error}", "server_error", 500
        ) from error


def check_sampling(body: Body) -> None:
    """Raise BadRequest for sampling parameters that the real server refuses."""
    for name in ("repeat_last_n", "dry_penalty_last_n"):
        if body.get(name, 0) < 0:
            raise BadRequest(
                f"Field '{name}': Value must be between 0 <= value <= 2147483647, "
                f"but got {body[name]}"
            )
    if body.get("dry_sequence_breakers", [""]) == []:
        raise BadRequest(
            "Field 'dry_sequence_breakers': Error: dry_sequence_breakers must be a non-empty "
            "array of strings"
        )
    if body.get("repeat_penalty", 1) <= 0:
        raise BadRequest(
            "Failed to initialize samplers: penalty_repeat must be finite and greater than 0"
        )


def max_tokens_of(body: Body, slots: int) -> int | None:
    """Return the answer's token limit, or None. Raises BadRequest for invalid numbers."""
    limit: int | None = None
    for name in ("max_tokens", "max_completion_tokens", "n_predict"):
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadRequest(
                f"Field '{name}': [json.exception.type_error.302] type must be number, "
                f"but is {_json_type(value)}"
            )
        if value < -1:
            raise BadRequest(
                f"Field '{name}': Value must be between -1 <= value <= 2147483647, but got {value}"
            )
        limit = None if value == -1 else max(1, int(value))
    choices = body.get("n", 1)
    if not isinstance(choices, int) or not 1 <= choices <= slots:
        raise BadRequest(
            f"Field 'n': Value must be between 1 <= value <= {slots}, but got {choices}"
        )
    return limit


def _json_type(value: Any) -> str:
    names = {str: "string", bool: "boolean", list: "array", dict: "object"}
    return names.get(type(value), "null")
