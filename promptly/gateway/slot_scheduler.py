"""Grants each request a slot, fairly across all processes and machines.

An upstream gets only as many requests as it has slots; more would wait inside it without a sign
of life. One thread per process exchanges with Redis for all its requests: whatever is requested,
released or due for renewal during one exchange goes into the next, so a busy process needs far
less than one call per request. Requests of paying accounts go first, then those of the account that
runs fewest, then those that arrived first (`slots.lua`).

While Redis is away, each process admits as many requests as the upstreams have slots; upstream's
own queue takes the rest.
"""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from promptly.errors import QueueFull
from promptly.gateway.fatal_bodies import REFUSED_KEY, FatalBodies
from promptly.gateway.upstreams import EMBEDDINGS_PATH, Upstream, UpstreamPool
from promptly.runtime.redis_client import HotPathRedis, RedisUnavailable

TTL_MS = 10_000
RENEW_SECONDS = 3.0
POLL_SECONDS = 0.05

# Queues. Embeddings usually have servers of their own: in a shared queue, requests that wait for
# one kind of server would block the free slots of the other kind. Not the queues of releases that
# let trials go first: two orders in one queue could leave a free slot to each other.
_QUEUE = "promptly:queue"
_QUEUES = {EMBEDDINGS_PATH: "promptly:queue:embeddings"}
# For the same reason, requests that some upstreams have failed wait for the others on their own.
_AGAIN = ":again"

# Shared, because each frozenset would take 216 bytes of every stream.
NONE: frozenset[str] = frozenset()

_NO_CHANGES: dict[str, Any] = {"renew": {}, "release": {}, "quit": {}}


class SlotRequest:
    """A request for a slot of a server that serves `path`, and the slot once it is granted.

    The `avoided` upstreams, by name, are left out; `trial` marks an account that pays nothing.
    `changed` is set when the slot is granted or refused, `queued` is true once Redis has the
    request in its queue.
    """

    __slots__ = (
        "avoided",
        "changed",
        "full",
        "kind",
        "member",
        "path",
        "queue",
        "queued",
        "trial",
        "upstream",
    )

    def __init__(
        self, account: int, request: str, path: str, *, trial: bool, avoided: frozenset[str]
    ) -> None:
        self.member = f"{account}|{request}|trial" if trial else f"{account}|{request}"
        self.path = path
        self.avoided = avoided
        self.trial = trial
        # The upstreams that can take the request depend on this.
        self.kind = (path, avoided)
        self.queue = _QUEUES.get(path, _QUEUE) + (_AGAIN if avoided else "")
        self.changed = threading.Event()
        self.upstream: Upstream | None = None
        self.full = False
        self.queued = False

    def granted(self) -> Upstream | None:
        """Return the upstream whose slot was granted, None while waiting; raises QueueFull."""
        if self.full:
            raise QueueFull
        return self.upstream


@dataclass(frozen=True)
class Occupancy:
    """Number of slots taken, by the upstream's name, and of requests that wait for a slot."""

    taken: dict[str, int]
    waiting: int


