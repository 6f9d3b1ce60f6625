"""The waiting requests of one API key, in all processes, with their places."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from promptly.gateway.slots.alone import in_order
from promptly.gateway.slots.key_index import Entry, KeyIndex, entry_of
from promptly.gateway.slots.local_queue import LocalQueue
from promptly.gateway.slots.places import Places
from promptly.gateway.slots.requests import Place
from promptly.gateway.upstream import Upstream
from promptly.runtime.redis_client import RedisUnavailable

MOST_LISTED = 100

# Returns the servers of a queue by its name.
Servers = Callable[[str], list[Upstream]]


@dataclass(frozen=True, slots=True)
class QueuedRequest:
    """A waiting request of a key, its place, and how long it has waited."""

    entry: Entry
    place: Place
    waiting_seconds: int


def read(
    key_id: int, index: KeyIndex, places: Places, queues: Iterable[LocalQueue], servers: Servers
) -> list[QueuedRequest]:
    """Return the waiting requests of a key, the next one first, MOST_LISTED at most.

    Requests appear once they have waited for about a second. While Redis is away, they are those
    of this process.
    """
    try:
        found = _in_redis(index.read(key_id), places, servers)
    except RedisUnavailable:
        found = [item for queue in queues for item in _of_this_process(key_id, queue, servers)]
    now = time.time()
    listed = [
        QueuedRequest(entry, place, max(int(now - entry.queued_at), 0)) for entry, place in found
    ]
    listed.sort(key=lambda item: (item.place.position, item.entry.queued_at))
    return listed[:MOST_LISTED]


def _in_redis(entries: list[Entry], places: Places, servers: Servers) -> list[tuple[Entry, Place]]:
    by_queue: dict[str, list[Entry]] = {}
    for entry in entries:
        by_queue.setdefault(entry.queue, []).append(entry)
    found = []
    for queue, members in by_queue.items():
        names = [upstream.name for upstream in servers(queue)]
        looked_up = places.find(queue, [entry.waiting for entry in members], names)
        found += [
            (entry, place)
            for entry, place in zip(members, looked_up, strict=True)
            if place is not None
        ]
    return found


def _of_this_process(key_id: int, queue: LocalQueue, servers: Servers) -> list[tuple[Entry, Place]]:
    upstreams = servers(queue.name)
    model = upstreams[0].model if upstreams else ""
    return [
        (entry_of(queue.name, model, item), Place(position, None))
        for position, item in enumerate(in_order(queue), 1)
        if item.origin is not None and item.origin.key_id == key_id
    ]
