"""Keys of another gateway, known by bcrypt's hash until their first use.

A check takes about 0.2 s of CPU. The first that succeeds stores the key's keyed hash instead, so
from then on the key is found like any other.
"""

import re
from typing import Any, Protocol

import bcrypt

from promptly.services.accounts import key_format

# Prefixes are not unique, but have nine random characters: more than two keys rarely share one.
_CANDIDATES = f"""
SELECT id, key_hash FROM api_keys
WHERE prefix = %(prefix)s AND pepper_version = {key_format.IMPORTED_VERSION}
  AND revoked_at IS NULL
ORDER BY id LIMIT 4
"""  # noqa: S608 - a constant

_PREFIX = re.compile(r"sk-[0-9A-Za-z_-]{9}", re.ASCII)
# Costs up to 14; each step doubles the time of a check.
_HASH = re.compile(r"\$2[aby]\$(0[4-9]|1[0-4])\$[./0-9A-Za-z]{53}", re.ASCII)


class Database(Protocol):
    def fetch_all(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]: ...


def is_usable(prefix: str, key_hash: str) -> bool:
    """Whether a key can be checked by this prefix and hash, at a bearable cost."""
    return bool(_PREFIX.fullmatch(prefix) and _HASH.fullmatch(key_hash))


def candidates(database: Database, key: str) -> list[tuple[int, bytes]]:
    """Return the ids and hashes of the imported keys that begin like this one."""
    rows = database.fetch_all(_CANDIDATES, {"prefix": key_format.prefix(key)})
    return [(row[0], bytes(row[1])) for row in rows]


def matching(key: str, rows: list[tuple[int, bytes]]) -> int | None:
    """Return the id of the candidate that is this key, or None; computes for long."""
    presented = key.encode()
    return next((key_id for key_id, hashed in rows if bcrypt.checkpw(presented, hashed)), None)
