"""Backends for the clients under test: a gateway, its upstream, and upstream's own counts."""

import re
import uuid
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Protocol

import urllib3

from promptly.request_ids import public_id
from sandbox.llama import SimulatedLlama
from sandbox.real_llama import RealLlama
from tests.blueprints.v1.client import Client
from tests.support.books import Account, BooksReader, wait_for
from tests.support.servers import Gateway

FUNDS_TOKENS = 1_000_000

Event = dict[str, Any]
Counts = tuple[int, int]  # prompt tokens, completion tokens


def total(rows: list[Counts]) -> Counts:
    """Return the sums of both counts."""
    prompts, completions = zip(*rows, strict=True) if rows else ((), ())
    return sum(prompts), sum(completions)


class Upstream(Protocol):
    """A model server and its own token counts."""

    def begin(self) -> None:
        """Start counting."""

    def check(self, events: list[Event]) -> None:
        """Fail unless these usage events match exactly the counts since `begin`."""


@dataclass(frozen=True)
class Backend:
    """A gateway in front of a model server; `name` is "simulator" or "real"."""

    name: str
    gateway: Gateway
    books: BooksReader
    upstream: Upstream

    @property
    def base_url(self) -> str:
        """The base URL for clients, including `/v1`."""
        return f"{self.gateway.url}/v1"

    def account(self) -> Account:
        """Create an account with ample funds."""
        return self.books.account(paid_tokens=FUNDS_TOKENS)

    def reckon(self, account: Account) -> None:
        """Fail unless the account was charged upstream's counts since `begin`.

        The account's usage events, their receipts, the daily totals and the balance must agree.
        """
        wait_for(lambda: not self.books.open_holds(account), "all requests settled")
        events = self.books.events(account)
        self.upstream.check(events)
        client = Client(self.gateway.url, account.key)
        for event in events:
            assert event["uncharged_tokens"] == 0
            assert event["charged_tokens"] == event["prompt_tokens"] + event["completion_tokens"]
            request_id = public_id(uuid.UUID(str(event["request_id"])))
            receipt = client.get(f"/v1/usage?request_id={request_id}").json
            for field in ("prompt_tokens", "completion_tokens", "charged_tokens", "outcome"):
                assert receipt[field] == event[field], field
        charged = sum(event["charged_tokens"] for event in events)
        days = client.get("/v1/usage").json["data"]
        assert sum(day["requests"] for day in days) == len(events)
        assert sum(day["charged_tokens"] for day in days) == charged
        balance = client.get("/v1/balance").json
        assert balance["available_tokens"] == FUNDS_TOKENS - charged


class SimulatedUpstream:
    """The simulator, which records each generation."""

    # At these paths one request, hence one event, may be several requests to upstream.
    _SUMMED = {"/v1/completions": "completions", "/v1/embeddings": "embeddings"}

    def __init__(self, server: SimulatedLlama) -> None:
        self.server = server

    def begin(self) -> None:
        self.server.clear()

    def check(self, events: list[Event]) -> None:
        """Fail unless each generation with output has one event with exactly its counts."""
        wait_for(
            lambda: all(record["ended_at"] for record in self.server.requests()), "idle simulator"
        )
        counted: dict[str, list[Counts]] = defaultdict(list)
        for record in self.server.requests():
            if record["completion_tokens"] or record["outcome"] == "finished":
                endpoint = self._SUMMED.get(record["path"], "chat")
                counted[endpoint].append((record["prompt_tokens"], record["completion_tokens"]))
        charged: dict[str, list[Counts]] = defaultdict(list)
        for event in events:
            if event["charged_tokens"]:
                endpoint = event["endpoint"]
                endpoint = endpoint if endpoint in self._SUMMED.values() else "chat"
                charged[endpoint].append((event["prompt_tokens"], event["completion_tokens"]))
        assert sorted(charged.pop("chat", [])) == sorted(counted.pop("chat", []))
        assert {name: total(rows) for name, rows in charged.items()} == {
            name: total(rows) for name, rows in counted.items()
        }


class RealUpstream:
    """A llama-server, which keeps only totals and so must not serve other tests concurrently."""

    _PROMPT = ("prompt_tokens_total", "prompt_tokens_cached_total")
    _COMPLETION = "tokens_predicted_total"

    def __init__(self, *servers: RealLlama) -> None:
        self.servers = servers
        self._before = (0, 0)

    def begin(self) -> None:
        # A request of an earlier test may still run, and counts only when it ends.
        wait_for(lambda: not any(map(self._is_busy, self.servers)), "idle llama-servers")
        self._before = self._totals()

    def check(self, events: list[Event]) -> None:
        """Fail unless the events add up to the servers' own totals."""
        prompt, completion = self._totals()
        counted = (prompt - self._before[0], completion - self._before[1])
        assert (
            total([(event["prompt_tokens"], event["completion_tokens"]) for event in events])
            == counted
        )

    def _totals(self) -> Counts:
        return total([self._counted(server) for server in self.servers])

    def _counted(self, server: RealLlama) -> Counts:
        answer = self._get(server, "/metrics")
        found = dict(re.findall(r"^llamacpp:(\w+) (\d+)", answer.data.decode(), re.MULTILINE))
        return sum(int(found[name]) for name in self._PROMPT), int(found[self._COMPLETION])

    def _is_busy(self, server: RealLlama) -> bool:
        return any(slot["is_processing"] for slot in self._get(server, "/slots").json())

    def _get(self, server: RealLlama, path: str) -> urllib3.BaseHTTPResponse:
        headers = {"Authorization": f"Bearer {server.api_key}"}
        return urllib3.request("GET", server.url + path, headers=headers)
