"""A conversation with calls, translated to chat messages."""

from typing import Any

import pytest

from promptly.gateway.dialects.responses.items import HOSTED_TYPES, OUTPUT_TYPES
from promptly.gateway.dialects.responses.profile import TOOLS
from tests.gateway.dialects.responses.profile_tools import Json, ignored, messages, refusal

USER = {"role": "user", "content": "weather?"}
SAID = {"role": "assistant", "content": "let me see"}
SHELL: Json = {"type": "local_shell_call", "id": "lsh_1", "call_id": "s", "action": {}}
THOUGHT: Json = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None}


def call(number: int, arguments: Any = "{}", **fields: Any) -> Json:
    return {
        "type": "function_call",
        "id": f"fc_{number}",
        "call_id": f"c{number}",
        "name": "get_weather",
        "arguments": arguments,
        "status": "completed",
        **fields,
    }


def output(number: int, content: Any) -> Json:
    return {"type": "function_call_output", "call_id": f"c{number}", "output": content}


def called(*numbers: int, content: Any = "", arguments: str = "{}") -> Json:
    function = {"name": "get_weather", "arguments": arguments}
    calls = [{"id": f"c{number}", "type": "function", "function": function} for number in numbers]
    return {"role": "assistant", "content": content, "tool_calls": calls}


def result(number: int, content: Any) -> Json:
    return {"role": "tool", "tool_call_id": f"c{number}", "content": content}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([call(1), output(1, "sun")], [called(1), result(1, "sun")]),
        (
            [THOUGHT, SAID, THOUGHT, call(1), output(1, "")],
            [called(1, content="let me see"), result(1, "")],
        ),
        (
            [call(1), call(2), output(2, "rain"), output(1, "sun")],
            [called(1, 2), result(1, "sun"), result(2, "rain")],
        ),
        (
            [call(1), output(1, "sun"), call(2), output(2, "rain")],
            [called(1), result(1, "sun"), called(2), result(2, "rain")],
        ),
        ([call(1)], [called(1), result(1, "[no output]")]),
        (
            [call(1), call(2), output(2, "rain"), USER],
            [called(1, 2), result(1, "[no output]"), result(2, "rain"), USER],
        ),
        # Text after the calls belongs to the same turn; what others say does not.
        (
            [SAID, call(1), {"role": "assistant", "content": "and"}, output(1, "sun")],
            [
                called(
                    1,
                    content=[
                        {"type": "text", "text": "let me see"},
                        {"type": "text", "text": "and"},
                    ],
                ),
                result(1, "sun"),
            ],
        ),
        ([call(1), USER, output(1, "sun")], [called(1), result(1, "sun"), USER]),
        # An earlier message of the assistant stays one of its own.
        ([SAID, SAID, call(1)], [SAID, called(1, content="let me see"), result(1, "[no output]")]),
        ([SAID, SAID], [SAID, SAID]),
        # Answers cut before their text, and an output of nothing, as some clients keep them.
        (
            [
                {"type": "message", "role": "assistant"},
                {"role": "assistant", "content": None},
                {"role": "assistant", "content": [{"type": "output_text"}]},
                {"role": "assistant", "content": [{"type": "refusal"}]},
                USER,
            ],
            [{"role": "assistant", "content": ""}] * 4 + [USER],
        ),
        (
            [{"type": "message", "role": "assistant"}, call(1), output(1, None), USER],
            [called(1), result(1, ""), USER],
        ),
        (
            [call(1), {"type": "function_call_output", "call_id": "c1"}],
            [called(1), result(1, "")],
        ),
        # Some clients count calls anew in each turn.
        (
            [call(1), output(1, "sun"), USER, call(1), output(1, "rain")],
            [called(1), result(1, "sun"), USER, called(1), result(1, "rain")],
        ),
    ],
)
def test_calls_and_their_results(items: list[Json], expected: list[Json]) -> None:
    assert messages(USER, *items) == [USER, *expected]


def test_the_input_may_begin_with_a_call() -> None:
    assert messages(call(1), output(1, "sun")) == [called(1), result(1, "sun")]


@pytest.mark.parametrize("arguments", ['{"city": "Par', " ", "", None, "null", "[]", "5"])
def test_arguments_that_are_no_object_become_an_empty_one(arguments: Any) -> None:
    assert messages(call(1, arguments), output(1, "x"))[0] == called(1)


