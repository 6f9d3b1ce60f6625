"""Requests that Schemathesis generates from the document, and the connection that sends them."""

import copy
import re
from collections import Counter
from typing import Any

import requests
import schemathesis
from schemathesis.checks import CheckContext
from schemathesis.config import SchemathesisConfig

from promptly.openapi import OPERATIONS
from tests.run import EXHAUSTIVE
from tests.support.books import Account

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
    "getUsage": "start|request_id|key",
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
