"""An agent of Pydantic AI with one tool; each argument is a turn's prompt."""

import asyncio
import sys
from pathlib import Path
from typing import Any

from configuration import model
from pydantic_ai import Agent, AgentRunResultEvent, PartDeltaEvent, PartStartEvent
from pydantic_ai.messages import TextPart, TextPartDelta

agent: Any = Agent(model)


@agent.tool_plain  # type: ignore[untyped-decorator]
def write_file(path: str, content: str) -> str:
    """Write a text file."""
    Path(path).write_text(content)
    return f"{len(content)} characters written"


async def main() -> None:
    history: list[Any] = []
    for prompt in sys.argv[1:]:
        async with agent.run_stream_events(prompt, message_history=history) as events:
            async for event in events:
                if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                    print(event.part.content, end="", flush=True)
                elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                    print(event.delta.content_delta, end="", flush=True)
                elif isinstance(event, AgentRunResultEvent):
                    history = event.result.all_messages()
        print()


asyncio.run(main())
