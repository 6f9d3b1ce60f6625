"""Authentication of API keys.

Every request queries PostgreSQL, so that a revoked key is refused everywhere at once.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from promptly.services.accounts.leash import Leash

_STATEMENT = "SELECT * FROM authenticate(%(key_hash)s)"


class Database(Protocol):
    def look_up(self, statement: str, parameters: dict[str, Any]) -> tuple[Any, ...] | None: ...


@dataclass(slots=True)
class Caller:
    """The account behind a request, and the tokens it could spend when it was looked up.

    It `pays` if it owns tokens other than its trial's, held ones included. Requests with a `batch`
    key yield to all others.
    """

    key_id: int
    user_id: int
    available_tokens: int
    pays: bool
    batch: bool = False
    suspended: bool = False
    # How many requests it may run at a time, 0 while suspended; None: as many as the settings say.
    concurrent_requests: int | None = None
    expired: bool = False
    # None for a key of any model that may be used from anywhere, as most are.
    leash: Leash | None = None
    # Whether the stored hash was made with an older pepper.
    outdated: bool = False
    # The hash of a key that was looked up a while ago, and is yet to be looked up for this request.
    unproven_key_hash: bytes | None = None


def authenticate(database: Database, *key_hashes: bytes) -> Caller | None:
    """Return the owner of the valid key with one of these hashes, or None.

    The first is the hash under the current pepper.
    """
    # The first again: another request may have stored it in place of an older one meanwhile.
    again = key_hashes[:1] if len(key_hashes) > 1 else ()
    for key_hash in (*key_hashes, *again):
        row = database.look_up(_STATEMENT, {"key_hash": key_hash})
        if row is not None and row[0] is not None:
            key_id, user_id, batch, available, pays, concurrent, expired, models, addresses = row
            leash = Leash(models, addresses) if models or addresses else None
            return Caller(
                *(key_id, user_id, available, pays, batch, concurrent == 0, concurrent),
                expired=bool(expired),
                leash=leash,
                outdated=key_hash != key_hashes[0],
            )
    return None
