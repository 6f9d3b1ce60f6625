"""The slots of all servers, and the accounts that wait for one, as an operator sees them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import orjson

from promptly.gateway.slots.exchange import FOLDER, queue_key
from promptly.runtime.redis_client import HotPathRedis

LEASES_PREFIX, STATE_PREFIX = "promptly:slots:", "promptly:slots2:"

# Of one server, and accounts of each class of one queue.
MOST_SLOTS = 256
MOST_ACCOUNTS = 50

BUSY, IDLE, UNSETTLED = "busy", "idle", "unsettled"


@dataclass(frozen=True)
class SlotState:
    """A slot; `number` is None where the server chose it.

    `account` runs a request in it, for `busy_seconds`. `owner` is the account whose conversation it
    keeps: `cached_tokens` of it, begun `conversation_seconds` ago.
    """

    number: int | None
    state: str
    account: int | None = None
    service_class: str | None = None
    busy_seconds: float | None = None
    owner: int | None = None
    cached_tokens: int | None = None
    conversation_seconds: float | None = None


@dataclass(frozen=True)
class ServerState:
    """A server's slots; with `named` false it is only counted, and its idle ones are not known.

    `running` are the requests that have a place there, of releases before this one too.
    """

    running: int
    named: bool
    prompt_tokens_per_second: float | None
    slots: list[SlotState]

    def count(self, state: str) -> int:
        """Return the number of slots in a state."""
        return sum(slot.state == state for slot in self.slots)


@dataclass(frozen=True)
class WaitingAccount:
    """An account with waiting requests; `longest_seconds` is how long the first one has waited."""

    account: int
    service_class: str
    waiting: int
    running: int
    longest_seconds: float


@dataclass(frozen=True)
class SlotReport:
    """Servers by name; `waiting` counts all requests that wait, `accounts` has those with most."""

    servers: dict[str, ServerState] = field(default_factory=dict)
    waiting: int = 0
    accounts: list[WaitingAccount] = field(default_factory=list)

    def account_ids(self) -> set[int]:
        """Return the ids of all accounts in the report."""
        slots = [slot for server in self.servers.values() for slot in server.slots]
        found = {slot.account for slot in slots} | {slot.owner for slot in slots}
        return {item for item in found if item is not None} | {
            waiting.account for waiting in self.accounts
        }


def read_report(redis: HotPathRedis, upstreams: Iterable[str], queues: Iterable[str]) -> SlotReport:
    """Read the present state in one step; raises RedisUnavailable."""
    names = list(dict.fromkeys(upstreams))
    request = {
        "servers": names,
        "queues": [queue_key(queue) for queue in queues],
        "most_slots": MOST_SLOTS,
        "most_accounts": MOST_ACCOUNTS,
    }
    script = redis.script(_source())
    answer = orjson.loads(script([LEASES_PREFIX, STATE_PREFIX], [orjson.dumps(request)]))
    servers = {entry["name"]: _server(entry) for entry in answer["servers"] or ()}
    running = Counter(slot.account for server in servers.values() for slot in server.slots)
    found = answer["queues"] or ()
    accounts = [
        WaitingAccount(
            int(entry["account"]),
            entry["class"],
            entry["waiting"],
            running[int(entry["account"])],
            entry["longest_ms"] / 1000,
        )
        for queue in found
        for entry in queue["accounts"] or ()
    ]
    return SlotReport(servers, sum(queue["length"] for queue in found), accounts)


@cache
def _source() -> str:
    return "\n".join((FOLDER / f"{part}.lua").read_text() for part in ("fields", "report"))


def _server(entry: dict[str, Any]) -> ServerState:
    slots = [
        *(_slot(int(number), slot) for number, slot in dict(entry["slots"]).items()),
        *(_slot(None, slot) for slot in entry["unnamed"] or ()),
    ]
    slots.sort(key=lambda slot: (slot.number is None, slot.number or 0))
    token_us = entry["token_us"]
    speed = 1_000_000 / token_us if token_us > 0 else None
    return ServerState(entry["running"], entry["named"], speed, slots)


def _slot(number: int | None, entry: dict[str, Any]) -> SlotState:
    state = IDLE if entry.get("idle") else UNSETTLED if entry.get("unsettled") else BUSY
    owner = entry.get("owner")
    return SlotState(
        number=number,
        state=state,
        account=int(entry["account"]) if state == BUSY else None,
        service_class=entry.get("class"),
        busy_seconds=_seconds(entry.get("busy_ms")),
        owner=None if owner is None else int(owner),
        cached_tokens=entry.get("tokens"),
        conversation_seconds=_seconds(entry.get("age_ms")),
    )


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else max(milliseconds, 0) / 1000
