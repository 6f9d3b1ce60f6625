"""An answer's format beside tools: offered as a function, and its call turned back into text."""

import json
import uuid
from typing import Any

import orjson
import pytest

from promptly.gateway.dialects.responses.answer import ResponsesAnswer
from promptly.gateway.dialects.responses.answer_tool import StreamedAnswerByCall, WholeAnswerByCall
from promptly.gateway.dialects.responses.stream import ResponsesStream
from tests.gateway.dialects.responses.profile_tools import (
    SCHEMA,
    WEATHER,
    Json,
    ignored,
    parse,
    refusal,
    repeated,
    upstream,
)
from tests.gateway.dialects.responses.sdk import check_sequence, text_of, thoughts_of
from tests.gateway.dialects.responses.sdk import parse as events_of

FORM = {"type": "json_schema", "name": "city", "schema": SCHEMA, "strict": True}
TEXT = {"format": FORM}
REQUEST_ID = uuid.UUID(int=7)


def test_the_format_is_one_more_function_and_a_call_is_required() -> None:
    sent = upstream(tools=[WEATHER], text=TEXT)
    assert "response_format" not in sent
    assert sent["tool_choice"] == "required"
    weather, answer = (tool["function"] for tool in sent["tools"])
    assert weather["name"] == "get_weather"
    assert (answer["name"], answer["parameters"], answer["strict"]) == (
        "final_answer",
        SCHEMA,
        True,
    )
    found = repeated(tools=[WEATHER], text=TEXT)
    assert [tool["name"] for tool in found["tools"]] == ["get_weather"]
    assert (found["tool_choice"], found["text"]["format"]["name"]) == ("auto", "city")


def test_its_name_and_description() -> None:
    form = {**FORM, "description": "Where it is."}
    sent = upstream(tools=[{**WEATHER, "name": "final_answer"}], text={"format": form})
    answer = sent["tools"][1]["function"]
    assert answer["name"] == "final_answer_"
    assert answer["description"].endswith("Where it is.")


def test_any_json_object() -> None:
    sent = upstream(tools=[WEATHER], text={"format": {"type": "json_object"}})
    assert sent["tools"][1]["function"]["parameters"] == {"type": "object"}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "get_weather"}])
def test_a_call_that_must_be_made_has_no_format(choice: Any) -> None:
    fields = {"tools": [WEATHER], "text": TEXT, "tool_choice": choice}
    sent = upstream(**fields)
    assert len(sent["tools"]) == 1
    assert "response_format" not in sent
    assert ignored(**fields) == ("text.format",)


def test_the_format_is_weighed_with_the_tools() -> None:
    many = {"type": "object", "properties": {f"p{number}": {} for number in range(500)}}
    tools = [{**WEATHER, "parameters": many}]
    problem = refusal(tools=tools, text={"format": {**FORM, "schema": many}})
    assert problem.param == "text.format"


@pytest.mark.parametrize("fields", [{}, {"tools": [WEATHER], "tool_choice": "none"}])
def test_without_calls_the_format_stays_one(fields: Json) -> None:
    sent = upstream(text=TEXT, **fields)
    assert sent["response_format"]["json_schema"]["schema"] == SCHEMA
    assert parse(text=TEXT, **fields)[1].answer_tool == ""


def test_plain_text_is_no_format() -> None:
    sent = upstream(tools=[WEATHER], text={"format": {"type": "text"}})
    assert set(sent) == {"messages", "tools"}


def test_arguments_are_objects() -> None:
    schema = {"type": "array", "items": {"type": "string"}}
    problem = refusal(tools=[WEATHER], text={"format": {**FORM, "schema": schema}})
    assert (problem.param, problem.code) == ("text.format.schema", "unsupported_parameter")


def chunk(finish: str | None = None, **delta: Any) -> Json:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def call(index: int, arguments: str, name: str = "", call_id: str = "") -> Json:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"index": index, "function": function} | ({"id": call_id} if call_id else {})


ANSWER = [
    chunk(content=""),
    chunk(content="I know"),
    chunk(tool_calls=[call(0, "{", "final_answer", "a")]),
    chunk(tool_calls=[call(0, '"city":"Paris"')]),
    chunk(tool_calls=[call(0, "}")]),
    chunk(finish="tool_calls"),
]


def both(chunks: list[Json], **fields: Any) -> tuple[Json, Json]:
    """Return the response to these chunks, whole and as the last event of a stream."""
    echo = parse(tools=[WEATHER], text=TEXT, **fields)[1]
    whole = WholeAnswerByCall(ResponsesAnswer(REQUEST_ID, "m", echo), echo)
    stream = StreamedAnswerByCall(ResponsesStream(REQUEST_ID, "m", echo), echo)
    for each in chunks:
        whole.add(each)
    sink = stream.sink
    assert sink is not None
    data = b"".join(map(sink, chunks)) + stream.end()
    final = check_sequence(events_of(data))
    return json.loads(orjson.dumps(whole.build())), final


def test_the_call_becomes_the_text() -> None:
    for response in both(ANSWER):
        assert response["status"] == "completed"
        assert [item["type"] for item in response["output"]] == ["reasoning", "message"]
        assert json.loads(text_of(response)) == {"city": "Paris"}
        # Text in no format is what the model thought aloud.
        assert thoughts_of(response) == "I know"


def test_a_second_answer_is_dropped() -> None:
    second = [chunk(tool_calls=[call(1, "{}", "final_answer", "b")]), chunk(finish="tool_calls")]
    for response in both([*ANSWER[:-1], *second]):
        assert text_of(response) == '{"city":"Paris"}'


def weather_call(number: int) -> Json:
    return chunk(tool_calls=[call(number, "{}", "get_weather", f"w{number}")])


def answer_call(number: int) -> Json:
    return chunk(tool_calls=[call(number, "{}", "final_answer", f"a{number}")])


@pytest.mark.parametrize(
    ("first", "second", "kinds"),
    [
        (answer_call(0), weather_call(1), ["message"]),
        (weather_call(0), answer_call(1), ["function_call"]),
    ],
)
def test_the_answer_counts_as_a_call(first: Json, second: Json, kinds: list[str]) -> None:
    chunks = [first, second, chunk(finish="tool_calls")]
    for response in both(chunks, parallel_tool_calls=False):
        assert [item["type"] for item in response["output"]] == kinds
    for response in both(chunks):
        assert len(response["output"]) == 2


def test_a_call_without_a_number_is_the_first() -> None:
    chunks = json.loads(json.dumps(ANSWER))
    for each in chunks:
        for made in each["choices"][0]["delta"].get("tool_calls", ()):
            del made["index"]
    for response in both(chunks):
        assert json.loads(text_of(response)) == {"city": "Paris"}


def test_an_answer_that_is_cut_off_is_incomplete() -> None:
    for response in both([*ANSWER[:4], chunk(finish="length")]):
        assert response["status"] == "incomplete"
        assert text_of(response) == '{"city":"Paris"'


def test_other_chunks_pass() -> None:
    counts = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    for response in both([*ANSWER, counts]):
        assert response["usage"]["total_tokens"] == 7
