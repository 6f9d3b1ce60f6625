"""Ten thousand generated requests, or a sample: none fails, every answer matches the document.

Schemathesis generates them from the document: boundary values, one wrong field at a time, other
methods, random bodies. Generation is deterministic, so each run sends the same requests. All of its
checks are enabled but one, `positive_data_acceptance`: a schema cannot express every rule, and a
list of the fields concerned is stricter than accepting every 400.
"""

import copy
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
import pytest
import requests
import schemathesis
from schemathesis.checks import CheckContext
from schemathesis.config import SchemathesisConfig

from promptly.gateway.dialects.chat.request import Forwarded
from promptly.gateway.dialects.fields import Count
from promptly.gateway.dialects.sampling import Sampling
from promptly.openapi import OPERATIONS, document
from sandbox.llama import SimulatedLlama
from tests.contract.contract import closed
from tests.run import EXHAUSTIVE
from tests.support.books import Account, BooksReader
from tests.support.servers import Gateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Case = schemathesis.Case[Any]

# Exhaustive: boundary values, some hundreds for a large body, plus random requests.
CASES, RANDOM_REQUESTS, RANDOM_STREAMS = (10_000, 320, 350) if EXHAUSTIVE else (600, 45, 45)

# Fields whose rules involve other fields: a body valid under its schema may still be refused.
EXCUSED = {
    "createChatCompletion": (
        "(top_)?logprobs|stream_options|tool_choice|response_format\\.json_schema"
    ),
    "createResponse": "input",
    "createCompletion": "stream_options",
    "createMessage": r"messages(\.\d+)?|tool_choice(\.name)?",
    "getUsage": "start|request_id",
    "getModel": "model",
}
EXCUSED["countChatTokens"] = EXCUSED["createChatCompletion"]
EXCUSED["countResponseTokens"] = EXCUSED["createResponse"]
EXCUSED["countMessageTokens"] = EXCUSED["createMessage"]


def settings(modes: str, examples: int, *, with_auth: bool = False) -> SchemathesisConfig:
    # Answers contain ids and times, so they must not influence later requests.
    alone = {"extra-data-sources": {"responses": False}}
    return SchemathesisConfig.from_dict(
        {
            "warnings": False,
            # Read streams to their end; the default stops after twenty events.
            "max-stream-events": 1_000_000,
            "generation": {
                "mode": modes,
                "deterministic": True,
                "no-shrink": True,
                "max-examples": examples,
                "with-security-parameters": False,
            },
            "phases": {
                "examples": alone,
                "coverage": {**alone, "enabled": EXHAUSTIVE and not with_auth},
                "fuzzing": {**alone, "error-feedback": {"enabled": False}},
            },
            "checks": {
                "positive_data_acceptance": {"enabled": False},
                # Costs two more requests per case, so only a few cases of each route use it.
                "ignored_auth": {"enabled": with_auth},
            },
        }
    )


def streaming(whole: dict[str, Any]) -> dict[str, Any]:
    """Return the document reduced to routes that can stream, with bodies that require it."""
    described = copy.deepcopy(whole)
    paths = [each.path for each in OPERATIONS if each.event is not None]
    described["paths"] = {path: described["paths"][path] for path in paths}
    for operations in described["paths"].values():
        content = operations["post"]["requestBody"]["content"]["application/json"]
        name = content["schema"]["$ref"].rpartition("/")[2]
        body = described["components"]["schemas"][name]
        body["properties"]["stream"] = {"const": True}
        body["required"] = [*body["required"], "stream"]
        content.pop("example")
    return described


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


class Sender:
    """Send cases on a keep-alive connection, check the answers and count them."""

    def __init__(self, url: str, account: Account) -> None:
        self.statuses: Counter[int] = Counter()
        self.streams = 0
        self.session = requests.Session()
        self.session.trust_env = False
        self._url = url
        self._headers = account.headers

    def send(self, case: Case) -> None:
        """Send one case; fail if its answer violates the document."""
        response = case.call_and_validate(
            base_url=self._url,
            session=self.session,
            headers=self._headers,
            additional_checks=[takes_what_is_valid],
        )
        self.statuses[response.status_code] += 1
        self.streams += "text/event-stream" in response.headers["content-type"][0]


def takes_what_is_valid(ctx: CheckContext, response: Any, case: Case) -> None:
    """Fail if a request valid under the document is refused, except for a rule in `EXCUSED`."""
    if case.meta is None or case.meta.generation.mode.name != "POSITIVE":
        return
    if response.status_code == 200:
        return
    operation = case.operation
    error = response.json()["error"]
    # In Anthropic's error shape the message starts with the field's path.
    param = error.get("param", error["message"].partition(":")[0]) or ""
    rules = EXCUSED.get(operation.definition.raw["operationId"], "")
    if not re.fullmatch(rules, param):
        raise AssertionError(f"{operation.label}: {response.status_code} for {param!r}")


@pytest.fixture(scope="module")
def sender(gateway: Gateway, account: Account) -> Iterator[Sender]:
    made = Sender(gateway.url, account)
    yield made
    made.session.close()


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
        msgspec.convert(body, kind)


def test_the_books_are_clean(sender: Sender, books: BooksReader) -> None:
    assert books.differences() == []
    assert books.open_holds() == 0


def test_there_were_enough(sender: Sender) -> None:
    """Check the count of requests sent; meaningful only after all tests above."""
    assert sum(sender.statuses.values()) >= CASES
    assert set(sender.statuses) <= {200, 400, 401, 404, 405, 413}
