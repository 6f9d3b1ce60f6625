"""OpenAI's Agents SDK and pydantic-ai over Responses with tools, each as it is by default.

Runs in `.venv-agents`, which has no pytest: `suite.py REPORT` writes its results as JUnit XML.
"""

import asyncio
import os
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from xml.etree import ElementTree

import openai
from agents import (
    Agent,
    ModelSettings,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from pydantic import BaseModel
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.models.openai import OpenAIResponsesModel as PydanticModel
from pydantic_ai.providers.openai import OpenAIProvider

SIMULATED = "SIMULATOR_URL" in os.environ
Case = Callable[[openai.AsyncOpenAI], Awaitable[None]]


class City(StrEnum):
    PARIS = "Paris"
    ROME = "Rome"


class Weather(BaseModel):
    city: City
    sunny: bool


def weather(city: City) -> str:
    """The weather of a city."""
    # The result becomes the last message, so it carries the simulator's next directives.
    return f"sunny in {city} [[sim tool=0 tokens=9]]"


async def a_tool_of_an_agent(client: openai.AsyncOpenAI) -> None:
    settings = ModelSettings(tool_choice="required", max_tokens=300, parallel_tool_calls=False)
    model = OpenAIResponsesModel("any", client)
    tools = [function_tool(weather)]
    agent = Agent(name="Reporter", model=model, model_settings=settings, tools=tools)
    result = await Runner.run(agent, "hello world")
    kinds = [item.type for item in result.new_items]
    assert kinds[:2] == ["tool_call_item", "tool_call_output_item"], kinds
    assert isinstance(result.final_output, str)
    streamed = Runner.run_streamed(agent, "hello world")
    names = [event.type async for event in streamed.stream_events()]
    assert "run_item_stream_event" in names
    # The whole run is sent back with a next question.
    history = [*streamed.to_input_list(), {"role": "user", "content": "hello world"}]
    await Runner.run(agent, history)


async def a_handoff_to_a_structured_answer(client: openai.AsyncOpenAI) -> None:
    model = OpenAIResponsesModel("any", client)
    reporter = Agent(name="Reporter", model=model, output_type=Weather)
    desk = Agent(name="Desk", model=model, handoffs=[reporter])
    result = await Runner.run(desk, "hello [[sim tool=1]]")
    assert result.last_agent is reporter
    assert isinstance(result.final_output, Weather)
    streamed = Runner.run_streamed(desk, "hello [[sim tool=1]]")
    async for _ in streamed.stream_events():
        pass
    assert isinstance(streamed.final_output, Weather)


async def a_tool_of_pydantic_ai(client: openai.AsyncOpenAI) -> None:
    model = PydanticModel("any", provider=OpenAIProvider(openai_client=client))
    agent = PydanticAgent(model, tools=[weather])
    first = await agent.run("hello [[sim tool=2]]")
    assert first.output
    second = await agent.run("hello [[sim tokens=5]]", message_history=first.all_messages())
    assert second.output


async def a_structured_answer_of_pydantic_ai(client: openai.AsyncOpenAI) -> None:
    model = PydanticModel("any", provider=OpenAIProvider(openai_client=client))
    result = await PydanticAgent(model, output_type=Weather).run("hello world")
    assert isinstance(result.output, Weather)


CASES: list[Case] = [a_tool_of_an_agent]
if SIMULATED:
    CASES += [
        a_handoff_to_a_structured_answer,
        a_tool_of_pydantic_ai,
        a_structured_answer_of_pydantic_ai,
    ]


async def run(case: Case) -> None:
    url, key = os.environ["BASE_URL"], os.environ["API_KEY"]
    async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
        await asyncio.wait_for(case(client), timeout=60)


def main(report: Path) -> int:
    """Run all cases, write the report, and return the exit status."""
    set_tracing_disabled(True)
    suite = ElementTree.Element("testsuite")
    for case in CASES:
        started = time.monotonic()
        found = ElementTree.SubElement(suite, "testcase", name=case.__name__.replace("_", " "))
        try:
            asyncio.run(run(case))
        except Exception:
            problem = ElementTree.SubElement(found, "failure", message=case.__name__)
            problem.text = traceback.format_exc()
        found.set("time", f"{time.monotonic() - started:.3f}")
    ElementTree.ElementTree(suite).write(report)
    return int(suite.find(".//failure") is not None)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
