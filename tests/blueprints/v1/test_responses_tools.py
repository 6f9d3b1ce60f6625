"""/v1/responses with RESPONSES_PROFILE=tools on a running gateway."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest
from openai.types.responses import ResponseFunctionToolCall

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import Client
from tests.blueprints.v1.test_responses import COUNT, RESPONSES, STREAMED, check_charge, final, sim
from tests.gateway.dialects.responses.sdk import text_of
from tests.support.books import Account, BooksReader
from tests.support.servers import Gateway

Json = dict[str, Any]

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER: Json = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": True}
TIME: Json = {"type": "function", "name": "get_time", "parameters": SCHEMA, "strict": True}
TOOLS = [WEATHER, TIME]


@pytest.fixture
def tools_client(tools_gateway: Gateway, llama: SimulatedLlama, account: Account) -> Client:
    return Client(tools_gateway.url, account.key)


@pytest.fixture
def sdk(tools_gateway: Gateway, account: Account) -> Iterator[openai.OpenAI]:
    url = f"{tools_gateway.url}/v1"
    with openai.OpenAI(base_url=url, api_key=account.key, max_retries=0) as client:
        yield client


def ask(client: Client, directives: str, **body: Any) -> Json:
    fields = {"input": sim(directives), "tools": TOOLS, **body}
    return final(client.call("POST", RESPONSES, fields))


def calls_of(response: Json) -> list[Json]:
    return [item for item in response["output"] if item["type"] == "function_call"]


@STREAMED
def test_calls_in_parallel_and_their_charge(
    tools_client: Client, books: BooksReader, account: Account, streamed: bool
) -> None:
    response = ask(tools_client, "tool=2", stream=streamed)
    assert response["status"] == "completed"
    first, second = response["output"]
    assert [first["name"], second["name"]] == ["get_weather", "get_time"]
    for call in (first, second):
        assert call["status"] == "completed"
        assert set(json.loads(call["arguments"])) == {"city"}
    assert first["call_id"] != second["call_id"]
    assert [tool["name"] for tool in response["tools"]] == ["get_weather", "get_time"]
    [event] = books.wait_for_events(account, 1)
    check_charge(event, response)


@STREAMED
def test_the_output_is_sent_back_with_the_results(
    tools_client: Client, llama: SimulatedLlama, streamed: bool
) -> None:
    question = {"role": "user", "content": sim("tool=2 think=3")}
    response = ask(tools_client, "", input=[question], stream=streamed)
    calls = calls_of(response)
    results = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": f"{number} degrees"}
        for number, call in enumerate(calls)
    ]
    follow_up = {"role": "user", "content": sim("tag=two tokens=4 tool=0")}
    turns = [question, *response["output"], *reversed(results), follow_up]
    again = ask(tools_client, "", input=turns, stream=streamed)
    assert text_of(again)
    sent = llama.request("two")["body"]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool", "user"]
    assert [made["id"] for made in sent[1]["tool_calls"]] == [call["call_id"] for call in calls]
    assert [message["content"] for message in sent[2:4]] == ["0 degrees", "1 degrees"]


@STREAMED
def test_a_call_that_is_cut_off_can_be_sent_back(tools_client: Client, streamed: bool) -> None:
    response = ask(tools_client, "tool=1", max_output_tokens=15, stream=streamed)
    assert response["status"] == "incomplete"
    [call] = calls_of(response)
    assert call["status"] == "incomplete"
    with pytest.raises(json.JSONDecodeError):
        json.loads(call["arguments"])
    turns = [*response["output"], {"role": "user", "content": sim("tokens=4 tool=0")}]
    assert ask(tools_client, "", input=turns, stream=streamed)["status"] == "completed"


@STREAMED
def test_one_call_at_a_time(tools_client: Client, llama: SimulatedLlama, streamed: bool) -> None:
    response = ask(tools_client, "tool=2 tag=one", parallel_tool_calls=False, stream=streamed)
    assert [call["name"] for call in calls_of(response)] == ["get_weather"]
    assert response["parallel_tool_calls"] is False
    assert llama.request("one")["body"]["parallel_tool_calls"] is False


@STREAMED
def test_a_named_function(tools_client: Client, streamed: bool) -> None:
    choice = {"type": "function", "name": "get_time"}
    response = ask(tools_client, "", tool_choice=choice, stream=streamed)
    assert [call["name"] for call in calls_of(response)] == ["get_time"]
    assert response["tool_choice"] == choice


def test_other_tools_are_left_out(tools_client: Client, llama: SimulatedLlama) -> None:
    body: Json = {"input": sim("tag=some tool=1"), "tools": [{"type": "web_search"}, WEATHER]}
    body["client_metadata"] = {"originator": "agent"}
    answer = tools_client.call("POST", RESPONSES, body)
    assert final(answer)["tools"] == [{**WEATHER, "description": None}]
    assert answer.headers["x-promptly-ignored"] == "client_metadata, tools.web_search"
    assert len(llama.request("some")["body"]["tools"]) == 1


@STREAMED
def test_a_format_beside_tools(tools_client: Client, streamed: bool) -> None:
    text = {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}}
    # The simulator calls the functions in their order; the answer's is the last one.
    response = ask(tools_client, "tool=3", text=text, stream=streamed)
    assert [call["name"] for call in calls_of(response)] == ["get_weather", "get_time"]
    assert set(json.loads(text_of(response))) == {"city"}
    only = ask(tools_client, "", text=text, tool_choice="none", stream=streamed)
    assert set(json.loads(text_of(only))) == {"city"}


def test_counting(tools_client: Client, books: BooksReader, account: Account) -> None:
    body = {"input": sim("tool=1"), "tools": TOOLS}
    counted = tools_client.call("POST", COUNT, body).json["input_tokens"]
    response = final(tools_client.call("POST", RESPONSES, body))
    assert response["usage"]["input_tokens"] == counted
    assert counted > tools_client.call("POST", COUNT, {"input": "hello"}).json["input_tokens"]


def test_refusals_of_upstream_name_the_fields_of_responses(tools_client: Client) -> None:
    answer = tools_client.call("POST", RESPONSES, {"input": sim("status=400"), "tools": TOOLS})
    assert (answer.status, answer.error["param"]) == (400, "input")
    assert "'tools'" in answer.error["message"]


def test_the_profile_of_text_names_the_variable(client: Client) -> None:
    for path in (RESPONSES, COUNT):
        answer = client.call("POST", path, {"input": "hello", "tools": TOOLS})
        assert (answer.status, answer.error["param"]) == (400, "tools")
        assert answer.error["code"] == "unsupported_parameter"
        assert "RESPONSES_PROFILE=tools" in answer.error["message"]


class Place(pydantic.BaseModel):
    city: str


def test_the_sdk_parses_calls_and_answers(sdk: openai.OpenAI) -> None:
    function: Any = openai.pydantic_function_tool(Place, name="get_weather")
    parsed = sdk.responses.parse(model="any", input=sim("tool=1"), tools=[function])
    [call] = parsed.output
    assert call.type == "function_call"
    assert isinstance(call.parsed_arguments, Place)
    answer = sdk.responses.parse(
        model="any", input=sim("tool=2"), tools=[function], text_format=Place
    )
    assert isinstance(answer.output_parsed, Place)


def test_the_sdks_stream_helper(sdk: openai.OpenAI) -> None:
    tools: Any = TOOLS
    with sdk.responses.stream(model="any", input=sim("tool=2"), tools=tools) as stream:
        snapshots = {
            event.output_index: event.snapshot
            for event in stream
            if event.type == "response.function_call_arguments.delta"
        }
        response = stream.get_final_response()
    calls = [item for item in response.output if isinstance(item, ResponseFunctionToolCall)]
    assert [call.arguments for call in calls] == [snapshots[0], snapshots[1]]
