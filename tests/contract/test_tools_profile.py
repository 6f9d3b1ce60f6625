"""Generated requests to Responses under RESPONSES_PROFILE=tools, as in `test_schemathesis.py`."""

from typing import Any

import pytest
import schemathesis

from promptly.openapi import document
from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import Client, sim
from tests.contract import generation
from tests.contract.contract import Contract, closed
from tests.contract.generation import (
    RANDOM_REQUESTS,
    RANDOM_STREAMS,
    Case,
    Sender,
    settings,
    streaming,
)
from tests.support.books import BooksReader
from tests.support.servers import Gateway
from tests.support.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Rules that concern two fields at once.
EXCUSED = (
    r"input(\[\d+\]\.call_id)?|include\[\d+\]|tools(\[\d+\]\.type)?|tool_choice"
    r"|text\.format\.schema|top_logprobs"
)

DOCUMENT = closed(document("http://127.0.0.1", "tools"))
RESPONSES = "^/v1/responses"
everything = schemathesis.openapi.from_dict(
    DOCUMENT, config=settings("all", RANDOM_REQUESTS)
).include(path_regex=RESPONSES)
streams = schemathesis.openapi.from_dict(
    streaming(DOCUMENT), config=settings("positive", RANDOM_STREAMS)
).include(path_regex=RESPONSES)


@pytest.fixture(scope="module")
def gateway(stack: Stack, running_llama: SimulatedLlama) -> Gateway:
    running_llama.clear()
    return stack.gateway(
        running_llama.url,
        INFERENCE_IP_RATE_LIMIT=10_000_000,
        INFERENCE_USER_RATE_LIMIT=10_000_000,
        RESPONSES_PROFILE="tools",
    )


@pytest.fixture(autouse=True)
def excused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("createResponse", "countResponseTokens"):
        monkeypatch.setitem(generation.EXCUSED, name, EXCUSED)


PARAMETERS = {"type": "object", "properties": {"text": {"const": "once upon a time"}}}
FIND = {"type": "function", "name": "find", "parameters": PARAMETERS}
FORM = {"type": "json_schema", "name": "found", "schema": {"type": "object"}}
CALLS: dict[str, dict[str, Any]] = {
    "in parallel": {},
    "of a named function": {"tool_choice": {"type": "function", "name": "find"}},
    "after thoughts": {"input": sim("think=3 tool=2")},
    "cut off": {"max_output_tokens": 15},
    "beside a format": {"text": {"format": FORM}},
    "beside tools that are left out": {"tools": [FIND, {"type": "web_search"}]},
    "that failed": {"input": sim("tool=2 error_after=15")},
}


# Generated requests rarely make the simulator call a tool.
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("name", CALLS)
def test_calls(client: Client, contract: Contract, name: str, streamed: bool) -> None:
    body = {"input": sim("tool=2"), "tools": [FIND], **CALLS[name], "stream": streamed}
    answer = client.call("POST", "/v1/responses", body)
    assert answer.status == (502 if name == "that failed" and not streamed else 200)
    assert answer.status == 502 or b"function_call" in answer.body
    contract.check("post", "/v1/responses", answer)


@everything.parametrize()
def test_requests(case: Case, sender: Sender) -> None:
    sender.send(case)


@streams.parametrize()
def test_streams(case: Case, sender: Sender) -> None:
    sender.send(case)


def test_upstream_refused_nothing(sender: Sender, running_llama: SimulatedLlama) -> None:
    totals = running_llama.totals()
    assert totals["refused"] == 0
    assert totals["requests"] > 0
    assert set(sender.statuses) <= {200, 400, 401, 404, 405, 413}


def test_the_books_are_clean(sender: Sender, books: BooksReader) -> None:
    assert books.differences() == []
    assert books.open_holds() == 0
