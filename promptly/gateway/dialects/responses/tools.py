"""Function tools of Responses, and the chat fields that they become.

Tools of other types are left out if a function remains: OpenAI's servers run most of them, and
agents offer them without being asked to.
"""

from dataclasses import dataclass
from typing import Any, Literal

from msgspec import Struct

from promptly.errors import InvalidRequest, UnsupportedParameter
from promptly.gateway.chat_request import HEADER_SAFE
from promptly.gateway.dialects.chat import request as chat
from promptly.gateway.dialects.fields import Name
from promptly.gateway.dialects.schema_weight import check_schemas

Json = dict[str, Any]


class FunctionTool(Struct):
    # Not a tag: outside unions msgspec accepts its absence, but the contract would require it.
    type: Literal["function"]
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


_KNOWN = frozenset(FunctionTool.__struct_fields__)


class NamedFunction(Struct):
    type: Literal["function"]
    name: Name


Choice = Literal["none", "auto", "required"]
# `None` takes the place of a tool that is left out, so that errors count like the client.
ToolList = list[FunctionTool | None]


def leave_out_others(value: Json) -> tuple[str, ...]:
    """Replace the tools that are no functions by None.

    Returns their types and the unknown fields of the functions, as ignored fields.

    Raises UnsupportedParameter if no function remains, or if `tool_choice` asks for another tool.
    """
    tools = value.get("tools")
    if not isinstance(tools, list):
        tools = []
    kinds: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for index, tool in enumerate(tools):
        if tool is None:
            param = f"tools[{index}]"
            raise InvalidRequest(f"Invalid value for '{param}': it is null.", param=param)
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind != "function":
            kinds[kind] = None
            tools[index] = None
        elif isinstance(tool, dict):
            unknown |= {
                name: None for name in tool if name not in _KNOWN and tool[name] is not None
            }
    if kinds and not any(tools):
        listed = ", ".join(kinds)[:100]
        raise UnsupportedParameter(
            "tools", f"only tools of type 'function' are supported, not {listed}"
        )
    _refuse_choice(value.get("tool_choice"))
    return tuple(f"tools.{name}" for name in kinds | unknown if HEADER_SAFE.fullmatch(name))


def _refuse_choice(choice: Any) -> None:
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "allowed_tools":
        advice = "give only the allowed tools in 'tools', and a mode as 'tool_choice'"
        raise UnsupportedParameter("tool_choice", f"'allowed_tools' is not supported: {advice}")
    if isinstance(kind, str) and kind != "function":
        raise UnsupportedParameter(
            "tool_choice", f"tools of type '{kind[:100]}' are left out here, so none can be chosen"
        )


@dataclass(frozen=True, slots=True)
class Offer:
    """The functions of a request and how the model may choose among them."""

    functions: list[FunctionTool]
    choice: Choice | NamedFunction | None
    is_parallel: bool | None

    def check(self, tools: ToolList | None) -> None:
        """Raise InvalidRequest for a choice without its function, or for schemas too large."""
        if isinstance(self.choice, NamedFunction):
            if not any(tool.name == self.choice.name for tool in self.functions):
                raise InvalidRequest(
                    "'tool_choice' names a function that is not in 'tools'.", param="tool_choice"
                )
        elif self.choice == "required" and not self.functions:
            raise InvalidRequest("'tool_choice' needs 'tools'.", param="tool_choice")
        try:
            check_schemas([tool.parameters or {} for tool in self.functions], "tools")
        except InvalidRequest:
            for index, tool in enumerate(tools or ()):
                if tool is not None:
                    check_schemas(tool.parameters or {}, f"tools[{index}].parameters")
            raise

    def chat_fields(self) -> Json:
        """Return the upstream fields, under their names in chat completions."""
        if not self.functions:
            return {}
        functions, choice = self.functions, self.choice
        if isinstance(choice, NamedFunction):
            # llama-server treats a named function as "auto": offer only this one, require a call.
            functions = [tool for tool in functions if tool.name == choice.name]
            choice = "required"
        fields: Json = {"tools": [chat_tool(tool) for tool in functions]}
        if choice is not None:
            fields["tool_choice"] = choice
        if self.is_parallel is not None:
            fields["parallel_tool_calls"] = self.is_parallel
        return fields

    @property
    def must_call(self) -> bool:
        """Whether the model may not answer with text."""
        return isinstance(self.choice, NamedFunction) or self.choice == "required"


def chat_tool(tool: FunctionTool) -> chat.Tool:
    """Return a function as chat completions describe it."""
    definition = chat.FunctionDefinition(tool.name, tool.description, tool.parameters, tool.strict)
    return chat.Tool(definition, "function")
