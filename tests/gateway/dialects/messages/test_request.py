"""Translation of Messages bodies: fields refused, mapped to chat's, or ignored and named."""

import json
import typing
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from promptly.errors import InvalidRequest
from promptly.gateway.chat_request import ChatRequest
from promptly.gateway.dialects.messages.body import CountBody, MessagesBody
from promptly.gateway.dialects.messages.errors import error_body
from promptly.gateway.dialects.messages.request import parse_count, parse_messages
from sandbox.llama import prompt

Json = dict[str, Any]

HELLO = [{"role": "user", "content": "hello"}]
TEXT = {"type": "text", "text": "hello"}
CALL = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": [1, "é"]}}
RESULT = {"type": "tool_result", "tool_use_id": "a", "content": "5"}
CHAT_CALL = {
    "id": "a",
    "type": "function",
    "function": {"name": "f", "arguments": '{"x":[1,"é"]}'},
}
CHAT_RESULT = {"role": "tool", "tool_call_id": "a", "content": "5"}
SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}}
TOOLS = [
    {"name": "f", "description": "d", "input_schema": SCHEMA, "strict": True},
    {"type": "custom", "name": "g", "input_schema": {}, "cache_control": {"type": "ephemeral"}},
]
FUNCTIONS = [
    {
        "type": "function",
        "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True},
    },
    {"type": "function", "function": {"name": "g", "parameters": {}}},
]
FORMAT = {"type": "json_schema", "schema": SCHEMA}
BILLING = "x-anthropic-billing-header: cc_version=2.1; cch=a1b2c;"


def body(**fields: Any) -> bytes:
    return json.dumps({"max_tokens": 50, "messages": HELLO, **fields}).encode()


def parsed(**fields: Any) -> ChatRequest:
    return parse_messages(body(**fields))[0]


def upstream(chat: ChatRequest) -> Json:
    """Return the body for counting: upstream's fields without limits and streaming."""
    sent: Json = json.loads(chat.counting_body())
    return sent


def turns(*pairs: tuple[str, Any]) -> list[Json]:
    return [{"role": role, "content": content} for role, content in pairs]


def texts(*found: str) -> list[Json]:
    return [{"type": "text", "text": text} for text in found]


@pytest.mark.parametrize(
    ("messages", "expected"),
    {
        "a string": (HELLO, HELLO),
        "one text": (turns(("user", [TEXT])), HELLO),
        "several texts": (turns(("user", texts("a", "b"))), turns(("user", texts("a", "b")))),
        "no blocks": (turns(("user", [])), turns(("user", ""))),
        "a prefilled answer": (
            turns(("user", "a"), ("assistant", "b")),
            turns(("user", "a"), ("assistant", "b")),
        ),
        "turns of one role are one": (
            turns(
                ("user", "a"),
                ("user", [TEXT]),
                ("assistant", "b"),
                ("assistant", "c"),
                ("user", "d"),
            ),
            turns(("user", texts("a", "hello")), ("assistant", texts("b", "c")), ("user", "d")),
        ),
        "a call and its result": (
            turns(("user", "a"), ("assistant", [TEXT, CALL]), ("user", [RESULT])),
            [
                *turns(("user", "a")),
                {"role": "assistant", "content": "hello", "tool_calls": [CHAT_CALL]},
                CHAT_RESULT,
            ],
        ),
        "results come before the text of their turn": (
            turns(("assistant", [CALL]), ("user", "wait"), ("user", [TEXT, RESULT, RESULT])),
            [
                {"role": "assistant", "content": "", "tool_calls": [CHAT_CALL]},
                CHAT_RESULT,
                CHAT_RESULT,
                {"role": "user", "content": texts("wait", "hello")},
            ],
        ),
        "thoughts": (
            turns(
                (
                    "assistant",
                    [
                        {"type": "thinking", "thinking": "hm", "signature": "x"},
                        {"type": "redacted_thinking", "data": "x"},
                        {"type": "thinking", "thinking": "so", "signature": ""},
                        TEXT,
                    ],
                ),
                ("user", "a"),
            ),
            [
                {"role": "assistant", "content": "hello", "reasoning_content": "hm\nso"},
                *turns(("user", "a")),
            ],
        ),
        "thoughts cut before their text": (
            turns(("assistant", [{"type": "thinking"}]), ("user", "a")),
            turns(("assistant", ""), ("user", "a")),
        ),
        "some thoughts without text": (
            turns(
                (
                    "assistant",
                    [
                        {"type": "thinking"},
                        {"type": "thinking", "thinking": "hm"},
                        {"type": "thinking", "thinking": ""},
                        {"type": "text"},
                    ],
                ),
                ("user", "a"),
            ),
            [
                {"role": "assistant", "content": "", "reasoning_content": "hm"},
                *turns(("user", "a")),
            ],
        ),
        "an answer without blocks": (
            turns(("user", "a"), ("assistant", []), ("user", "b")),
            turns(("user", "a"), ("assistant", ""), ("user", "b")),
        ),
        "an answer without content": (
            [*turns(("user", "a")), {"role": "assistant"}, *turns(("user", "b"))],
            turns(("user", "a"), ("assistant", ""), ("user", "b")),
        ),
        "nothing but hidden thoughts": (
            turns(("assistant", [{"type": "redacted_thinking", "data": "x"}]), ("user", "a")),
            turns(("assistant", ""), ("user", "a")),
        ),
        "a system message in between": (
            turns(("user", "a"), ("system", [TEXT]), ("user", "b")),
            turns(("user", "a"), ("system", "hello"), ("user", "b")),
        ),
    }.values(),
)
def test_a_conversation(messages: list[Json], expected: list[Json]) -> None:
    assert upstream(parsed(messages=messages))["messages"] == expected


