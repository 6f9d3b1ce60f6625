"""Bytes of request bodies that this process has in memory: bounded for accounts and addresses.

A body counts as its bytes arrive, so that a declared length costs others nothing. Once it is
checked, it counts only for its account and the process, until upstream answers and nothing needs
it any more. A running request may keep its body, in case its server dies, within a bound of the
process.

A few accounts could stall uploads that together take the process's whole share. So a body that
does not fit displaces an unfinished one of the account with the most, if that has more than its
own.
"""

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from promptly.errors import Limit, RateLimited, ServiceUnavailable
from promptly.runtime import native_threads

Name = TypeVar("Name", int, str)

MIB = 1024 * 1024
# Upper bound of bodies that may be read although the process has its share of larger ones.
SMALL_BYTES = 64 * 1024
# Bodies that running requests keep, of the whole process.
KEPT_BYTES = 16 * MIB


class BodyBudget:
    """The bounds, and the bytes that count against them."""

    def __init__(self, max_body_bytes: int) -> None:
        # One largest body always fits, and eight agents' requests of 2 MB in parallel.
        self.account_bytes = max(24 * MIB, max_body_bytes * 3 // 2)
        self.address_bytes = max(32 * MIB, max_body_bytes * 2)
        self.reading_bytes = max(64 * MIB, max_body_bytes * 4)
        # Checked bodies of requests that wait for a slot.
        self.waiting_bytes = 2 * self.reading_bytes
        self._lock = native_threads.lock()
        self._accounts: dict[int, int] = {}
        self._addresses: dict[str, int] = {}
        self._reading = 0
        self._waiting = 0
        self._kept = 0
        # Bodies that are arriving.
        self._unfinished: set[BodyShare] = set()

    def share(
        self, user_id: int, address: str, interrupt: Callable[[], None] | None = None
    ) -> "BodyShare":
        """Return the share of one body, of which nothing has arrived yet.

        `interrupt` is called if the body is displaced; it must not block.
        """
        return BodyShare(self, user_id, address, interrupt)

    def in_hand(self) -> int:
        """Return the bytes of all bodies."""
        return self._reading + self._waiting + self._kept

    def require(self, share: "BodyShare", size: int) -> None:
        """Raise RateLimited or ServiceUnavailable unless `size` more bytes fit."""
        with self._lock:
            self._require(share, size)

    def _require(self, share: "BodyShare", size: int) -> None:
        self._require_for_account(share, size)
        if self._addresses.get(share.address, 0) + size > self.address_bytes:
            raise RateLimited(
                "The bodies of the requests from this address are too large together: at most "
                f"{self.address_bytes // MIB} MiB at a time.",
                limit=Limit.BODY_MEMORY,
                retry_after_seconds=2,
            )
        is_small = share.size + size <= SMALL_BYTES
        limit = self.reading_bytes + (self.reading_bytes // 4 if is_small else 0)
        while self._reading + size > limit:
            self._displace(share, size)

    def _require_for_account(self, share: "BodyShare", size: int) -> None:
        if self._accounts.get(share.user_id, 0) + size > self.account_bytes:
            raise RateLimited(
                "The bodies of this account's requests are too large together: at most "
                f"{self.account_bytes // MIB} MiB at a time.",
                limit=Limit.BODY_MEMORY,
                retry_after_seconds=2,
            )

    def _displace(self, share: "BodyShare", size: int) -> None:
        """Take back the largest unfinished body of the account with the most.

        Raises ServiceUnavailable unless that has more than the share's account will have.
        """
        totals: Counter[int] = Counter()
        for other in self._unfinished:
            totals[other.user_id] += other.size
        by_account = [(totals[other.user_id], other.size, other) for other in self._unfinished]
        most, _, largest = max(by_account, key=lambda found: found[:2], default=(0, 0, share))
        if most <= totals[share.user_id] + size or largest.interrupt is None:
            raise ServiceUnavailable
        self._forget(largest)
        largest.is_displaced = True
        largest.interrupt()

    def grow(self, share: "BodyShare", size: int) -> None:
        """Count `size` more bytes; raises like `require`, and then counts nothing."""
        with self._lock:
            if share.is_displaced:
                raise ServiceUnavailable
            self._require(share, size)
            share.size += size
            self._unfinished.add(share)
            _add(self._accounts, share.user_id, size)
            _add(self._addresses, share.address, size)
            self._reading += size

    def finish_reading(self, share: "BodyShare", size: int) -> None:
        """Count a body of `size` bytes, once decompressed, as waiting.

        Raises RateLimited if the account then has too much, ServiceUnavailable if too many wait.
        """
        with self._lock:
            if share.is_displaced:
                raise ServiceUnavailable
            self._require_for_account(share, size - share.size)
            if size > SMALL_BYTES and self._waiting + size > self.waiting_bytes:
                raise ServiceUnavailable
            self._forget(share)
            share.size, share.is_waiting = size, True
            _add(self._accounts, share.user_id, size)
            self._waiting += size

    def keep(self, share: "BodyShare") -> bool:
        """Count the body of a running request as kept, for nobody; return False if none fits."""
        with self._lock:
            if self._kept + share.size > KEPT_BYTES:
                return False
            size = share.size
            self._forget(share)
            share.size, share.is_kept = size, True
            self._kept += size
            return True

    def arrived(self, share: "BodyShare") -> None:
        """Displace the body no more: it is complete."""
        with self._lock:
            self._unfinished.discard(share)
            # The share lives as long as its request, and would keep a time limit that has passed.
            share.interrupt = None

    def give_back(self, share: "BodyShare") -> None:
        """Count the body no longer; idempotent."""
        with self._lock:
            self._forget(share)

    def _forget(self, share: "BodyShare") -> None:
        if share.is_kept:
            self._kept -= share.size
            share.size = 0
            return
        self._unfinished.discard(share)
        _add(self._accounts, share.user_id, -share.size)
        if share.is_waiting:
            self._waiting -= share.size
        else:
            _add(self._addresses, share.address, -share.size)
            self._reading -= share.size
        share.size = 0


class BodyShare:
    """One body's share of the budget."""

    __slots__ = (
        "_budget",
        "address",
        "interrupt",
        "is_displaced",
        "is_kept",
        "is_waiting",
        "size",
        "user_id",
    )

    def __init__(
        self,
        budget: BodyBudget,
        user_id: int,
        address: str,
        interrupt: Callable[[], None] | None,
    ) -> None:
        self._budget = budget
        self.user_id = user_id
        self.address = address
        self.interrupt = interrupt
        self.is_displaced = False
        self.size = 0
        self.is_waiting = False
        self.is_kept = False

    def require(self, size: int) -> None:
        """Raise RateLimited or ServiceUnavailable unless `size` more bytes fit."""
        self._budget.require(self, size)

    def grow(self, size: int) -> None:
        """Count `size` bytes that have arrived; raises like `require`."""
        self._budget.grow(self, size)

    def arrived(self) -> None:
        """Displace the body no more: it is complete."""
        self._budget.arrived(self)

    def finish_reading(self, size: int) -> None:
        """Count the checked and decompressed body; raises like the budget's method."""
        self._budget.finish_reading(self, size)

    def keep(self) -> bool:
        """Count the checked body of a running request as kept; return False if it does not fit."""
        return self._budget.keep(self)

    def give_back(self) -> None:
        """Count the body no longer; idempotent."""
        if self.size:
            self._budget.give_back(self)


def _add(counts: dict[Name, int], name: Name, size: int) -> None:
    total = counts.get(name, 0) + size
    if total > 0:
        counts[name] = total
    else:
        counts.pop(name, None)
