"""Generated requests to Responses under RESPONSES_PROFILE=tools, as in `test_schemathesis.py`."""

import pytest
import schemathesis

from promptly.openapi import document
from sandbox.llama import SimulatedLlama
from tests.contract import generation
from tests.contract.contract import closed
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