@pytest.mark.parametrize(
    ("result", "content"),
    [
        ({"content": texts("a", "b")}, texts("a", "b")),
        ({"content": []}, ""),
        ({"content": None}, ""),
        ({}, ""),
        ({"content": "late", "is_error": False}, "late"),
        ({"content": "late", "is_error": True}, "Error: late"),
        ({"content": texts("a", "b"), "is_error": True}, texts("Error: a", "b")),
        ({"is_error": True}, "Error"),
    ],
)
def test_results_of_tools(result: Json, content: Any) -> None:
    block = {"type": "tool_result", "tool_use_id": "a", **result}
    messages = turns(("assistant", [CALL]), ("user", [block]))
    sent = upstream(parsed(messages=messages))["messages"]
    assert sent[1:] == [{"role": "tool", "tool_call_id": "a", "content": content}]


@pytest.mark.parametrize("parse", [parse_count, lambda sent: parse_messages(sent)[0]])
def test_parts_of_a_tools_result_that_are_not_text(parse: Callable[[bytes], ChatRequest]) -> None:
    parts = [
        TEXT,
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "x"}},
        {"type": "document", "source": {}},
        {"type": "tool_reference", "tool_name": "g"},
        {"type": "search_result", "content": []},
        {"type": "image"},
        {"type": "a, b\n"},
    ]
    block = {"type": "tool_result", "tool_use_id": "a", "content": parts}
    chat = parse(body(messages=turns(("assistant", [CALL]), ("user", [block]))))
    kinds = ["image", "document", "tool reference", "search result", "image", "content"]
    assert upstream(chat)["messages"][1]["content"] == [
        TEXT,
        *texts(*(f"[{kind} not supported by this model]" for kind in kinds)),
    ]
    if parse is not parse_count:
        names = ["image", "document", "tool_reference", "search_result", "part"]
        assert chat.ignored == tuple(f"tool_result.{name}" for name in names)


@pytest.mark.parametrize("given", ['{"x": 1', "", None, ...])
def test_an_input_that_is_no_object_becomes_an_empty_one(given: Any) -> None:
    call = {name: item for name, item in CALL.items() if name != "input"}
    if given is not ...:
        call["input"] = given
    sent = upstream(parsed(messages=turns(("assistant", [call]), ("user", [RESULT]))))
    assert sent["messages"][0]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}


