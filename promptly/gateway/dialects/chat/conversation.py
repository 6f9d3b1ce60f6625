"""The messages of a chat: their types, and how upstream gets them.

Answers come back as clients have put them together: without text, cut off, or with null for what
was never sent. All of them are accepted, as a conversation cannot go on without them.
"""

from typing import Any, Literal

from msgspec import Struct

from promptly.gateway.dialects.fields import Name
from promptly.gateway.dialects.tool_arguments import upstream_arguments


class TextPart(Struct):
    text: str
    # Not a tag: outside unions msgspec accepts its absence, but the contract would require it.
    type: Literal["text"] = "text"


class AssistantTextPart(Struct, tag_field="type", tag="text"):
    text: str = ""


class RefusalPart(Struct, tag_field="type", tag="refusal"):
    refusal: str = ""


Content = str | list[TextPart]


class SystemMessage(Struct, tag_field="role", tag="system", omit_defaults=True):
    content: Content
    name: Name | None = None


class DeveloperMessage(Struct, tag_field="role", tag="developer", omit_defaults=True):
    content: Content
    name: Name | None = None


class UserMessage(Struct, tag_field="role", tag="user", omit_defaults=True):
    content: Content
    name: Name | None = None


class CalledFunction(Struct):
    name: str
    arguments: str | dict[str, Any] | None = None


class ToolCall(Struct):
    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class AssistantMessage(Struct, tag_field="role", tag="assistant", omit_defaults=True):
    content: str | list[AssistantTextPart | RefusalPart] | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    name: Name | None = None


class ToolMessage(Struct, tag_field="role", tag="tool", omit_defaults=True):
    tool_call_id: str
    content: Content | None = None
    name: Name | None = None


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


def normalize(messages: list[Message]) -> None:
    """Rewrite messages in place as upstream accepts them."""
    for message in messages:
        if isinstance(message, AssistantMessage):
            _normalize_answer(message)
        elif message.content is None:
            message.content = ""


def _normalize_answer(message: AssistantMessage) -> None:
    """Fill in the text, which upstream requires, and turn refusals into text."""
    if message.content is None:
        message.content = message.refusal or ""
    elif not isinstance(message.content, str):
        message.content = [
            AssistantTextPart(part.refusal) if isinstance(part, RefusalPart) else part
            for part in message.content
        ]
    message.refusal = None
    for call in message.tool_calls or ():
        call.function.arguments = upstream_arguments(call.function.arguments)
