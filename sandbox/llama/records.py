"""Records of what the simulator did for each request, as ground truth for charges."""

import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

KEPT_RECORDS = 20_000
KEPT_BODY_BYTES = 128 * 1024 * 1024


@dataclass(slots=True)
class Record:
    """One request for a generation or for embeddings.

    ``completion_tokens`` is the last count whose bytes were written to the socket before a
    disconnect was noticed; ``completion_generated`` is the count generated internally.
    ``named_slot`` is the slot that it named, if it did, and ``named_busy`` whether another request
    was running there; ``slot`` is the one that it ran in, ``cached_prompt_tokens`` what it found
    there of its prompt, ``owner`` the name that it gave, and ``reused_from`` the owner of what it
    found, if another.
    ``outcome``: queued, running, finished, client_closed, fault, rejected or crashed.
    """

    path: str
    headers: dict[str, str]
    body: Any
    body_bytes: int
    tag: str = ""
    owner: str = ""
    named_slot: int | None = None
    named_busy: bool = False
    slot: int | None = None
    cached_prompt_tokens: int = 0
    reused_from: str = ""
    stream: bool = False
    prompt_tokens: int = 0
    processed_prompt_tokens: int = 0
    completion_tokens: int = 0
    completion_generated: int = 0
    outcome: str = "queued"
    started_at: float = field(default_factory=time.time)
    slot_at: float | None = None
    ended_at: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return all fields, for the control route."""
        return {name: getattr(self, name) for name in self.__slots__}


class Records:
    """The latest records; bodies of old ones are dropped to bound memory."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque()
        self._with_body: deque[Record] = deque()
        self._body_bytes = 0
        self.totals = Totals()

    def add(self, record: Record) -> None:
        """Store the record of a new request."""
        self._records.append(record)
        if len(self._records) > KEPT_RECORDS:
            self._records.popleft()
        self._with_body.append(record)
        self._body_bytes += record.body_bytes
        while self._body_bytes > KEPT_BODY_BYTES:
            oldest = self._with_body.popleft()
            self._body_bytes -= oldest.body_bytes
            oldest.body = None
        self.totals.requests += 1

    def end(self, record: Record, outcome: str) -> None:
        """Record how a request ended."""
        record.outcome = outcome
        record.ended_at = time.time()
        totals = self.totals
        totals.outcomes[outcome] = totals.outcomes.get(outcome, 0) + 1
        totals.prompt_tokens += record.processed_prompt_tokens
        totals.cached_prompt_tokens += min(
            record.cached_prompt_tokens, record.processed_prompt_tokens
        )
        totals.completion_tokens += record.completion_tokens
        totals.completion_generated += record.completion_generated

    def list(self, tag: str = "") -> "list[dict[str, Any]]":
        """Return the records, oldest first: all, or those with one tag."""
        return [record.as_json() for record in self._records if not tag or record.tag == tag]

    def save(self, file: Path) -> None:
        """Write all records except their bodies to a file, for the process after a crash.

        Those of running requests end as they are, as "crashed".
        """
        now = time.time()
        crashed = {"outcome": "crashed", "ended_at": now}
        kept = [
            record.as_json() | {"body": None} | ({} if record.ended_at else crashed)
            for record in self._records
        ]
        file.write_bytes(orjson.dumps(kept))

    def restore(self, file: Path) -> None:
        """Take over the records of a process that has crashed, if there are any; once."""
        if file.exists():
            self._records.extend(Record(**values) for values in orjson.loads(file.read_bytes()))
            file.unlink()

    def clear(self) -> None:
        """Forget all records and totals."""
        self._records.clear()
        self._with_body.clear()
        self._body_bytes = 0
        self.totals = Totals()


@dataclass(slots=True)
class Totals:
    """Sums since the start or the last clear; tokens and outcomes count when a request ends.

    ``refused`` counts the error answers of every route, not only of generations, and ``counted``
    the prompts that were only counted. ``named_busy`` counts requests that named a slot in which
    another was running, ``foreign_reuse`` those that found another owner's prompt and used it.
    ``loads`` counts how often a router loaded a model on request.
    """

    requests: int = 0
    counted: int = 0
    refused: int = 0
    loads: int = 0
    named_busy: int = 0
    foreign_reuse: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    completion_generated: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