@pytest.mark.parametrize(
    ("system", "messages", "content"),
    [
        ("be brief", HELLO, "be brief"),
        (texts("be", "brief"), HELLO, texts("be", "brief")),
        (None, [*turns(("system", "a")), *HELLO], "a"),
        ("be brief", [*turns(("system", "a")), *HELLO], texts("be brief", "a")),
        (texts(BILLING, "be brief"), HELLO, "be brief"),
        (f"{BILLING}\nbe brief", HELLO, "be brief"),
    ],
)
def test_the_system_prompt_comes_first(system: Any, messages: Any, content: Any) -> None:
    chat = parsed(system=system, messages=messages)
    assert upstream(chat)["messages"] == [{"role": "system", "content": content}, *HELLO]
    assert ("x-anthropic-billing-header" in chat.ignored) == (BILLING in str(system))


@pytest.mark.parametrize("system", [None, "", [], texts(""), texts(BILLING), BILLING])
def test_no_system_prompt(system: Any) -> None:
    assert upstream(parsed(system=system))["messages"] == HELLO


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"stop_sequences": ["a", "b"]},
            {
                "stop": ["a", "b"],
                "verbose": True,
                "response_fields": ["stop_type", "stopping_word"],
            },
        ),
        ({"stop_sequences": []}, {"stop": []}),
        ({"temperature": 0.7}, {"temperature": 0.7}),
        ({"top_p": 0.9}, {"top_p": 0.9}),
        ({"top_k": 40}, {"top_k": 40}),
        ({"tools": TOOLS}, {"tools": FUNCTIONS}),
        ({"tools": []}, {}),
        ({"tool_choice": {"type": "auto"}}, {"tool_choice": "auto"}),
        ({"tool_choice": {"type": "none"}}, {"tool_choice": "none"}),
        (
            {"tools": TOOLS, "tool_choice": {"type": "any"}},
            {"tools": FUNCTIONS, "tool_choice": "required"},
        ),
        (
            {"tools": TOOLS, "tool_choice": {"type": "tool", "name": "g"}},
            {"tools": FUNCTIONS[1:], "tool_choice": "required"},
        ),
        (
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
        (
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": False}},
            {"tool_choice": "auto"},
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            {"chat_template_kwargs": {"enable_thinking": True}, "thinking_budget_tokens": 2000},
        ),
        (
            {"thinking": {"type": "adaptive", "display": None}},
            {"chat_template_kwargs": {"enable_thinking": True}},
        ),
        (
            {"thinking": {"type": "disabled"}},
            {"chat_template_kwargs": {"enable_thinking": False}},
        ),
        ({"output_config": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"output_config": {"effort": "max"}}, {"reasoning_effort": "high"}),
        *(
            (
                fields,
                {
                    "response_format": {
                        "type": "json_schema",
                        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
                    }
                },
            )
            for fields in ({"output_config": {"format": FORMAT}}, {"output_format": FORMAT})
        ),
    ],
)
def test_fields_in_a_chats_words(fields: Json, expected: Json) -> None:
    chat = parsed(**fields)
    assert upstream(chat) == {"messages": HELLO, **expected}
    assert chat.ignored == (("cache_control",) if fields.get("tools") else ())


def test_a_prefilled_answer() -> None:
    thoughts = {"type": "thinking", "thinking": "hm", "signature": ""}
    messages = [*HELLO, *turns(("assistant", [thoughts, *texts("We", "ll")]))]
    chat, prefill = parse_messages(body(messages=messages))
    assert prefill == "Well"
    sent = upstream(chat)
    assert sent["messages"] == [*HELLO, {"role": "assistant", "content": "Well"}]
    # A prefilled answer is continued without thinking, as at Anthropic.
    assert sent["chat_template_kwargs"] == {"enable_thinking": False}
    # An empty system turn does not end the prefilled answer.
    silent = turns(("assistant", "We"), ("system", ""), ("assistant", "ll"), ("system", []))
    assert parse_messages(body(messages=[*HELLO, *silent]))[1] == "Well"
    sent = upstream(parsed(messages=messages, thinking={"type": "adaptive"}))
    assert sent["chat_template_kwargs"] == {"enable_thinking": True}


