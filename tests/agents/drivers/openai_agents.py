"""An agent of the OpenAI Agents SDK with one tool; each argument is a turn's prompt."""

import asyncio
import sys
from pathlib import Path
from typing import Any

from agents import Agent, Runner, function_tool
from configuration import model
from openai.types.responses import ResponseTextDeltaEvent


@function_tool  # type: ignore[untyped-decorator]
def write_file(path: str, content: str) -> str:
    """Write a text file."""
    Path(path).write_text(content)
    return f"{len(content)} characters written"


async def main() -> None:
    agent = Agent(name="Writer", model=model, tools=[write_file])
    history: list[Any] = []
    for prompt in sys.argv[1:]:
        run = Runner.run_streamed(agent, [*history, {"role": "user", "content": prompt}])
        async for event in run.stream_events():
            if event.type == "raw_response_event" and isinstance(
                event.data, ResponseTextDeltaEvent
            ):
                print(event.data.delta, end="", flush=True)
        print()
        history = run.to_input_list()


asyncio.run(main())
