"""Authentication of API keys.

Every request queries PostgreSQL, so that a revoked key is refused everywhere at once.
"""

from dataclasses import dataclass
from typing import Any, Protocol

# The sums are left to Python: PostgreSQL plans each statement anew, and each expression with it.
# So the account is a subquery, which costs half as much as joining a third table, with one value:
# its number of concurrent requests if it has its own, 0 while it is suspended.
_SELECTION = """
SELECT k.id, k.user_id, k.batch, b.paid_tokens, b.held_paid,
       CASE WHEN b.trial_expires_at > now() THEN b.trial_tokens - b.held_trial END,
       (SELECT CASE WHEN u.suspended_at IS NULL THEN u.concurrent_requests ELSE 0 END
        FROM users u WHERE u.id = k.user_id)
"""
_SOURCE = "FROM api_keys k LEFT JOIN balances b ON b.user_id = k.user_id"
_STATEMENT = f"{_SELECTION}{_SOURCE} WHERE k.key_hash = %(current)s AND k.revoked_at IS NULL"
_STATEMENT_FOR_SEVERAL = (
    f"{_SELECTION}, k.key_hash <> %(current)s {_SOURCE} "
    "WHERE k.key_hash IN %(key_hashes)s AND k.revoked_at IS NULL"
)


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
    # Whether the stored hash was made with an older pepper.
    outdated: bool = False


def authenticate(database: Database, *key_hashes: bytes) -> Caller | None:
    """Return the owner of the valid key with one of these hashes, or None.

    The first is the hash under the current pepper.
    """
    statement = _STATEMENT if len(key_hashes) == 1 else _STATEMENT_FOR_SEVERAL
    row = database.look_up(statement, {"key_hashes": key_hashes, "current": key_hashes[0]})
    if row is None:
        return None
    key_id, user_id, batch, paid, held_paid, free_trial, concurrent, *outdated = row
    paid = paid or 0
    available = paid - (held_paid or 0) + (free_trial or 0)
    return Caller(
        *(key_id, user_id, available, paid > 0, batch, concurrent == 0, concurrent), *outdated
    )