def test_the_limit_and_the_stream() -> None:
    chat = parsed(stream=True, max_tokens=7)
    assert (chat.stream, chat.max_tokens, chat.include_usage) == (True, 7, True)
    assert not parsed(stream=None).stream


def test_null_means_absent() -> None:
    nothing = dict.fromkeys(set(MessagesBody.__struct_fields__) - {"messages", "max_tokens"})
    chat = parsed(**nothing, container=None, mcp_servers=None, metadata=None)
    assert upstream(chat) == {"messages": HELLO}
    assert chat.ignored == ()


def test_fields_without_effect_are_named() -> None:
    chat = parsed(
        model="any",
        metadata={"user_id": "x"},
        service_tier="auto",
        thinking={"type": "adaptive", "display": "omitted"},
        betas=["x"],
        container=None,
        mcp_servers=[],
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        system=[{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
        messages=turns(("user", 'a "cache_control" in a text is none')),
    )
    assert chat.ignored == (
        "metadata",
        "service_tier",
        "betas",
        "mcp_servers",
        "context_management",
        "thinking.display",
        "cache_control",
    )
    assert set(upstream(chat)) == {"messages", "chat_template_kwargs"}
    assert parsed(messages=turns(("user", '"cache_control"'))).ignored == ()


def block(**fields: Any) -> bytes:
    """Return a body with this as the second block of the first message."""
    return body(messages=turns(("user", [TEXT, fields])))


REFUSED: dict[str, tuple[bytes, str | None]] = {
    "no JSON": (b"{", None),
    "an array": (b"[]", None),
    "a key twice": (b'{"max_tokens": 1, "max_tokens": 2}', "max_tokens"),
    "no limit": (json.dumps({"messages": HELLO}).encode(), "max_tokens"),
    "limit zero": (body(max_tokens=0), "max_tokens"),
    "no messages": (b'{"max_tokens": 5}', "messages"),
    "empty messages": (body(messages=[]), "messages"),
    "nothing but an empty system message": (body(messages=turns(("system", ""))), "messages"),
    "another role": (body(messages=turns(("developer", "a"))), "messages[0].role"),
    "no content": (body(messages=[{"role": "user"}]), "messages[0].content"),
    "a number as content": (body(messages=turns(("user", 5))), "messages[0].content"),
    "image": (block(type="image", source={}), "messages[0].content[1]"),
    "document": (block(type="document", source={}), "messages[0].content[1]"),
    "unknown block": (block(type="x"), "messages[0].content[1]"),
    "block without type": (block(text="a"), "messages[0].content[1].type"),
    "a call by the user": (block(**CALL), "messages[0].content[1]"),
    "a result by the assistant": (
        body(messages=turns(("assistant", [RESULT]))),
        "messages[0].content[0]",
    ),
    "a part of a result without text": (
        block(type="tool_result", tool_use_id="a", content=[{"type": "text"}]),
        "messages[0].content[1].content[0].text",
    ),
    "result without id": (block(type="tool_result"), "messages[0].content[1].tool_use_id"),
    "calls without results": (
        body(messages=[*HELLO, *turns(("assistant", [TEXT, CALL]))]),
        "messages[1]",
    ),
    "a list as input": (
        body(messages=turns(("assistant", [{**CALL, "input": []}]))),
        "messages[0].content[0].input",
    ),
    "NaN in a call's input": (
        b'{"max_tokens":5,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":'
        b'[{"type":"tool_use","id":"a","name":"f","input":{"x":[1,NaN]}}]}]}',
        "messages[1].content[0].input.x[1]",
    ),
    "image in the system prompt": (body(system=[{"type": "image"}]), "system[0]"),
    "server tool": (
        body(tools=[*TOOLS, {"type": "web_search_20250305", "name": "web_search"}]),
        "tools[2]",
    ),
    "tool of Anthropic's": (body(tools=[{"type": "bash_20250124", "name": "bash"}]), "tools[0]"),
    "tool without schema": (body(tools=[{"name": "f"}]), "tools[0].input_schema"),
    "choice without tools": (body(tool_choice={"type": "any"}), "tool_choice"),
    "choice of no tool": (
        body(tools=TOOLS, tool_choice={"type": "tool", "name": "h"}),
        "tool_choice.name",
    ),
    "unknown choice": (body(tool_choice={"type": "x"}), "tool_choice.type"),
    "thinking without budget": (body(thinking={"type": "enabled"}), "thinking.budget_tokens"),
    "another format": (
        body(output_config={"format": {"type": "xml"}}),
        "output_config.format.type",
    ),
    "another effort": (body(output_config={"effort": "none"}), "output_config.effort"),
    "container": (body(container="x"), "container"),
    "servers": (body(mcp_servers=[{"url": "x"}]), "mcp_servers"),
    "a kept conversation": (body(thread={"type": "create"}), "thread"),
    "cutting the context": (
        body(context_management={"edits": [{"type": "clear_tool_uses_20250919"}]}),
        "context_management.edits[0].type",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_naming_the_field(name: str) -> None:
    sent, param = REFUSED[name]
    with pytest.raises(InvalidRequest) as refusal:
        parse_messages(sent)
    assert refusal.value.status == 400
    assert refusal.value.param == param
    assert 10 < len(refusal.value.message) < 300
    assert param is None or param.split(".")[0].split("[")[0] in refusal.value.message


@pytest.mark.parametrize(
    ("name", "path", "word"),
    [
        ("image", "messages.0.content.1: ", "'image'"),
        ("a part of a result without text", "messages.0.content.1.content.0.text: ", "Missing"),
        ("server tool", "tools.2: ", "'web_search_20250305'"),
        ("no limit", "max_tokens: ", "Missing"),
        ("NaN in a call's input", "messages.1.content.0.input.x.1: ", "number"),
    ],
)
def test_the_path_as_anthropic_writes_it(name: str, path: str, word: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse_messages(REFUSED[name][0])
    error = error_body(refusal.value)["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(path)
    assert word in error["message"]
    assert "[" not in error["message"]


@pytest.mark.parametrize("name", sorted(MessagesBody.__struct_fields__))
def test_a_wrong_type_is_refused_in_every_known_field(name: str) -> None:
    kind = str(typing.get_type_hints(MessagesBody, include_extras=True)[name])
    wrong = 5 if "int" not in kind and "float" not in kind else "no number"
    with pytest.raises(InvalidRequest) as refusal:
        parsed(**{name: wrong})
    assert refusal.value.param == name


def test_counting_needs_no_limit_and_gives_the_same_prompt() -> None:
    fields = {
        "system": "be brief",
        "messages": turns(("user", "a"), ("assistant", [CALL]), ("user", [RESULT])),
        "tools": TOOLS,
        "thinking": {"type": "enabled", "budget_tokens": 2000},
    }
    assert upstream(parse_count(json.dumps(fields).encode())) == upstream(parsed(**fields))
    assert {field.name for field in msgspec.structs.fields(CountBody)} > set(fields)


@pytest.mark.parametrize("name", ["image", "server tool", "container", "no messages"])
def test_counting_refuses_the_same(name: str) -> None:
    sent, param = REFUSED[name]
    with pytest.raises(InvalidRequest) as refusal:
        parse_count(sent)
    assert refusal.value.param == param


def test_the_bound_is_at_least_the_prompt() -> None:
    messages = turns(*[("user", "é🌍" * 50), ("assistant", [CALL]), ("user", [RESULT, TEXT])] * 50)
    chat = parsed(messages=messages, tools=TOOLS, system=texts("a", "b"))
    assert chat.prompt_bound >= len(prompt.template(upstream(chat)).encode())
