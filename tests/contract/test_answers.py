"""The running gateway's answers match its document in every field."""

from typing import Any

import pytest

from promptly.openapi import OPERATIONS
from promptly.openapi.operation import Operation
from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import CHAT, Client, sim
from tests.contract.contract import Contract

WITH_BODY = [each for each in OPERATIONS if each.body is not None]
WITH_EVENTS = [each for each in OPERATIONS if each.event is not None]
WITHOUT_BODY = [each for each in OPERATIONS if each.body is None]


def name_of(operation: Operation) -> str:
    return operation.name


def path_of(operation: Operation) -> str:
    """Return the operation's path with an example for each parameter."""
    return operation.path.format(name="sim-model")


@pytest.fixture(autouse=True)
def as_new(llama: SimulatedLlama) -> None:
    llama.clear()


@pytest.mark.parametrize("operation", WITHOUT_BODY, ids=name_of)
def test_answers_to_get(client: Client, contract: Contract, operation: Operation) -> None:
    answer = client.call(operation.method.upper(), path_of(operation))
    assert answer.status == 200
    contract.check(operation.method, operation.path, answer)


@pytest.mark.parametrize("operation", WITH_BODY, ids=name_of)
def test_the_example_of_a_body(client: Client, contract: Contract, operation: Operation) -> None:
    assert operation.example is not None
    answer = client.call("POST", operation.path, dict(operation.example))
    assert answer.status == 200
    contract.check("post", operation.path, answer)


@pytest.mark.parametrize("operation", WITH_EVENTS, ids=name_of)
def test_the_example_streamed(client: Client, contract: Contract, operation: Operation) -> None:
    assert operation.example is not None
    answer = client.call("POST", operation.path, {**operation.example, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert len(answer.parts) > 2
    contract.check("post", operation.path, answer)


TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]
CHATS: dict[str, dict[str, Any]] = {
    "with its usage": {"stream_options": {"include_usage": True}},
    "with thoughts": {"messages": sim("think=3")},
    "with tool calls": {"messages": sim("tool=2"), "tools": TOOLS},
    "with log probabilities": {"logprobs": True, "top_logprobs": 3},
    "cut off": {"max_tokens": 1},
    "beginning inside a character": {"messages": sim("first=utf8 tokens=9")},
    "with ignored fields": {"user": "me", "store": True},
}


@pytest.mark.parametrize("name", CHATS)
def test_chats(client: Client, contract: Contract, name: str) -> None:
    body = CHATS[name]
    contract.check("post", CHAT, streamed := client.stream(**body))
    assert streamed.status == 200
    whole = client.chat(**{key: body[key] for key in body if key != "stream_options"})
    assert whole.status == 200
    contract.check("post", CHAT, whole)


TEXTS: dict[str, dict[str, Any]] = {
    "with its usage": {"stream_options": {"include_usage": True}},
    "with log probabilities": {"logprobs": 2, "prompt": "once [[sim first=utf8 tokens=9]]"},
    "cut off": {"max_tokens": 1},
    "with ignored fields": {"user": "me"},
    "refused": {"prompt": [[1, 2]]},
}


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("name", TEXTS)
def test_texts(client: Client, contract: Contract, name: str, streamed: bool) -> None:
    body = {"prompt": "once", **TEXTS[name], "stream": streamed}
    if not streamed:
        body.pop("stream_options", None)
    answer = client.call("POST", "/v1/completions", body)
    assert answer.status == (400 if name == "refused" else 200)
    contract.check("post", "/v1/completions", answer)


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_vectors(client: Client, contract: Contract, encoding_format: str) -> None:
    body = {"input": "once", "encoding_format": encoding_format, "user": "me"}
    answer = client.call("POST", "/v1/embeddings", body)
    assert answer.status == 200
    contract.check("post", "/v1/embeddings", answer)
    refused = client.call("POST", "/v1/embeddings", {**body, "dimensions": 8})
    assert refused.status == 400
    contract.check("post", "/v1/embeddings", refused)


MESSAGES: dict[str, dict[str, Any]] = {
    "with thoughts": {"messages": sim("think=3")},
    "with calls": {"messages": sim("tool=2"), "tools": [{"name": "find", "input_schema": {}}]},
    "cut off": {"max_tokens": 1},
    "ended by a stop sequence": {"stop_sequences": [" "]},
    "with ignored fields": {"metadata": {"user_id": "me"}},
    "refused": {"thread": {"type": "create"}},
}


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("name", MESSAGES)
def test_messages(client: Client, contract: Contract, name: str, streamed: bool) -> None:
    body = {"messages": sim(), "max_tokens": 50, **MESSAGES[name], "stream": streamed}
    answer = client.call("POST", "/v1/messages", body)
    assert answer.status == (400 if name == "refused" else 200)
    contract.check("post", "/v1/messages", answer)


@pytest.mark.parametrize("operation", WITH_EVENTS, ids=name_of)
@pytest.mark.parametrize("fault", ["error_after", "eof_after"])
def test_a_stream_that_fails(
    client: Client, contract: Contract, llama: SimulatedLlama, operation: Operation, fault: str
) -> None:
    assert operation.example is not None
    llama.set_faults(**{fault: 2})
    answer = client.call("POST", operation.path, {**operation.example, "stream": True})
    assert answer.status == 200
    contract.check("post", operation.path, answer)


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.needs_key], ids=name_of)
def test_without_a_key(client: Client, contract: Contract, operation: Operation) -> None:
    answer = Client(client.url, "sk-wrong").call(operation.method.upper(), path_of(operation))
    assert answer.status == 401
    contract.check(operation.method, operation.path, answer)
