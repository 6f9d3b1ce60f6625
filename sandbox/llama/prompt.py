"""From a request body to its prompt, and from a prompt to its token count.

A token is four bytes of UTF-8, and every message costs four tokens more, so the count is the same
whether requested beforehand or reported with the answer.
"""

from typing import Any

import orjson

from sandbox.llama.replies import BadRequest

BYTES_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4

Body = dict[str, Any]


def count_text(text: str) -> int:
    """Return the token count of a plain text."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def count_special(text: str) -> int:
    """Return the token count of a text, including the beginning-of-sequence token."""
    return 1 + count_text(text)


def tokens(body: Body) -> list[int]:
    """Return the tokens of ``/tokenize``; of several texts only the first gets a start token."""
    given = body.get("content", "")
    texts = given if isinstance(given, list) else [given]
    count = sum(count_text(str(text)) for text in texts)
    return ([1] if body.get("add_special") else []) + list(range(100, 100 + count))


def count_messages(body: Body) -> int:
    """Return the token count of a chat request."""
    return count_text(template(body)) + TOKENS_PER_MESSAGE * len(body["messages"])


def template(body: Body) -> str:
    """Return the prompt of a validated chat request, including its tools."""
    parts: list[str] = []
    if body.get("tools"):
        parts.append(f"<tools>{orjson.dumps(body['tools']).decode()}</tools>\n")
    for message in body["messages"]:
        parts.append(f"<|im_start|>{message['role']}\n{text_of(message.get('content'))}")
        if message.get("tool_calls"):
            parts.append(orjson.dumps(message["tool_calls"]).decode())
        parts.append("<|im_end|>\n")
    parts.append("<|im_start|>assistant\n")
    return "".join(parts)


def text_of(content: Any) -> str:
    """Return the text of a message's content, which is a string, a list of parts, or null."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return ""


def last_text(body: Body) -> str:
    """Return the text that is searched for directives."""
    messages = body.get("messages")
    if isinstance(messages, list) and messages and isinstance(messages[-1], dict):
        return text_of(messages[-1].get("content"))
    given = body.get("prompt", body.get("input"))
    if isinstance(given, list) and given:
        given = given[-1]
    return given if isinstance(given, str) else ""


def parse(raw: bytes) -> Body:
    """Decode a body as the real server does. Raises BadRequest (status 500 for broken JSON)."""
    try:
        body = orjson.loads(raw)
    except ValueError as error:
        raise BadRequest(
            f"[json.exception.parse_error.101] parse error: {error}", "server_error", 500
        ) from error
    if not isinstance(body, dict):
        raise BadRequest("[json.exception.type_error.304] not an object", "server_error", 500)
    return body
