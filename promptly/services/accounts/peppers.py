"""Peppers by version, so that each hash in the database says which secret it was made with.

The database knows a pepper by its fingerprint, from which it cannot be computed. Version 1 is the
first pepper of the installation. It stays the key of mailboxes' hashes for good: under another key
every mailbox could have a second trial (ADR 25).
"""

import hmac
from typing import Any, Protocol

from sqlalchemy import func, select

from promptly.extensions import db
from promptly.models import ApiKey, PepperVersion
from promptly.secret import Secret
from promptly.settings import Settings, SettingsError

FIRST_VERSION = 1

# Two processes may add different peppers at once: then one of them gets no row, and asks again.
_VERSION = """
WITH added AS (
    INSERT INTO pepper_versions (version, fingerprint)
    SELECT (SELECT coalesce(max(version), 0) + 1 FROM pepper_versions), %(fingerprint)s
    WHERE NOT EXISTS (SELECT FROM pepper_versions WHERE fingerprint = %(fingerprint)s)
    ON CONFLICT DO NOTHING
    RETURNING version
)
SELECT version FROM added
UNION ALL
SELECT version FROM pepper_versions WHERE fingerprint = %(fingerprint)s
"""

_FIRST = "SELECT fingerprint FROM pepper_versions WHERE version = %(version)s"

_REHASH = """
UPDATE api_keys SET key_hash = %(key_hash)s, pepper_version = %(version)s
WHERE id = %(key_id)s AND key_hash <> %(key_hash)s AND revoked_at IS NULL
RETURNING id
"""


class Database(Protocol):
    """Runs one statement; both the hot path and `SessionDatabase` do."""

    def fetch_all(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]: ...


class SessionDatabase:
    """Statements in the transaction of the current session."""

    def fetch_all(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        result = db.session.connection().exec_driver_sql(statement, parameters)
        return [tuple(row) for row in result]


def fingerprint(pepper: Secret) -> bytes:
    """Return the 16 bytes by which the database knows a pepper."""
    return hmac.digest(pepper.reveal().encode(), b"promptly.pepper", "sha256")[:16]


def version(database: Database, pepper: Secret) -> int:
    """Return the version of a pepper in force; a new pepper gets the next one."""
    parameters = {"fingerprint": fingerprint(pepper)}
    while not (rows := database.fetch_all(_VERSION, parameters)):
        pass
    return int(rows[0][0])


def known() -> dict[bytes, int]:
    """Return the versions of all peppers that were in force, by fingerprint."""
    rows = db.session.execute(select(PepperVersion.fingerprint, PepperVersion.version))
    return {row.fingerprint: row.version for row in rows}


def count_active_keys() -> dict[int, int]:
    """Return the number of active keys by the version of their pepper."""
    columns = (ApiKey.pepper_version, func.count().label("number"))
    query = select(*columns).where(ApiKey.revoked_at.is_(None)).group_by(ApiKey.pepper_version)
    return {row.pepper_version: row.number for row in db.session.execute(query)}


def mailbox_key(database: Database, settings: Settings) -> Secret:
    """Return the key of mailboxes' hashes: MAILBOX_PEPPER, or the first pepper if it is known.

    Raises SettingsError if that secret is not configured any more.
    """
    candidates = (settings.mailbox_pepper,) if settings.mailbox_pepper else settings.key_peppers
    first = database.fetch_all(_FIRST, {"version": FIRST_VERSION})
    if not first:
        if len(candidates) > 1:
            problem = (
                "MAILBOX_PEPPER is not set: with KEY_PEPPER_PREVIOUS, the first start needs it;"
                " set it to the pepper that earlier releases used"
            )
            raise SettingsError([problem])
        version(database, candidates[0])
        first = database.fetch_all(_FIRST, {"version": FIRST_VERSION})
    for pepper in candidates:
        if fingerprint(pepper) == bytes(first[0][0]):
            return pepper
    name = "MAILBOX_PEPPER" if settings.mailbox_pepper else "KEY_PEPPER"
    problem = (
        f"{name} is not the first pepper of this installation, which mailboxes are hashed with:"
        " set MAILBOX_PEPPER to that one, otherwise everybody could have a second trial"
    )
    raise SettingsError([problem])


def register(database: Database, settings: Settings) -> int:
    """Return the version of KEY_PEPPER, known to the database from now on; see `mailbox_key`."""
    mailbox_key(database, settings)
    return version(database, settings.key_pepper)


def rehash(database: Database, key_id: int, key_hash: bytes, settings: Settings) -> None:
    """Store a verified key's hash under KEY_PEPPER, unless it is revoked or stored already."""
    current = register(database, settings)
    parameters = {"key_id": key_id, "key_hash": key_hash, "version": current}
    database.fetch_all(_REHASH, parameters)
