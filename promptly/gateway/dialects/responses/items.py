"""Input items of Responses, and the chat messages that they become.

All that the assistant did in one go, its text and its calls, becomes one message. The results of
its calls follow at once, wherever they stand in the input: chat templates refuse anything else.

The assistant's texts may be missing: an answer can end before them, and some clients leave out what
is empty.
"""

from collections import deque
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from promptly.errors import InvalidRequest
from promptly.gateway import json_body
from promptly.gateway.dialects.chat.conversation import TextPart
from promptly.gateway.dialects.fields import Name
from promptly.gateway.dialects.tool_arguments import upstream_arguments

Json = dict[str, Any]

NO_OUTPUT = "[no output]"

CallId = Annotated[str, Meta(min_length=1, max_length=1024)]


class InputText(Struct, tag_field="type", tag="input_text"):
    text: str


class OutputText(Struct, tag_field="type", tag="output_text"):
    text: str = ""


class Refusal(Struct, tag_field="type", tag="refusal"):
    refusal: str = ""


Part = InputText | OutputText | Refusal


class InputMessage(Struct, tag_field="type", tag="message"):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]


class PastReasoning(Struct, tag_field="type", tag="reasoning"):
    """Reasoning of an earlier answer, as SDKs send it back; the model does not see it again."""


class FunctionCall(Struct, tag_field="type", tag="function_call"):
    """An earlier call; `arguments` count as `{}` if they are no JSON object, as when cut off."""

    call_id: CallId
    name: Name
    arguments: Any = None


class CustomToolCall(Struct, tag_field="type", tag="custom_tool_call"):
    """An earlier call of a tool with free text as its input."""

    call_id: CallId
    name: Name
    input: str = ""


class LocalShellCall(Struct, tag_field="type", tag="local_shell_call"):
    """An earlier command in the client's shell."""

    call_id: CallId
    action: Any = None
    id: str | None = None


class FunctionCallOutput(Struct, tag_field="type", tag="function_call_output"):
    """The result of a call; parts other than text become a short text."""

    call_id: CallId
    output: str | list[InputText | OutputText] | None = None


class CustomToolCallOutput(Struct, tag_field="type", tag="custom_tool_call_output"):
    """The result of a custom tool's call."""

    call_id: CallId
    output: str | list[InputText | OutputText] | None = None


class LocalShellCallOutput(Struct, tag_field="type", tag="local_shell_call_output"):
    """The result of a command; its `id` is the call's `id` or `call_id`."""

    output: str | list[InputText | OutputText] | None = None
    id: str | None = None
    call_id: CallId | None = None


class WebSearchCall(Struct, tag_field="type", tag="web_search_call"):
    """A search by a server of OpenAI, which the message after it has used; left out."""


class FileSearchCall(Struct, tag_field="type", tag="file_search_call"):
    """A search in files, left out like a web search."""


class CodeInterpreterCall(Struct, tag_field="type", tag="code_interpreter_call"):
    """A calculation by a server of OpenAI, left out like a web search."""


TextItem = InputMessage | PastReasoning
Call = FunctionCall | CustomToolCall | LocalShellCall
Output = FunctionCallOutput | CustomToolCallOutput | LocalShellCallOutput
HostedCall = WebSearchCall | FileSearchCall | CodeInterpreterCall
# Written out, since the contract lists them in this order.
InputItem = (
    InputMessage
    | PastReasoning
    | FunctionCall
    | FunctionCallOutput
    | CustomToolCall
    | CustomToolCallOutput
    | LocalShellCall
    | LocalShellCallOutput
    | WebSearchCall
    | FileSearchCall
    | CodeInterpreterCall
)

OUTPUT_TYPES = ("function_call_output", "custom_tool_call_output", "local_shell_call_output")
HOSTED_TYPES = ("web_search_call", "file_search_call", "code_interpreter_call")


