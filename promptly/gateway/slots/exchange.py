"""One exchange with Redis: the message of this process, the script, and its answer."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from promptly.gateway.fatal_bodies import REFUSED_KEY
from promptly.gateway.slots import requests
from promptly.gateway.slots.local_queue import LocalQueue
from promptly.gateway.slots.requests import SlotRequest
from promptly.gateway.upstream import Upstream
from promptly.runtime.redis_client import HotPathRedis

FOLDER = Path(__file__).parent / "script"
# Of one exchange, so that it takes Redis no longer than others.
MOST_RENEWALS = 50

_PARTS = (
    *("fields", "accounts", "servers", "looks", "waiting"),
    *("affinity", "granting", "keeping", "exchange"),
)


@dataclass(frozen=True, slots=True)
class Terms:
    """Settings of the queue. A trial's token counts as `trial_weight` tokens of its class.

    With `shared`, accounts may reuse each other's caches.
    """

    max_queued: int = 256
    trial_weight: int = 4
    shared: bool = False


@dataclass(slots=True)
class Message:
    """Snapshot of a queue for one exchange: the entries that are cleared once it has succeeded."""

    upstreams: dict[str, Upstream]
    enqueued: list[SlotRequest]
    renewed: list[SlotRequest]
    released: dict[str, list[Any]]
    quit: set[str]
    looks: dict[str, tuple[list[int], list[int], int]]
    waiting: int
    resync: bool

    @property
    def says_nothing(self) -> bool:
        """Whether the exchange would only cost time."""
        changes = self.renewed or self.released or self.quit or self.looks
        return not changes and not (self.waiting and self.upstreams)


def snapshot(queue: LocalQueue, upstreams: Iterable[Upstream], *, renewing: bool) -> Message:
    """Return the next message of a queue; the caller holds the scheduler's lock."""
    everything = list(queue.waiting.values())
    if renewing or queue.resync:
        queue.to_renew = list(queue.held.values())
    due, queue.to_renew = queue.to_renew[:MOST_RENEWALS], queue.to_renew[MOST_RENEWALS:]
    return Message(
        upstreams={upstream.name: upstream for upstream in upstreams},
        enqueued=[item for item in everything if queue.resync or not item.queued],
        renewed=[item for item in due if item.id in queue.held],
        released=dict(queue.released),
        quit=set(queue.quit),
        looks=dict(queue.looks),
        waiting=len(everything),
        resync=queue.resync,
    )


class Exchange:
    """Sends messages for one process."""

    def __init__(self, redis: HotPathRedis, process: str, terms: Terms) -> None:
        self.source = "\n".join((FOLDER / f"{part}.lua").read_text() for part in _PARTS)
        self._script = redis.script(self.source)
        self._process = process
        self._terms = terms

    def __call__(self, queue: LocalQueue, message: Message) -> dict[str, Any]:
        """Return the script's answer; raises RedisUnavailable.

        Its fields, each left out if empty: `granted` [[id, server, slot, whether it may use the
        cache: true for the account's own, "shared" for another's, whether the prompt's beginning is
        there]], `full` [id], `crowded` (requests wait), `resync`, `more` (to be granted at once),
        `look` [[server, time of Redis]], `look_ms` until the next look, `fatal` [digest].
        """
        fields = self._fields(queue, message)
        # A script that Redis does not know: it was restarted, and leases may have been granted
        # without it meanwhile.
        packed = self._script(
            [queue_key(queue.name), REFUSED_KEY],
            [orjson.dumps(fields)],
            lambda: [orjson.dumps(fields | {"fresh": True})],
        )
        answer: dict[str, Any] = orjson.loads(packed)
        return answer

    def _fields(self, queue: LocalQueue, message: Message) -> dict[str, Any]:
        terms = self._terms
        upstreams = message.upstreams.values()
        return {
            "process": self._process,
            "fresh": False,
            "ttl": requests.TTL_MS,
            "silent": requests.SILENT_MS,
            "limit": terms.max_queued,
            "trial_weight": terms.trial_weight,
            "shared": terms.shared,
            "counted": queue.counted,
            "servers": [[up.name, up.slots, up.shows_slots] for up in upstreams],
            "release": list(message.released.values()),
            "renew": [_held(item) for item in message.renewed],
            "looks": [[name, *slots] for name, slots in message.looks.items()],
            "quit": list(message.quit),
            "enqueue": [_waiting(item) for item in message.enqueued],
            "waiting": message.waiting,
            "resync": message.resync,
        }


def queue_key(name: str) -> str:
    """Return the prefix of a queue's keys."""
    return f"promptly:slots2:queue:{name}"


def _held(item: SlotRequest) -> list[Any]:
    lease = item.lease
    if lease is None:
        raise ValueError("it holds no slot")
    name, slot = lease.upstream.name, lease.slot
    return [item.id, name, slot, item.service_class, str(item.account), item.charged()]


def _waiting(item: SlotRequest) -> list[Any]:
    return [
        item.id,
        str(item.account),
        item.service_class,
        item.waited_us(),
        item.prompt_tokens,
        item.lane(),
        [(link.digest, link.tokens) for link in item.chain],
    ]
