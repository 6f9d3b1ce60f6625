"""Keeps the places of this process's waiting requests up to date, and lists them by their keys."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from promptly.gateway.slots.alone import in_order
from promptly.gateway.slots.key_index import RENEW_SECONDS, KeyIndex
from promptly.gateway.slots.local_queue import LocalQueue
from promptly.gateway.slots.places import Places, Waiting
from promptly.gateway.slots.requests import Place, SlotRequest
from promptly.gateway.upstream import Upstream
from promptly.runtime.redis_client import RedisUnavailable

# Most requests get a slot before that.
FIRST_SECONDS = 0.5
REFRESH_SECONDS = 1.0
# In one call; with more waiting in one process they take turns.
MOST_REQUESTS = 50


@dataclass(slots=True)
class _Round:
    """When the places of a queue are due again (monotonic), and whose are first then."""

    due_at: float = 0.0
    first: int = 0


class PlaceRefresher:
    """Looks up places for one process; the scheduler's thread is its only caller."""

    def __init__(self, places: Places, index: KeyIndex) -> None:
        self._places = places
        self._index = index
        self._rounds: dict[str, _Round] = {}

    def refresh(self, queue: LocalQueue, upstreams: Sequence[Upstream]) -> None:
        """Look up the places of a queue's requests, if they are due.

        While Redis does not answer, they stay as they are.
        """
        items = self._due(queue)
        if not items:
            return
        requests = [
            Waiting(item.id, item.service_class, item.lane(), item.account) for item in items
        ]
        now = time.monotonic()
        unlisted = [item for item in items if now - item.listed_at >= RENEW_SECONDS]
        try:
            places = self._places.find(queue.name, requests, [up.name for up in upstreams])
            if unlisted:
                self._index.add(queue.name, upstreams[0].model if upstreams else "", unlisted)
        except RedisUnavailable:
            return
        for item, place in zip(items, places, strict=True):
            if place is not None:
                item.place = place
        for item in unlisted:
            item.listed_at = now

    def refresh_alone(self, queue: LocalQueue) -> None:
        """Number this process's requests in the order in which it admits them by itself."""
        if self._due(queue):
            for position, item in enumerate(in_order(queue), 1):
                item.place = Place(position, None)

    def _due(self, queue: LocalQueue) -> list[SlotRequest]:
        if not queue.waiting:
            return []
        now = time.monotonic()
        turn = self._rounds.setdefault(queue.name, _Round())
        if now < turn.due_at:
            return []
        waiting = list(queue.waiting.values())
        due = [item for item in waiting if item.waited_us() >= FIRST_SECONDS * 1_000_000]
        if not due:
            return []
        turn.due_at = now + REFRESH_SECONDS
        first = turn.first % len(due)
        chosen = (due[first:] + due[:first])[:MOST_REQUESTS]
        turn.first = first + len(chosen)
        return chosen
