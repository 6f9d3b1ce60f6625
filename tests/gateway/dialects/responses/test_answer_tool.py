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
    sent = upstream(tools=[WEATHER], text=TEXT, tool_choice=choice)
    assert len(sent["tools"]) == 1
    assert "response_format" not in sent


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


def both(chunks: list[Json]) -> tuple[Json, Json]:
    """Return the response to these chunks, whole and as the last event of a stream."""
    echo = parse(tools=[WEATHER], text=TEXT)[1]
    whole = WholeAnswerByCall(ResponsesAnswer(REQUEST_ID, "m", echo), echo.answer_tool)
    stream = StreamedAnswerByCall(ResponsesStream(REQUEST_ID, "m", echo), echo.answer_tool)
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


def test_an_answer_that_is_cut_off_is_incomplete() -> None:
    for response in both([*ANSWER[:4], chunk(finish="length")]):
        assert response["status"] == "incomplete"
        assert text_of(response) == '{"city":"Paris"'


def test_other_chunks_pass() -> None:
    counts = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    for response in both([*ANSWER, counts]):
        assert response["usage"]["total_tokens"] == 7
