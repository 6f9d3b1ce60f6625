"""Grants each request a slot, fairly across all processes and machines.

An upstream gets only as many requests as it has slots; more would wait inside it without a sign
of life. One thread per process exchanges with Redis for all its requests: whatever is requested,
released or due for renewal during one exchange goes into the next, so a busy process needs far
less than one call per request. Who is next is decided by the script.
"""

import itertools
import math
import secrets
import threading
import time
from typing import Any

from promptly.gateway.chat_request import ChatRequest
from promptly.gateway.fatal_bodies import FatalBodies
from promptly.gateway.prefix_chain import PrefixLink
from promptly.gateway.slots import alone, key_listing
from promptly.gateway.slots.exchange import Exchange, Message, Terms, snapshot
from promptly.gateway.slots.idle_looks import IdleLooks
from promptly.gateway.slots.key_index import KeyIndex
from promptly.gateway.slots.key_listing import QueuedRequest
from promptly.gateway.slots.local_queue import LocalQueue
from promptly.gateway.slots.occupancy import Occupancy, read_occupancy
from promptly.gateway.slots.place_refresher import PlaceRefresher
from promptly.gateway.slots.places import Places
from promptly.gateway.slots.report import SlotReport, read_report
from promptly.gateway.slots.requests import (
    ANY_SLOT,
    NONE,
    Lease,
    RequestOrigin,
    ServiceClass,
    SlotRequest,
)
from promptly.gateway.slots.states import StateReader, States
from promptly.gateway.upstream import EMBEDDINGS_PATH, Upstream
from promptly.gateway.upstreams import UpstreamPool
from promptly.runtime import request_metrics
from promptly.runtime.redis_client import HotPathRedis, RedisUnavailable

RENEW_SECONDS = 3.0
# From the beginning of one exchange to the next: a busy process reports and asks for several
# requests at once, because an exchange costs Redis half as much for itself as for three of them.
PACE_SECONDS = 0.004
POLL_SECONDS = 0.05
# While Redis is away: its breaker stays open for a second.
RETRY_SECONDS = 1.0

GENERATION, EMBEDDINGS = "generation", "embeddings"


def queue_name(path: str, model: str) -> str:
    """Return the name of the queue in which requests to `path` wait for `model`."""
    kind = EMBEDDINGS if path == EMBEDDINGS_PATH else GENERATION
    return f"{kind}:{model}" if model else kind