class SlotScheduler:
    """Grants the upstreams' slots to this process's requests."""

    def __init__(
        self, redis: HotPathRedis, pool: UpstreamPool, fatal_bodies: FatalBodies, max_queued: int
    ) -> None:
        self._redis = redis
        self._script = redis.script((Path(__file__).parent / "slots.lua").read_text())
        self._pool = pool
        self._fatal_bodies = fatal_bodies
        self._max_queued = max_queued
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._waiting: dict[str, SlotRequest] = {}
        self._held: dict[str, SlotRequest] = {}
        self._released: list[tuple[str, str]] = []
        self._quit: list[tuple[str, str]] = []
        self._renewed_at = 0.0

    def request(
        self,
        account: int,
        request: str,
        path: str = "",
        *,
        trial: bool = False,
        avoided: frozenset[str] = NONE,
    ) -> SlotRequest:
        """Queue for a slot.

        Raises UpstreamUnavailable when no upstream is ready, UnsupportedEndpoint when none serves
        the path.
        """
        if not self._pool.ready(path):
            raise self._pool.refusal(path)
        slot_request = SlotRequest(account, request, path, trial=trial, avoided=avoided)
        with self._lock:
            self._waiting[slot_request.member] = slot_request
            self._start()
        self._wake.set()
        return slot_request

    def release(self, slot_request: SlotRequest) -> None:
        """Release the slot or leave the queue; idempotent."""
        with self._lock:
            if (
                self._held.pop(slot_request.member, None) is not None
                and slot_request.upstream is not None
            ):
                self._released.append((slot_request.upstream.name, slot_request.member))
            elif self._waiting.pop(slot_request.member, None) is not None:
                self._quit.append((slot_request.queue, slot_request.member))
        self._wake.set()

    def held(self) -> int:
        """Return the number of slots that this process holds."""
        return len(self._held)

    def occupancy(self) -> Occupancy:
        """Return what all processes together run and queue now; raises RedisUnavailable."""
        seconds, microseconds = self._redis.command("TIME")
        now = int(seconds) * 1000 + int(microseconds) // 1000

        def alive(key: str) -> int:
            return int(self._redis.command("ZCOUNT", key, f"({now}", "+inf"))

        return Occupancy(
            taken={upstream.name: alive(_key(upstream.name)) for upstream in self._pool.upstreams},
            waiting=sum(
                alive(f"{queue}{kind}:seen")
                for queue in (_QUEUE, *_QUEUES.values())
                for kind in ("", _AGAIN)
            ),
        )

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="slots", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                waiting, holding = bool(self._waiting), bool(self._held)
            self._wake.wait(POLL_SECONDS if waiting else RENEW_SECONDS if holding else None)
            self._wake.clear()
            self._exchange()

    def _exchange(self) -> None:
        with self._lock:
            kinds = {slot_request.kind for slot_request in self._waiting.values()}
        # Outside the lock: probing upstreams may take a while.
        ready = {
            (path, avoided): [
                up for up in self._pool.ready(path) if not avoided or up.name not in avoided
            ]
            for path, avoided in kinds
        }
        with self._lock:
            waiting = list(self._waiting.values())
            released, self._released = self._released, []
            left, self._quit = self._quit, []
            renewing = time.monotonic() - self._renewed_at >= RENEW_SECONDS
            held = list(self._held.values()) if renewing else []
        groups = [
            (upstreams, [slot_request for slot_request in waiting if slot_request.kind == kind])
            for kind, upstreams in ready.items()
            if upstreams
        ]
        if not groups:
            if not (released or left or held):
                return
            groups = [([], [])]
        changes = {
            "renew": _grouped(
                (_key(holder.upstream.name), holder.member) for holder in held if holder.upstream
            ),
            "release": _grouped((_key(upstream), member) for upstream, member in released),
            "quit": _grouped(left),
        }
        for number, (upstreams, slot_requests) in enumerate(groups):
            try:
                answer = self._exchange_for(
                    upstreams, slot_requests, _NO_CHANGES if number else changes
                )
            except RedisUnavailable:
                self._admit_alone(upstreams, slot_requests)
                continue
            if held and not number:
                self._renewed_at = time.monotonic()
            if slot_requests:
                self._fatal_bodies.learn(answer.get("fatal", ()))
            self._apply(upstreams, slot_requests, answer)

    def _exchange_for(
        self, upstreams: list[Upstream], slot_requests: list[SlotRequest], changes: dict[str, Any]
    ) -> dict[str, Any]:
        """Do one exchange with Redis for requests that wait for the same upstreams."""
        queue = slot_requests[0].queue if slot_requests else _QUEUE
        message = {
            "ttl": TTL_MS,
            "limit": self._max_queued,
            "upstreams": [{"key": _key(up.name), "slots": up.slots} for up in upstreams],
            "waiting": [slot_request.member for slot_request in slot_requests],
            **changes,
        }
        answer: dict[str, Any] = orjson.loads(
            self._script([queue, f"{queue}:seen", REFUSED_KEY], [orjson.dumps(message)])
        )
        return answer

    def _apply(
        self, upstreams: list[Upstream], slot_requests: list[SlotRequest], answer: dict[str, Any]
    ) -> None:
        granted = answer.get("granted", {})
        full = set(answer.get("full", ()))
        with self._lock:
            for slot_request in slot_requests:
                number = granted.get(slot_request.member)
                if number is not None:
                    self._grant(slot_request, upstreams[number - 1])
                elif slot_request.member in full:
                    self._waiting.pop(slot_request.member, None)
                    slot_request.full = True
                    slot_request.changed.set()
                else:
                    slot_request.queued = True

    def _grant(self, slot_request: SlotRequest, upstream: Upstream) -> None:
        if self._waiting.pop(slot_request.member, None) is None:
            # The request left the queue during the exchange.
            self._released.append((upstream.name, slot_request.member))
            self._wake.set()
            return
        slot_request.upstream = upstream
        self._held[slot_request.member] = slot_request
        slot_request.changed.set()

    def _admit_alone(self, upstreams: list[Upstream], slot_requests: list[SlotRequest]) -> None:
        with self._lock:
            used: dict[str, int] = {}
            for held in self._held.values():
                if held.upstream is not None:
                    used[held.upstream.name] = used.get(held.upstream.name, 0) + 1
            for place, slot_request in enumerate(
                sorted(slot_requests, key=lambda item: item.trial)
            ):
                best = max(upstreams, key=lambda up: up.slots - used.get(up.name, 0))
                if best.slots > used.get(best.name, 0):
                    used[best.name] = used.get(best.name, 0) + 1
                    self._grant(slot_request, best)
                elif place >= self._max_queued:
                    self._waiting.pop(slot_request.member, None)
                    slot_request.full = True
                    slot_request.changed.set()


def _key(upstream: str) -> str:
    return f"promptly:slots:{upstream}"


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, member in pairs:
        groups.setdefault(key, []).append(member)
    return groups
