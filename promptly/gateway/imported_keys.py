"""First use of an imported key: one check at a time per process, off the event loop.

Only a key whose prefix is that of an imported one is checked, so an unknown prefix is refused
faster than a known one. The prefix is the part of a key that is shown, so that reveals little.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from promptly.errors import Limit, ServiceUnavailable
from promptly.gateway.key_hashes import KeyHashes
from promptly.gateway.limits import Allowance, LimitExceeded, SlidingWindows
from promptly.runtime import native_threads
from promptly.runtime.database import HotPathDatabase
from promptly.runtime.redis_client import HotPathRedis
from promptly.services.accounts import imported_keys, key_format
from promptly.services.accounts.authentication import Caller, authenticate

logger = logging.getLogger(__name__)

# Per minute, for an address and for a prefix.
WRONG_TRIES = 10
# At about 0.2 s a check, the last of them waits 3 s.
MOST_WAITING = 16
WAIT_SECONDS = 10.0


class ImportedKeys:
    """Checks of keys that are still known by bcrypt's hash only."""

    def __init__(
        self, database: HotPathDatabase, redis: HotPathRedis, key_hashes: KeyHashes
    ) -> None:
        self._database = database
        self._key_hashes = key_hashes
        self._tries = SlidingWindows(redis)
        self._places = threading.BoundedSemaphore(MOST_WAITING)
        self._turn = threading.Lock()

    def authenticate(self, key: str, address: str) -> Caller | None:
        """Return the owner of an imported key, which is rehashed; None if there is none.

        Raises LimitExceeded after too many wrong keys of this prefix or this address, given by its
        pseudonym, and ServiceUnavailable if too many checks wait.
        """
        hashes = self._key_hashes.of(key)
        if not imported_keys.candidates(self._database, key):
            # Another request may have rehashed it after this one looked for its keyed hash.
            return authenticate(self._database, *hashes)
        with self._taking_turns():
            caller = authenticate(self._database, *hashes)
            if caller is not None:
                return caller
            key_id = self._check(key, address)
            if key_id is None:
                return None
            self._key_hashes.store(key_id, hashes[0])
        logger.info("imported key rehashed", extra={"key_id": key_id})
        return authenticate(self._database, *hashes)

    def _check(self, key: str, address: str) -> int | None:
        """Return the id of the key; each try counts as wrong until it has succeeded."""
        names = [
            f"promptly:wrong-keys:ip:{address}",
            f"promptly:wrong-keys:prefix:{key_format.prefix(key)}",
        ]
        full, _, reset_ms = self._tries.admit(names, (WRONG_TRIES, WRONG_TRIES))
        if full:
            allowance = Allowance(WRONG_TRIES, 0, reset_ms)
            raise LimitExceeded("Too many wrong keys.", allowance, Limit.WRONG_KEYS)
        rows = imported_keys.candidates(self._database, key)
        key_id = native_threads.call(imported_keys.matching, key, rows)
        if key_id is not None:
            self._tries.give_back(names)
        return key_id

    @contextmanager
    def _taking_turns(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise ServiceUnavailable
        try:
            if not self._turn.acquire(timeout=WAIT_SECONDS):
                raise ServiceUnavailable
            try:
                yield
            finally:
                self._turn.release()
        finally:
            self._places.release()
