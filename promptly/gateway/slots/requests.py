"""A request for a slot, and the lease of a slot that it gets."""

import math
import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from promptly.errors import QueueFull
from promptly.gateway.counts import Counts
from promptly.gateway.prefix_chain import PrefixLink
from promptly.gateway.upstream import Upstream

# A token of output keeps its slot several times as long as a token of the prompt, which is read in
# batches; twice is also the usual ratio of their prices.
OUTPUT_WEIGHT = 2

# Roughly, in prose and code.
BYTES_PER_TOKEN = 4

# Leases last TTL_MS unless they are renewed; a process that was stalled for SAFE_SECONDS does not
# trust one any more.
TTL_MS = 10_000
SAFE_SECONDS = 6.0
# The waiting requests of a process that has not polled for so long are passed over.
SILENT_MS = 1_000

# A slot of the server's own choice.
ANY_SLOT = -1

# Shared, because each frozenset would take 216 bytes of every stream.
NONE: frozenset[str] = frozenset()


class ServiceClass(StrEnum):
    """Classes of requests, which share the slots by weight: BATCH yields to the others."""

    PAYING = "paying"
    TRIAL = "trial"
    BATCH = "batch"

    @classmethod
    def of(cls, *, pays: bool, batch: bool) -> "ServiceClass":
        """Return the class of a request by its account and key."""
        if batch:
            return cls.BATCH
        return cls.PAYING if pays else cls.TRIAL


class RequestOrigin(NamedTuple):
    """The request of a client that a request for a slot belongs to, for those who list it."""

    key_id: int
    request_id: UUID
    endpoint: str


class Place(NamedTuple):
    """A place in the queue: its position (1 is next), and the estimated wait, if known."""

    position: int
    wait_seconds: int | None


@dataclass(slots=True)
class Lease:
    """A slot that is ours until it is released, as long as it is renewed.

    `slot` is ANY_SLOT where the server chooses. `reuses_cache` is whether the slot's contents may
    be reused, `owns_cache` whether they are the account's own as well, `hits_cache` whether they
    begin like the prompt. `in_redis` is false for one that was granted while Redis was away.
    `granted_at` is when the exchange began (monotonic seconds).
    """

    upstream: Upstream
    slot: int = ANY_SLOT
    reuses_cache: bool = False
    hits_cache: bool = False
    in_redis: bool = False
    granted_at: float = field(default_factory=time.monotonic)
    owns_cache: bool = False

    def fields(self) -> bytes:
        """Return the JSON fields for the body of a request that is sent now.

        A slot whose lease may have expired is not named, for it may be busy.
        """
        if self.slot == ANY_SLOT or time.monotonic() - self.granted_at > SAFE_SECONDS:
            return b',"id_slot":-1,"cache_prompt":false'
        return b',"id_slot":%d,"cache_prompt":%b' % (
            self.slot,
            b"true" if self.reuses_cache else b"false",
        )


_GRANTED = threading.Event()
_GRANTED.set()


class SlotRequest:
    """A request for a slot of a server that holds `model` and serves `path`, and then the lease.

    The `avoided` upstreams, by name, are left out. `prompt_tokens` estimates the prompt; `chain`
    are its prefixes, the longest last. `origin` is known for requests of clients. `changed` is set
    when the slot is granted or refused, `queued` is true once Redis knows the request. `place` is
    looked up while it waits. `counts` are the answer's, once it begins.
    """

    __slots__ = (
        "account",
        "avoided",
        "chain",
        "changed",
        "counts",
        "full",
        "id",
        "lease",
        "listed_at",
        "model",
        "origin",
        "path",
        "place",
        "prompt_tokens",
        "queued",
        "reached",
        "service_class",
        "started_at",
    )

    def __init__(
        self,
        identity: str,
        account: int,
        path: str,
        model: str,
        service_class: ServiceClass,
        avoided: frozenset[str],
        prompt_tokens: int,
        chain: tuple[PrefixLink, ...],
        origin: RequestOrigin | None = None,
    ) -> None:
        self.id = identity
        self.account = account
        self.path = path
        self.model = model
        self.service_class = service_class
        self.avoided = avoided
        self.prompt_tokens = prompt_tokens
        self.chain = chain
        self.origin = origin
        self.place: Place | None = None
        # When it was last listed under its key (monotonic seconds).
        self.listed_at = -math.inf
        self.started_at = time.monotonic()
        self.changed = threading.Event()
        self.lease: Lease | None = None
        self.counts: Counts | None = None
        # Whether anything was sent to the server, which may then be busy with it.
        self.reached = False
        self.full = False
        self.queued = False

    @property
    def upstream(self) -> Upstream | None:
        """The server whose slot was granted."""
        return None if self.lease is None else self.lease.upstream

    def granted(self) -> Lease | None:
        """Return the lease, None while waiting; raises QueueFull."""
        if self.full:
            raise QueueFull
        return self.lease

    def forget_wait(self) -> None:
        """Free what only the wait for the slot needed; an answer may take minutes."""
        self.changed = _GRANTED
        self.chain = ()
        self.place = self.origin = None

    def lane(self) -> str:
        """Return the name of the lane: the class, and the servers that are left out."""
        if self.avoided:
            return f"{self.service_class}!{' '.join(sorted(self.avoided))}"
        return self.service_class

    def waited_us(self) -> int:
        """Return the time since the request was made, in microseconds."""
        return round((time.monotonic() - self.started_at) * 1_000_000)

    def charged(self) -> int:
        """Return the weighted tokens served so far, -1 while the estimate stands."""
        counts = self.counts
        if counts is None or counts.first_token_at is None:
            return -1
        size = counts.prompt_size or 0
        return max(size - counts.reused_tokens, 0) + OUTPUT_WEIGHT * counts.completion_tokens

    def slot_tokens(self) -> int:
        """Return the tokens that the slot holds now, -1 if they may be those of another request.

        Before upstream has begun to read the prompt, the slot holds what it held before.
        """
        counts = self.counts
        if counts is None or counts.prompt_size is None:
            return -1
        return counts.prompt_tokens + counts.completion_tokens