def test_arguments_that_are_an_object_stay_as_they_are() -> None:
    text = '{ "city": "Par\\u00eds" }'
    assert messages(call(1, text), output(1, "x"))[0] == called(1, arguments=text)
    item = call(1)
    del item["arguments"]
    assert messages(item, output(1, "x"))[0] == called(1)


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        ([], ""),
        (None, ""),
        ([{"type": "input_text", "text": "sun"}], "sun"),
        (
            [{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b"}],
            [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        ),
    ],
)
def test_outputs_of_text(content: list[Json], sent: Any) -> None:
    assert messages(call(1), output(1, content))[1] == result(1, sent)
    assert ignored(input=[call(1), output(1, content)]) == ()


def test_parts_of_an_output_that_are_no_text() -> None:
    parts = [
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
        {"type": "input_text", "text": "a screenshot"},
        {"type": "input_file", "file_id": "file_1"},
        {"type": "input_image", "image_url": "data:image/png;base64,BBBB"},
    ]
    items = [call(1), output(1, parts)]
    assert [part["text"] for part in messages(*items)[1]["content"]] == [
        "[image not supported by this model]",
        "a screenshot",
        "[file not supported by this model]",
        "[image not supported by this model]",
    ]
    assert ignored(input=items) == (
        "function_call_output.input_image",
        "function_call_output.input_file",
    )
    image = {"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}
    problem = refusal(input=[image])
    assert (problem.param, problem.code) == ("input[0].content[0]", "unsupported_parameter")


def test_calls_of_other_tools_of_the_client() -> None:
    action = {"type": "exec", "command": ["ls", "-l"]}
    found = messages(
        {"type": "custom_tool_call", "call_id": "a", "name": "apply_patch", "input": '*** "x"\n'},
        {"type": "local_shell_call", "call_id": "b", "action": action, "status": "completed"},
        {"type": "custom_tool_call_output", "call_id": "a", "output": "done"},
        {"type": "function_call_output", "call_id": "b", "output": "total 0"},
    )
    assert [made["function"] for made in found[0]["tool_calls"]] == [
        {"name": "apply_patch", "arguments": '{"input":"*** \\"x\\"\\n"}'},
        {"name": "local_shell", "arguments": '{"type":"exec","command":["ls","-l"]}'},
    ]
    assert [message["content"] for message in found[1:]] == ["done", "total 0"]


@pytest.mark.parametrize("reference", [{"id": "lsh_1"}, {"id": "s"}, {"id": "x", "call_id": "s"}])
def test_results_of_commands_name_the_call_by_either_id(reference: Json) -> None:
    image = {"type": "input_image", "image_url": "data:"}
    result = {"type": "local_shell_call_output", **reference, "output": [image]}
    found = messages(SHELL, result)
    assert found[1]["tool_call_id"] == "s"
    assert found[1]["content"] == "[image not supported by this model]"
    assert ignored(input=[SHELL, result]) == ("local_shell_call_output.input_image",)


def test_every_call_that_is_accepted_can_have_its_result() -> None:
    ours = [kind for kind in TOOLS.item_types if kind.endswith("_call")]
    outputs = {f"{kind}_output" for kind in ours if kind not in HOSTED_TYPES}
    assert outputs == set(OUTPUT_TYPES)


def test_calls_that_openai_ran_are_left_out_and_named() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    items = [USER, search, SAID, {**search, "type": "file_search_call"}, search, USER]
    assert messages(*items) == [USER, SAID, USER]
    assert ignored(input=items) == ("input.web_search_call", "input.file_search_call")
    assert refusal(input=[search]).param == "input"


@pytest.mark.parametrize(
    ("items", "param"),
    [
        ([output(1, "sun")], "input[0].call_id"),
        ([call(1), output(1, "sun"), output(1, "rain")], "input[2].call_id"),
        ([call(1), USER, output(2, "sun"), output(3, "rain")], "input[2].call_id"),
        ([SHELL, {"type": "local_shell_call_output", "id": "x", "output": ""}], "input[1].call_id"),
        ([SHELL, {"type": "local_shell_call_output", "output": ""}], "input[1].call_id"),
        ([call(1), output(1, {"a": 5})], "input[1].output"),
        ([call(1), output(1, [{"type": "input_text"}])], "input[1].output[0].text"),
        ([call(1), output(1, ["sun"])], "input[1].output[0]"),
        ([call(1), {"type": "function_call_output", "output": "x"}], "input[1].call_id"),
        ([call(1, call_id="")], "input[0].call_id"),
        ([call(1, name=None)], "input[0].name"),
        ([{"type": "function_call", "call_id": "c"}], "input[0].name"),
        ([{"role": "user"}], "input[0].content"),
        ([{"role": "user", "content": None}], "input[0].content"),
    ],
)
def test_wrong_items_are_refused_naming_the_field(items: list[Json], param: str) -> None:
    assert refusal(input=items).param == param


def test_a_reference_needs_no_type() -> None:
    problem = refusal(input=[USER, {"id": "msg_1"}, {"id": "msg_2", "type": None}])
    assert (problem.param, problem.code) == ("input[1]", "unsupported_parameter")
    assert "store: false" in problem.message
    assert refusal(input=[{"content": "x"}]).param == "input[0].role"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("item_reference", "store: false"),
        ("compaction", "only message, reasoning, function_call"),
        ("computer_call", "only message, reasoning, function_call"),
        ("mcp_call", "only message, reasoning, function_call"),
    ],
)
def test_other_items_are_refused(kind: str, reason: str) -> None:
    problem = refusal(input=[USER, {"type": kind, "id": "x_1"}])
    assert (problem.param, problem.code) == ("input[1]", "unsupported_parameter")
    assert kind in problem.message and reason in problem.message
