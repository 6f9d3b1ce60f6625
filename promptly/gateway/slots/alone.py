"""Admits requests while Redis is away: each process for itself, servers' queues take the rest."""

from collections.abc import Iterator

from promptly.gateway.slots.local_queue import LocalQueue
from promptly.gateway.slots.requests import Lease, ServiceClass, SlotRequest
from promptly.gateway.upstream import Upstream

_ORDER = list(ServiceClass)


def admit(
    queue: LocalQueue, upstreams: list[Upstream], max_queued: int
) -> Iterator[tuple[SlotRequest, Lease | None]]:
    """Yield requests with their leases, or with None where the queue is full.

    Servers choose the slots: other processes may use them too.
    """
    used: dict[str, int] = {}
    for holder in queue.held.values():
        if holder.lease is not None:
            name = holder.lease.upstream.name
            used[name] = used.get(name, 0) + 1
    for place, slot_request in enumerate(in_order(queue)):
        free = [
            upstream
            for upstream in upstreams
            if upstream.name not in slot_request.avoided
            and upstream.slots > used.get(upstream.name, 0)
        ]
        if free:
            best = max(free, key=lambda upstream: upstream.slots - used.get(upstream.name, 0))
            used[best.name] = used.get(best.name, 0) + 1
            yield slot_request, Lease(best)
        elif place >= max_queued:
            yield slot_request, None


def in_order(queue: LocalQueue) -> list[SlotRequest]:
    """Return the waiting requests in the order in which they are admitted."""
    # A copy first: other threads add requests meanwhile.
    waiting = list(queue.waiting.values())
    return sorted(waiting, key=lambda item: _ORDER.index(item.service_class))