def chat_messages(items: Sequence[InputItem]) -> list[Json]:
    """Convert a conversation; raises InvalidRequest for an output that belongs to no call."""
    outputs = _Outputs(items)
    found: list[Json] = []
    # The assistant's items since anybody else's.
    turn: list[InputMessage | Call] = []
    for item in items:
        if isinstance(item, Call) or (isinstance(item, InputMessage) and item.role == "assistant"):
            turn.append(item)
        elif isinstance(item, InputMessage | Output):
            found += _assistant(turn, outputs)
            turn = []
            if isinstance(item, InputMessage):
                found.append(_message(item))
    found += _assistant(turn, outputs)
    outputs.refuse_surplus()
    return found


class _Outputs:
    """The results of calls by the calls' ids; an id that a client uses again has several."""

    def __init__(self, items: Sequence[InputItem]) -> None:
        self._waiting: dict[str | None, deque[tuple[int, Any]]] = {}
        commands: dict[str | None, str] = {
            item.id: item.call_id for item in items if isinstance(item, LocalShellCall) and item.id
        }
        for index, item in enumerate(items):
            if isinstance(item, Output):
                call_id = item.call_id
                if isinstance(item, LocalShellCallOutput) and call_id is None:
                    call_id = commands.get(item.id, item.id)
                content = _content(item.output or "")
                self._waiting.setdefault(call_id, deque()).append((index, content))

    def take(self, call_id: str) -> Any:
        """Return the content of the next result with this id."""
        waiting = self._waiting.get(call_id)
        return waiting.popleft()[1] if waiting else NO_OUTPUT

    def refuse_surplus(self) -> None:
        surplus = [index for waiting in self._waiting.values() for index, _ in waiting]
        if surplus:
            param = f"input[{min(surplus)}].call_id"
            raise InvalidRequest(f"'{param}' is the id of no call in 'input'.", param=param)


def _assistant(turn: list[InputMessage | Call], outputs: _Outputs) -> list[Json]:
    """Convert one turn of the assistant: messages, calls, and the results of these."""
    first = next((index for index, item in enumerate(turn) if isinstance(item, Call)), None)
    if first is None:
        return [_message(item) for item in turn if isinstance(item, InputMessage)]
    # The calls belong to the message before them; earlier ones stay messages of their own.
    start = max(first - 1, 0)
    found = [_message(item) for item in turn[:start] if isinstance(item, InputMessage)]
    texts = [
        text for item in turn[start:] if isinstance(item, InputMessage) for text in _texts(item)
    ]
    calls = [item for item in turn[start:] if isinstance(item, Call)]
    made = [{"id": call.call_id, "type": "function", "function": _function(call)} for call in calls]
    found.append({"role": "assistant", "content": _joined(texts), "tool_calls": made})
    for call in calls:
        content = outputs.take(call.call_id)
        found.append({"role": "tool", "tool_call_id": call.call_id, "content": content})
    return found


def _function(call: Call) -> Json:
    """Return a call as that of a function, whatever kind of tool it was."""
    if isinstance(call, FunctionCall):
        return {"name": call.name, "arguments": upstream_arguments(call.arguments)}
    if isinstance(call, CustomToolCall):
        return {"name": call.name, "arguments": json_body.encode({"input": call.input}).decode()}
    return {"name": "local_shell", "arguments": upstream_arguments(call.action)}


def _message(item: InputMessage) -> Json:
    return {"role": item.role, "content": _content(item.content)}


def _content(content: str | Sequence[Part]) -> Any:
    """Return the content as chat completions accept it; a single part becomes its text."""
    return content if isinstance(content, str) else _joined([_text(part) for part in content])


def _texts(item: InputMessage) -> list[str]:
    if isinstance(item.content, str):
        return [item.content]
    return [_text(part) for part in item.content]


def _text(part: Part) -> str:
    return part.refusal if isinstance(part, Refusal) else part.text


def _joined(texts: list[str]) -> Any:
    if len(texts) > 1:
        return [TextPart(text) for text in texts]
    return texts[0] if texts else ""
