"""Callers that were authenticated a short while ago, so that a hold can authenticate them again.

A hold needs the size of the prompt, and so the body, which is parsed only for a caller. One who is
remembered can have it parsed first: the statement that places the hold looks the key up as well
(ADR 39). Nothing is done for a remembered caller beyond that.
"""

import time
from dataclasses import replace

from promptly.runtime.recently_used import RecentlyUsed
from promptly.services.accounts.authentication import Caller

SECONDS = 60.0
# After a hold that could not be placed at once: a trial that is used up, say, fails only once.
AVOIDED_SECONDS = 5.0


class KnownCallers:
    """The callers that one process remembers, by the hash of their key."""

    def __init__(self) -> None:
        # None for a key whose holds have to be placed by themselves.
        self._callers: RecentlyUsed[tuple[float, Caller | None]] = RecentlyUsed()

    def find(self, key_hash: bytes) -> Caller | None:
        """Return an unproven caller, if the key was looked up in the last SECONDS."""
        until, caller = self._callers.get(key_hash.hex(), (0.0, None))
        if caller is None or until < time.monotonic():
            return None
        return replace(caller, unproven_key_hash=key_hash)

    def note(self, key_hash: bytes, caller: Caller | None) -> None:
        """Remember a key's caller as just looked up; None forgets a key that is not valid."""
        name, now = key_hash.hex(), time.monotonic()
        if caller is None:
            self._callers.pop(name, None)
            return
        until, known = self._callers.get(name, (0.0, caller))
        is_avoided = known is None and now < until
        if caller.leash is None and not caller.outdated and not is_avoided:
            self._callers[name] = (now + SECONDS, caller)

    def avoid(self, key_hash: bytes) -> None:
        """Find no caller of this key for AVOIDED_SECONDS: its hold could not be placed at once."""
        self._callers[key_hash.hex()] = (time.monotonic() + AVOIDED_SECONDS, None)