class SlotScheduler:
    """Grants the upstreams' slots to this process's requests."""

    def __init__(
        self, redis: HotPathRedis, pool: UpstreamPool, fatal_bodies: FatalBodies, terms: Terms
    ) -> None:
        self._redis = redis
        self._pool = pool
        self._fatal_bodies = fatal_bodies
        self._max_queued = terms.max_queued
        self._process = secrets.token_hex(6)
        self._numbers = itertools.count()
        self._exchange_with_redis = Exchange(redis, self._process, terms)
        self._looks = IdleLooks(pool, self._report)
        self._states = StateReader(redis)
        self._places = Places(redis, terms)
        self._key_index = KeyIndex(redis)
        self._place_refresher = PlaceRefresher(self._places, self._key_index)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        # The process is about to end: nothing may be put off.
        self._is_ending = False
        # Until when the thread sleeps unless it is woken (monotonic).
        self._sleeps_until = math.inf
        self._exchanged_at = -PACE_SECONDS
        # One for each model and kind of request: in a shared queue, requests that wait for one kind
        # of server would block the free slots of the other kind.
        self._queues: dict[str, LocalQueue] = {}

    def request(
        self,
        account: int,
        path: str = "",
        *,
        model: str = "",
        service_class: ServiceClass = ServiceClass.PAYING,
        avoided: frozenset[str] = NONE,
        prompt_tokens: int = 1,
        chain: tuple[PrefixLink, ...] = (),
        origin: RequestOrigin | None = None,
    ) -> SlotRequest:
        """Queue for a slot of a server that holds the `model`; without a name, of any server.

        Raises UpstreamUnavailable when no upstream is ready, UnsupportedEndpoint when none serves
        the path.
        """
        ready = self._pool.require(path, model)
        others = {up.name for up in self._servers(path, model) if up not in ready}
        slot_request = SlotRequest(
            f"{self._process}.{next(self._numbers)}",
            account,
            path,
            model,
            service_class,
            avoided | others if others else avoided,
            prompt_tokens,
            chain,
            origin,
        )
        with self._lock:
            self._queue(path, model).waiting[slot_request.id] = slot_request
            self._start()
        self._wake.set()
        return slot_request

    def release(self, slot_request: SlotRequest, *, settled: bool = True) -> None:
        """Release the slot or leave the queue; idempotent.

        Unless it is `settled`, the server may still be busy with the request: the slot is given on
        once `/slots` says that it is idle.
        """
        with self._lock:
            queue = self._queue(slot_request.path, slot_request.model)
            if queue.held.pop(slot_request.id, None) is not None:
                queue.end(slot_request, settled=settled, at_once=self._is_ending)
                if self._sleeps_until <= queue.end_at:
                    # The thread wakes in time.
                    return
            elif queue.waiting.pop(slot_request.id, None) is not None:
                queue.quit.add(slot_request.id)
        self._wake.set()

    def report_at_once(self) -> None:
        """Put no report off any more, as the process is about to end."""
        with self._lock:
            self._is_ending = True
            for queue in self._queues.values():
                queue.end_at = 0.0
        self._wake.set()

    def held(self) -> int:
        """Return the number of slots that this process holds."""
        return sum(len(queue.held) for queue in list(self._queues.values()))

    def occupancy(self) -> Occupancy:
        """Return what all processes together run and queue now; raises RedisUnavailable."""
        return read_occupancy(self._redis, self._upstream_names(), self._queue_names())

    def report(self) -> SlotReport:
        """Return the slots of all servers and those who wait for one; raises RedisUnavailable."""
        return read_report(self._redis, self._upstream_names(), self._queue_names())

    def states(self) -> States:
        """Return slots by state and waiting requests by class; raises RedisUnavailable."""
        return self._states.read(self._upstream_names(), self._queue_names())

    def of_key(self, key_id: int) -> list[QueuedRequest]:
        """Return the requests of an API key that wait for a slot, in all processes."""
        return key_listing.read(
            key_id, self._key_index, self._places, list(self._queues.values()), self._named
        )

    def _upstream_names(self) -> list[str]:
        return [up.name for up in self._pool.upstreams if not up.is_router]

    def _queue_names(self) -> set[str]:
        """Return the names of all queues; other processes know the same models."""
        models = {up.model for up in self._pool.upstreams if up.model}
        names = {queue_name(path, model) for path in ("", EMBEDDINGS_PATH) for model in models}
        return names.union(self._queues)

    def _named(self, name: str) -> list[Upstream]:
        """Return the ready upstreams of the queue of this name."""
        kind, _, model = name.partition(":")
        return self._servers(EMBEDDINGS_PATH if kind == EMBEDDINGS else "", model)

    def _queue(self, path: str, model: str) -> LocalQueue:
        """Return a model's queue, after making it if need be; the caller holds the lock."""
        name = queue_name(path, model)
        queue = self._queues.get(name)
        if queue is None:
            known = {up.model for up in self._pool.upstreams}
            gone = [
                other.name
                for other in self._queues.values()
                if other.model not in known and other.is_idle and other.look_at is None
            ]
            for other in gone:
                del self._queues[other]
            queue = LocalQueue(name, model, counted=path == EMBEDDINGS_PATH)
            self._queues[name] = queue
        return queue

    def _servers(self, path: str, model: str) -> list[Upstream]:
        """Return the ready upstreams of a queue, as last probed.

        Some may lack the path, but serve others of the queue.
        """
        common = EMBEDDINGS_PATH if path == EMBEDDINGS_PATH else ChatRequest.path
        return [
            up
            for up in self._pool.upstreams
            if up.takes_requests and (not model or up.model == model) and up.serves(common)
        ]

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="slots", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                seconds = self._pause()
                self._sleeps_until = time.monotonic() + (math.inf if seconds is None else seconds)
            self._wake.wait(seconds)
            early = self._exchanged_at + PACE_SECONDS - time.monotonic()
            if early > 0 and not self._is_ending:
                time.sleep(early)
            self._wake.clear()
            self._exchanged_at = time.monotonic()
            for queue in list(self._queues.values()):
                self._exchange(queue)

    def _pause(self) -> float | None:
        """Return how long nothing is to be done unless something happens; None: for ever."""
        queues = list(self._queues.values())
        pauses = [queue.look_at - time.monotonic() for queue in queues if queue.look_at is not None]
        if any(queue.waiting or queue.to_renew for queue in queues):
            pauses.append(POLL_SECONDS)
        held = any(queue.held for queue in queues)
        if any(queue.quit or (held and queue.resync) for queue in queues):
            pauses.append(RETRY_SECONDS)
        pauses += [queue.end_at - time.monotonic() for queue in queues if queue.released]
        if held:
            pauses.append(RENEW_SECONDS)
        return max(min(pauses), 0.0) if pauses else None

    def _exchange(self, queue: LocalQueue) -> None:
        with self._lock:
            if queue.is_idle and queue.look_at is None:
                return
            if self._has_time(queue):
                return
            paths = {slot_request.path for slot_request in queue.waiting.values()}
        for path in paths:
            # Never waiting for a server: requests for other models may have theirs.
            self._pool.refresh(path, queue.model)
        upstreams = self._servers(EMBEDDINGS_PATH if queue.counted else "", queue.model)
        began_at = time.monotonic()
        with self._lock:
            queue.rejoin_without({up.name for up in upstreams})
            renewing = began_at - queue.renewed_at >= RENEW_SECONDS
            message = snapshot(queue, upstreams, renewing=renewing)
            looking = queue.look_at is not None and queue.look_at <= began_at
        if message.says_nothing and not looking:
            return
        try:
            answer = self._exchange_with_redis(queue, message)
        except RedisUnavailable:
            queue.end_at = time.monotonic() + RETRY_SECONDS
            self._admit_alone(queue, upstreams)
            self._place_refresher.refresh_alone(queue)
            return
        if message.waiting:
            self._fatal_bodies.learn(answer.get("fatal", ()))
        follows = bool(message.released or message.looks or message.waiting or looking)
        with self._lock:
            self._forget_sent(queue, message)
            queue.crowded = answer.get("crowded", False)
            if renewing:
                queue.renewed_at = began_at
            self._apply(queue, message, answer, began_at)
            look_ms = answer.get("look_ms") if follows else None
            queue.look_at = None if look_ms is None else began_at + look_ms / 1000
        for name, asked_at in answer.get("look", ()):
            self._looks.start(message.upstreams[name], asked_at)
        self._place_refresher.refresh(queue, upstreams)

    def _has_time(self, queue: LocalQueue) -> bool:
        """Whether nothing is due: ended leases may wait for more to report."""
        due = [queue.end_at]
        if queue.look_at is not None:
            due.append(queue.look_at)
        if queue.held:
            due.append(queue.renewed_at + RENEW_SECONDS)
        return queue.has_only_ended and time.monotonic() < min(due)

    def _forget_sent(self, queue: LocalQueue, message: Message) -> None:
        for identity, entry in message.released.items():
            if queue.released.get(identity) is entry:
                del queue.released[identity]
        for name, look in message.looks.items():
            if queue.looks.get(name) is look:
                del queue.looks[name]
        queue.quit -= message.quit
        for slot_request in message.enqueued:
            slot_request.queued = True
        for slot_request in message.renewed:
            lease = slot_request.lease
            if lease is not None and not lease.in_redis:
                lease.in_redis = True
                if slot_request.id not in queue.held:
                    queue.give_back(slot_request.id, lease.upstream.name)

    def _apply(
        self, queue: LocalQueue, message: Message, answer: dict[str, Any], began_at: float
    ) -> None:
        queue.resync = answer.get("resync", False)
        for identity, name, slot, reuses_cache, hits_cache in answer.get("granted", ()):
            upstream = message.upstreams.get(name) or self._pool.named(name)
            slot_request = queue.waiting.get(identity)
            if slot_request is not None and upstream is not None:
                lease = Lease(upstream, slot, bool(reuses_cache), hits_cache, True, began_at)
                lease.owns_cache = reuses_cache is True
                self._grant(queue, slot_request, lease)
            elif identity not in queue.held:
                # The request left the queue during the exchange, or this process knows no such
                # server: it then asks for another one, as Redis does not know the request any more.
                queue.give_back(identity, name)
                if slot_request is not None:
                    slot_request.avoided |= {name}
                self._wake.set()
        for identity in answer.get("full", ()):
            slot_request = queue.waiting.pop(identity, None)
            if slot_request is not None:
                self._refuse(slot_request)
        if answer.get("more") or queue.resync:
            self._wake.set()

    def _grant(self, queue: LocalQueue, slot_request: SlotRequest, lease: Lease) -> None:
        del queue.waiting[slot_request.id]
        slot_request.lease = lease
        queue.held[slot_request.id] = slot_request
        slot_request.changed.set()
        _count_grant(slot_request, lease)

    def _refuse(self, slot_request: SlotRequest) -> None:
        slot_request.full = True
        slot_request.changed.set()
        request_metrics.displaced[slot_request.service_class].add()

    def _admit_alone(self, queue: LocalQueue, upstreams: list[Upstream]) -> None:
        with self._lock:
            queue.resync = True
            queue.look_at = None
            queue.quit.clear()
            queue.looks.clear()
            for slot_request, lease in list(alone.admit(queue, upstreams, self._max_queued)):
                if lease is None:
                    del queue.waiting[slot_request.id]
                    self._refuse(slot_request)
                else:
                    self._grant(queue, slot_request, lease)

    def _report(self, name: str, idle: list[int], busy: list[int], asked_at: int) -> None:
        """Take in a look at a server's slots, for the next exchange."""
        upstream = self._pool.named(name)
        with self._lock:
            for queue in self._queues.values():
                if queue.counted or upstream is None or queue.model not in ("", upstream.model):
                    continue
                queue.looks[name] = (idle, busy, asked_at)
                break
        self._wake.set()


def _count_grant(slot_request: SlotRequest, lease: Lease) -> None:
    if lease.slot == ANY_SLOT or not slot_request.chain:
        request_metrics.count_grant(request_metrics.NOT_ASKED)
    else:
        found = request_metrics.HIT if lease.hits_cache else request_metrics.MISS
        request_metrics.count_grant(found)
