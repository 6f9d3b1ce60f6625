"""Waiting requests by their API keys, in Redis, so that any process can list those of one key.

The process that a request waits in adds it once it has waited for a moment, and again while it
waits. Entries of requests that have left expire; readers ask the queue which still wait.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from promptly.gateway.slots.exchange import FOLDER
from promptly.gateway.slots.places import Waiting
from promptly.gateway.slots.requests import SlotRequest
from promptly.request_ids import public_id
from promptly.runtime.redis_client import HotPathRedis

_PREFIX = "promptly:slots2:waiting_of:"
RENEW_SECONDS = 10.0
KEPT_MS = 30_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A waiting request of a key; `queued_at` is in seconds since the epoch."""

    queue: str
    waiting: Waiting
    request_id: str
    endpoint: str
    model: str
    queued_at: float


class KeyIndex:
    """Adds waiting requests to the index, and reads them."""

    def __init__(self, redis: HotPathRedis) -> None:
        self._redis = redis
        self._script = redis.script((FOLDER / "index.lua").read_text())

    def add(self, queue: str, model: str, requests: Iterable[SlotRequest]) -> None:
        """List requests of this process, for KEPT_MS; raises RedisUnavailable."""
        entries = [
            (item.origin.key_id, orjson.dumps(_packed(entry_of(queue, model, item))).decode())
            for item in requests
            if item.origin is not None
        ]
        if entries:
            self._script([_PREFIX], [orjson.dumps(entries), KEPT_MS])

    def read(self, key_id: int) -> list[Entry]:
        """Return the entries of a key, those that do not wait any more included.

        Raises RedisUnavailable.
        """
        members = self._redis.command("ZRANGE", f"{_PREFIX}{key_id}", 0, -1)
        entries = [_unpacked(member) for member in members]
        # One that was added again may differ, in its lane.
        return list({entry.waiting.id: entry for entry in entries}.values())


def entry_of(queue: str, model: str, item: SlotRequest) -> Entry:
    """Describe a request of this process; it must have an origin."""
    if item.origin is None:
        raise ValueError("nobody knows whose request it is")
    waiting = Waiting(item.id, item.service_class, item.lane(), item.account)
    request_id, endpoint = public_id(item.origin.request_id), item.origin.endpoint
    queued_at = round(time.time() - item.waited_us() / 1_000_000, 1)
    return Entry(queue, waiting, request_id, endpoint, model, queued_at)


def _packed(entry: Entry) -> list[object]:
    waiting = entry.waiting
    return [
        *(entry.queue, waiting.id, waiting.service_class, waiting.lane, waiting.account),
        *(entry.request_id, entry.endpoint, entry.model, entry.queued_at),
    ]


def _unpacked(member: bytes) -> Entry:
    queue, identity, service_class, lane, account, *rest = orjson.loads(member)
    return Entry(queue, Waiting(identity, service_class, lane, account), *rest)
