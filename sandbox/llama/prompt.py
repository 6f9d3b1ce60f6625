"""From a request body to its prompt, and from a prompt to its token count.

A token is four bytes of UTF-8, and every message costs four tokens more, so the count is the same
whether requested beforehand or reported with the answer.
"""

from typing import Any

import orjson

from sandbox.llama.prompt_cache import BYTES_PER_TOKEN, Prompt
from sandbox.llama.replies import BadRequest

TOKENS_PER_MESSAGE = 4

Body = dict[str, Any]


def count_text(text: str) -> int:
    """Return the token count of a plain text."""
    return -(-len(_encoded(text)) // BYTES_PER_TOKEN)


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
    return of_chat(body).tokens


def of_text(text: str) -> Prompt:
    """Return a plain text as a prompt, with its beginning-of-sequence token."""
    return Prompt(_encoded(text), (0,))


def of_chat(body: Body) -> Prompt:
    """Return the prompt of a validated chat request, including its tools."""
    text = bytearray()
    ends: list[int] = []
    if body.get("tools"):
        text += b"<tools>" + orjson.dumps(body["tools"]) + b"</tools>\n"
    for message in body["messages"]:
        text += _encoded(f"<|im_start|>{message['role']}\n{text_of(message.get('content'))}")
        text += calls_of(message.get("tool_calls"))
        text += b"<|im_end|>\n"
        ends.append(len(text))
    text += b"<|im_start|>assistant\n"
    return Prompt(bytes(text), tuple(ends), TOKENS_PER_MESSAGE)


def calls_of(calls: list[dict[str, Any]] | None) -> bytes:
    """Return tool calls as they are in a prompt, without their ids."""
    functions = [call["function"] for call in calls or ()]
    return b"".join(
        b"<tool_call>" + orjson.dumps([function.get("name"), function.get("arguments")])
        for function in functions
    )


def template(body: Body) -> str:
    """Return the text of a validated chat request's prompt."""
    return of_chat(body).text.decode("utf-8", "surrogatepass")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


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
