"""LangChain over the Responses API, with one tool; each argument is a turn's prompt."""

import sys
from pathlib import Path
from typing import Any

from configuration import llm
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool

STEPS = 5


@tool
def write_file(path: str, content: str) -> str:
    """Write a text file."""
    Path(path).write_text(content)
    return f"{len(content)} characters written"


def answer(messages: list[BaseMessage]) -> Any:
    """Stream one answer and return the whole message."""
    whole: Any = None
    for chunk in llm.bind_tools([write_file]).stream(messages):
        print(chunk.text, end="", flush=True)
        whole = chunk if whole is None else whole + chunk
    return whole


def main() -> None:
    messages: list[BaseMessage] = []
    for prompt in sys.argv[1:]:
        messages.append(HumanMessage(prompt))
        for _ in range(STEPS):
            message = answer(messages)
            messages.append(message)
            for call in message.tool_calls:
                result = write_file.invoke(call["args"])
                messages.append(ToolMessage(result, tool_call_id=call["id"]))
            if not message.tool_calls:
                break
        print()


main()
