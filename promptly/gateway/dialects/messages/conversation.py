"""Converts the turns of a conversation: Anthropic's blocks in, chat messages out.

Consecutive turns of the same role are merged, as in Anthropic's API: many chat templates refuse
them otherwise. Tool results come first in their turn, right after the calls that they answer.

The assistant's turns may lack their text: an answer can end before it, and some clients leave out
what is empty.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Literal

from msgspec import Struct

from promptly.errors import InvalidRequest
from promptly.gateway import json_body
from promptly.gateway.dialects.fields import Name
from promptly.gateway.dialects.tool_arguments import upstream_arguments

# Claude Code starts its system prompt with a line for Anthropic's billing, different each time. It
# means nothing to a model, and a prompt that starts with it never hits upstream's cache.
BILLING_LINE = "x-anthropic-billing-header:"


class Text(Struct):
    text: str
    # Not a tag: outside unions msgspec accepts its absence, but the contract would require it.
    type: Literal["text"] = "text"


class TextBlock(Struct, tag_field="type", tag="text"):
    text: str


class AssistantTextBlock(Struct, tag_field="type", tag="text"):
    text: str = ""


class ThinkingBlock(Struct, tag_field="type", tag="thinking"):
    thinking: str = ""


class RedactedThinkingBlock(Struct, tag_field="type", tag="redacted_thinking"):
    pass


class ToolUseBlock(Struct, tag_field="type", tag="tool_use"):
    id: Name
    name: Name
    input: dict[str, Any] | str | None = None


class ToolResultBlock(Struct, tag_field="type", tag="tool_result"):
    tool_use_id: Name
    content: str | list[Text] | None = None
    is_error: bool | None = None


class UserMessage(Struct, tag_field="role", tag="user"):
    content: str | list[TextBlock | ToolResultBlock]


class AssistantMessage(Struct, tag_field="role", tag="assistant"):
    content: (
        str | list[AssistantTextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock] | None
    ) = None


class SystemMessage(Struct, tag_field="role", tag="system"):
    content: str | list[Text]


Message = UserMessage | AssistantMessage | SystemMessage
ChatMessage = dict[str, Any]


def chat_messages(
    system: str | list[Text] | None, messages: Sequence[Message]
) -> list[ChatMessage]:
    """Convert a whole conversation; raises InvalidRequest if it is empty or ends with tool calls.

    A final assistant turn is the start of the answer: only its text is kept, as one string.
    """
    turns = [*messages] if not system else [SystemMessage(system), *messages]
    # Drop empty system turns first, so that the turns around them become adjacent.
    turns = [turn for turn in turns if not _is_silent(turn)]
    found: list[ChatMessage] = []
    for kind, group in groupby(turns, key=type):
        blocks = [block for message in group for block in _blocks(message.content)]
        if kind is SystemMessage:
            found += _system(blocks)
        elif kind is UserMessage:
            found += _user(blocks)
        else:
            found.append(_assistant(blocks, messages))
    if not found:
        raise InvalidRequest("'messages' contains no text.", param="messages")
    if isinstance(turns[-1], AssistantMessage):
        if "tool_calls" in found[-1]:
            last = max(i for i, turn in enumerate(messages) if isinstance(turn, AssistantMessage))
            raise InvalidRequest(
                f"'messages[{last}]' calls tools; their results must follow.",
                param=f"messages[{last}]",
            )
        found[-1] = {"role": "assistant", "content": "".join(_texts(blocks))}
    return found


def _is_silent(turn: Message) -> bool:
    return isinstance(turn, SystemMessage) and not _system(_blocks(turn.content))


def _blocks(content: Any) -> list[Any]:
    return [TextBlock(content)] if isinstance(content, str) else content or []


def _content(texts: Sequence[str]) -> str | list[dict[str, str]]:
    """Return texts as a message's content; several stay parts, for the template to join."""
    if len(texts) <= 1:
        return "".join(texts)
    return [{"type": "text", "text": text} for text in texts]


_TEXTS = (Text, TextBlock, AssistantTextBlock)


def _texts(blocks: list[Any]) -> list[str]:
    return [block.text for block in blocks if isinstance(block, _TEXTS)]


def _system(blocks: list[Text | TextBlock]) -> list[ChatMessage]:
    texts = [_without_billing(block.text) for block in blocks]
    texts = [text for text in texts if text]
    return [{"role": "system", "content": _content(texts)}] if texts else []


def _without_billing(text: str) -> str:
    return text.partition("\n")[2] if text.startswith(BILLING_LINE) else text


def _user(blocks: list[Any]) -> list[ChatMessage]:
    found = [_tool_result(block) for block in blocks if isinstance(block, ToolResultBlock)]
    texts = _texts(blocks)
    if texts or not found:
        found.append({"role": "user", "content": _content(texts)})
    return found


def _tool_result(block: ToolResultBlock) -> ChatMessage:
    texts = _texts(_blocks(block.content))
    if block.is_error:
        # Tool messages of a chat have no error flag.
        texts = [f"Error: {texts[0]}", *texts[1:]] if texts else ["Error"]
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": _content(texts)}


def _assistant(blocks: list[Any], messages: Sequence[Message]) -> ChatMessage:
    thoughts = [block.thinking for block in blocks if isinstance(block, ThinkingBlock)]
    calls = [_tool_call(block, messages) for block in blocks if isinstance(block, ToolUseBlock)]
    found: ChatMessage = {"role": "assistant", "content": _content(_texts(blocks))}
    if any(thoughts):
        found["reasoning_content"] = "\n".join(filter(None, thoughts))
    if calls:
        found["tool_calls"] = calls
    return found


def _tool_call(block: ToolUseBlock, messages: Sequence[Message]) -> dict[str, Any]:
    if not isinstance(block.input, dict):
        function = {"name": block.name, "arguments": upstream_arguments(block.input)}
        return {"id": block.id, "type": "function", "function": function}
    try:
        arguments = json_body.encode(block.input).decode()
    except InvalidRequest:
        # Encode again from the top, so that the error names the whole path.
        json_body.encode({"messages": messages})
        raise
    function = {"name": block.name, "arguments": arguments}
    return {"id": block.id, "type": "function", "function": function}
