"""Scripts of the simulated model, as OpenAI's SDK sees them."""

import json
from typing import Any

import pytest
from openai import OpenAI

from sandbox.llama import SimulatedLlama
from sandbox.llama.script import call, say
from sandbox.process import SandboxError
from tests.sandbox.llama.wire import WEATHER, Json, content, hello, post, stream

PARIS = call("get_weather", city="Paris")


def told(llama: SimulatedLlama, messages: list[Json], **body: Any) -> Json:
    _, answer = post(llama.url, messages=messages, **body)
    choice: Json = answer["choices"][0]
    return choice


def results(message: Json) -> list[Json]:
    """Return an answer with calls, and a result of each call."""
    calls = message["tool_calls"]
    return [message, *({"role": "tool", "tool_call_id": c["id"], "content": "sun"} for c in calls)]


def test_each_result_leads_to_the_next_step(llama: SimulatedLlama) -> None:
    llama.set_script("weather", PARIS, call("get_weather", city="Rome"), say("Sunny."))
    messages = hello("the weather, please")
    cities = []
    for _ in range(2):
        answer = told(llama, messages, tools=[WEATHER])
        assert answer["finish_reason"] == "tool_calls"
        [asked] = answer["message"]["tool_calls"]
        cities.append(json.loads(asked["function"]["arguments"]))
        messages += results(answer["message"])
    assert cities == [{"city": "Paris"}, {"city": "Rome"}]
    assert len({message["tool_call_id"] for message in messages if "tool_call_id" in message}) == 2
    assert told(llama, messages, tools=[WEATHER])["message"]["content"] == "Sunny."


def test_the_official_sdk_assembles_a_streamed_step(llama: SimulatedLlama) -> None:
    calls = [*PARIS["calls"], *call("get_weather", city="Rome")["calls"]]
    llama.set_script("weather", {"say": "I look.", "calls": calls})
    client = OpenAI(base_url=f"{llama.url}/v1", api_key="none", max_retries=0)
    with client.chat.completions.stream(
        model="any", messages=[{"role": "user", "content": "weather"}], tools=[WEATHER]
    ) as events:
        for _ in events:
            pass
        message = events.get_final_completion().choices[0].message
    assert message.content == "I look."
    asked = message.model_dump()["tool_calls"]
    cities = [json.loads(entry["function"]["arguments"]) for entry in asked]
    assert cities == [{"city": "Paris"}, {"city": "Rome"}]


def test_the_script_marked_last_applies(llama: SimulatedLlama) -> None:
    llama.set_script("first", say("One."))
    llama.set_script("second", say("Two."))
    first = hello("the first")
    assert told(llama, first)["message"]["content"] == "One."
    both = [*first, {"role": "assistant", "content": "One."}, *hello("the second")]
    assert told(llama, both)["message"]["content"] == "Two."


def test_other_conversations_and_ended_scripts_get_the_default_answer(
    llama: SimulatedLlama,
) -> None:
    before = told(llama, hello("something else"))
    llama.set_script("weather", PARIS)
    assert told(llama, hello("something else")) == before
    done = [*hello("weather"), *results(told(llama, hello("weather"), tools=[WEATHER])["message"])]
    assert told(llama, done, tools=[WEATHER])["finish_reason"] == "stop"
    llama.clear()
    assert told(llama, hello("weather"), tools=[WEATHER])["finish_reason"] == "stop"


@pytest.mark.parametrize("body", [{}, {"tools": [WEATHER], "tool_choice": "none"}])
def test_nothing_is_called_where_nothing_may_be(llama: SimulatedLlama, body: Json) -> None:
    llama.set_script("weather", PARIS | say("A title"))
    assert content(stream(llama.url, messages=hello("weather"), **body)) == "A title"


def test_a_tool_that_is_not_offered_is_named(llama: SimulatedLlama) -> None:
    llama.set_script("weather", call("write", path="a"))
    answer = told(llama, hello("weather"), tools=[WEATHER])["message"]
    assert answer["content"] == "write not offered, only get_weather"


@pytest.mark.parametrize("step", [{}, {"calls": 1}, {"calls": [{}]}, {"shout": "text"}])
def test_a_wrong_step_is_refused(llama: SimulatedLlama, step: Json) -> None:
    with pytest.raises(SandboxError):
        llama.set_script("weather", step)
