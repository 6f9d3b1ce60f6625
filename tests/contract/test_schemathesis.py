"""Ten thousand generated requests, or a sample: none fails, every answer matches the document.

Schemathesis generates them from the document: boundary values, one wrong field at a time, other
methods, random bodies. Generation is deterministic, so each run sends the same requests. All of its
checks are enabled but one, `positive_data_acceptance`: a schema cannot express every rule, and a
list of the fields concerned is stricter than accepting every 400.
"""

from typing import Any, Literal

import msgspec
import pytest
import schemathesis

from promptly.gateway.dialects.chat.request import Forwarded
from promptly.gateway.dialects.fields import Count
from promptly.gateway.dialects.sampling import Sampling
from promptly.openapi import document
from sandbox.llama import SimulatedLlama
from tests.contract.contract import closed
from tests.contract.generation import (
    CASES,
    RANDOM_REQUESTS,
    RANDOM_STREAMS,
    Case,
    Sender,
    settings,
    streaming,
)
from tests.support.books import BooksReader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DOCUMENT = closed(document("http://127.0.0.1"))
everything = schemathesis.openapi.from_dict(DOCUMENT, config=settings("all", RANDOM_REQUESTS))
streams = schemathesis.openapi.from_dict(
    streaming(DOCUMENT), config=settings("positive", RANDOM_STREAMS)
)
guarded = schemathesis.openapi.from_dict(
    DOCUMENT, config=settings("positive", 3, with_auth=True)
).include(path_regex="^/v1/")


# The gateway adds these fields to every generation request to upstream.
ADDED = {
    "stream": True,
    "stream_options": {"include_usage": True},
    "timings_per_token": True,
    "return_progress": True,
}


# Types of the bodies that upstream may get, apart from ADDED.
class SentChat(Forwarded, kw_only=True, forbid_unknown_fields=True):
    max_tokens: Count | None = None
    thinking_budget_tokens: Count | None = None
    # For messages with stop sequences.
    verbose: Literal[True] | None = None
    response_fields: list[str] | None = None


class SentText(Sampling, kw_only=True, forbid_unknown_fields=True):
    prompt: str
    max_tokens: Count
    logprobs: Count | None = None


class SentInputs(msgspec.Struct, forbid_unknown_fields=True):
    input: list[str]
    encoding_format: Literal["float", "base64"]


SENT: dict[str, tuple[type, dict[str, Any]]] = {
    "/v1/chat/completions": (SentChat, ADDED),
    "/v1/completions": (SentText, ADDED),
    "/v1/embeddings": (SentInputs, {}),
}


@everything.parametrize()
def test_requests(case: Case, sender: Sender) -> None:
    sender.send(case)


@streams.parametrize()
def test_streams(case: Case, sender: Sender) -> None:
    sender.send(case)


@guarded.parametrize()
def test_keys_are_asked_for(case: Case, sender: Sender) -> None:
    sender.send(case)


def test_upstream_got_nothing_malformed(sender: Sender, llama: SimulatedLlama) -> None:
    totals = llama.totals()
    assert totals["refused"] == 0
    assert totals["outcomes"] == {"finished": totals["requests"]}
    assert totals["requests"] > sender.streams > 0
    for record in llama.requests():
        kind, added = SENT[record["path"]]
        body = record["body"]
        assert {name: body.pop(name) for name in added} == added
        if added:
            assert {type(body.pop("id_slot")), type(body.pop("cache_prompt"))} == {int, bool}
        msgspec.convert(body, kind)


def test_the_books_are_clean(sender: Sender, books: BooksReader) -> None:
    assert books.differences() == []
    assert books.open_holds() == 0


def test_there_were_enough(sender: Sender) -> None:
    """Check the count of requests sent; meaningful only after all tests above."""
    assert sum(sender.statuses.values()) >= CASES
    assert set(sender.statuses) <= {200, 400, 401, 404, 405, 413}
