"""This process's part of one queue: requests that wait or hold a slot, and what is to be reported.

The scheduler changes it only under its lock.
"""

import time
from dataclasses import dataclass, field
from typing import Any

from promptly.gateway.slots.requests import SlotRequest

# An ended lease waits so long for a request to be reported with: mostly one comes, and an exchange
# costs Redis about as much for both. Not where anybody waits for a slot.
END_SECONDS = 0.02


@dataclass(slots=True)
class LocalQueue:
    """Requests by id, for one model; without a name, for any.

    `counted`: its servers are only counted, their slots are never named.
    """

    name: str
    model: str = ""
    counted: bool = False
    waiting: dict[str, SlotRequest] = field(default_factory=dict)
    held: dict[str, SlotRequest] = field(default_factory=dict)
    # Entries of the next message, kept until an exchange has carried them.
    released: dict[str, list[Any]] = field(default_factory=dict)
    # When ended leases are to be reported at the latest (monotonic).
    end_at: float = 0.0
    # Requests waited for a slot after the last exchange, of this process or another.
    crowded: bool = False
    quit: set[str] = field(default_factory=set)
    looks: dict[str, tuple[list[int], list[int], int]] = field(default_factory=dict)
    # Redis may know other requests of this process than there are: name them all.
    resync: bool = False
    renewed_at: float = 0.0
    # Leases that are still to be renewed in this round.
    to_renew: list[SlotRequest] = field(default_factory=list)
    # When slots are to be looked at again (monotonic), if this process is to wait for that.
    look_at: float | None = None
    # The servers of the last exchange, by name.
    servers: frozenset[str] = frozenset()

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do or to report."""
        return not (self.waiting or self.held or self.released or self.quit or self.looks)

    @property
    def has_only_ended(self) -> bool:
        """Whether all there is to report are ended leases."""
        changes = self.waiting or self.quit or self.looks or self.to_renew or self.resync
        return bool(self.released) and not changes

    def end(self, slot_request: SlotRequest, *, settled: bool, at_once: bool) -> None:
        """Report a lease as ended, soon or `at_once`.

        It is `settled` if the server is known to be done with it.
        """
        lease = slot_request.lease
        if lease is None or not lease.in_redis:
            return
        read_tokens, read_us, service_ms = 0, 0, -1
        counts = slot_request.counts
        if settled and counts is not None and counts.prompt_ms > 0:
            read_tokens = (counts.prompt_size or 0) - counts.reused_tokens
            read_us = counts.prompt_ms * 1000
            service_ms = round((time.monotonic() - lease.granted_at) * 1000)
        if at_once or self.crowded or self.waiting or not settled:
            self.end_at = 0.0
        elif not self.released:
            self.end_at = time.monotonic() + END_SECONDS
        charged = slot_request.charged() if slot_request.reached else 0
        name, tokens = lease.upstream.name, slot_request.slot_tokens()
        self.released[slot_request.id] = [
            *(slot_request.id, name, charged, settled, tokens, read_tokens, read_us, service_ms)
        ]

    def give_back(self, identity: str, server: str) -> None:
        """Report a lease that nobody took."""
        self.end_at = 0.0
        self.released[identity] = [identity, server, 0, True, -1, 0, 0, -1]

    def rejoin_without(self, servers: set[str]) -> None:
        """Take in which servers there are now; requests join anew if one is missing.

        Some may be waiting for a cache on it alone. The script misses those that quit here, and
        asks for all of them again; they keep the time at which they arrived.
        """
        if not self.servers <= servers:
            self.quit.update(identity for identity, item in self.waiting.items() if item.queued)
        self.servers = frozenset(servers)
