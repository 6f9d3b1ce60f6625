"""Peppers by version, so that each hash in the database says which secret it was made with.

The database knows a pepper by its fingerprint, from which it cannot be computed. Version 1 is the
first pepper of the installation. It stays the key of mailboxes' hashes for good: under another key
every mailbox could have a second trial (ADR 25). An installation older than these versions has
hashes of mailboxes already: its first pepper is the one that they were made with.
"""

import hmac
from typing import Any, Protocol

from sqlalchemy import func, select

from promptly.extensions import db
from promptly.models import ApiKey, PepperVersion
from promptly.secret import Secret
from promptly.services.accounts import email_addresses
from promptly.setting_fields import SettingsError
from promptly.settings import Settings

FIRST_VERSION = 1
# Accounts whose mailboxes are looked for, to find the first pepper of an older installation.
_SAMPLE = 1000

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

_ADD_FIRST = """
INSERT INTO pepper_versions (version, fingerprint) VALUES (%(version)s, %(fingerprint)s)
ON CONFLICT DO NOTHING
RETURNING version
"""

_ADDRESSES = "SELECT email FROM users WHERE closed_at IS NULL ORDER BY id DESC LIMIT %(limit)s"

_HAS_CLAIMS = "SELECT EXISTS (SELECT FROM trial_claims)"

_IS_CLAIMED = "SELECT EXISTS (SELECT FROM trial_claims WHERE mailbox_hash = ANY(%(hashes)s))"

_REHASH = """
UPDATE api_keys SET key_hash = %(key_hash)s, pepper_version = %(version)s
WHERE id = %(key_id)s AND key_hash <> %(key_hash)s AND revoked_at IS NULL
RETURNING id
"""


_AMBIGUOUS = (
    "MAILBOX_PEPPER is not set: with KEY_PEPPER_PREVIOUS, the first start needs it;"
    " set it to the pepper that earlier releases used"
)

_UNPROVEN = (
    "KEY_PEPPER is not the one that earlier releases hashed mailboxes with: start this release once"
    " with that one in KEY_PEPPER or KEY_PEPPER_PREVIOUS; if no account has its trial from then,"
    " set MAILBOX_PEPPER to it"
)


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
    """Return the version of a pepper in force; a new pepper gets the next one.

    Raises SettingsError if it would be the first one and existing mailboxes have another.
    """
    if _first(database) is None:
        _add_first(database, (pepper,))
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

    Raises SettingsError if that secret is not configured any more, or, before it is recorded,
    cannot be told from the others.
    """
    stated = (settings.mailbox_pepper,) if settings.mailbox_pepper else ()
    first = _first(database)
    if first is None:
        _add_first(database, (*stated, *settings.key_peppers), is_stated=bool(stated))
        first = _first(database)
    for pepper in stated or settings.key_peppers:
        if fingerprint(pepper) == first:
            return pepper
    name = "MAILBOX_PEPPER" if stated else "KEY_PEPPER"
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


def _first(database: Database) -> bytes | None:
    rows = database.fetch_all(_FIRST, {"version": FIRST_VERSION})
    return bytes(rows[0][0]) if rows else None


def _add_first(
    database: Database, candidates: tuple[Secret, ...], *, is_stated: bool = False
) -> None:
    """Record the first pepper: the candidate that hashed the mailboxes of existing accounts.

    `is_stated` marks the first candidate as the one that an operator named. It is taken where no
    mailbox proves another; without it, a single candidate is taken where there are no mailboxes.
    """
    emails = [row[0] for row in database.fetch_all(_ADDRESSES, {"limit": _SAMPLE})]
    proven = [pepper for pepper in candidates if _has_hashed(database, pepper, emails)]
    if not proven and not is_stated:
        has_claims = database.fetch_all(_HAS_CLAIMS, {})[0][0]
        if _first(database) is not None:
            # Another process has recorded it meanwhile, and the claims may be of its registrations.
            return
        if has_claims:
            raise SettingsError([_UNPROVEN])
        if len(candidates) > 1:
            raise SettingsError([_AMBIGUOUS])
    first = (*proven, *candidates)[0]
    database.fetch_all(_ADD_FIRST, {"version": FIRST_VERSION, "fingerprint": fingerprint(first)})


def _has_hashed(database: Database, pepper: Secret, emails: list[str]) -> bool:
    hashes = [one for email in emails for one in email_addresses.mailbox_hashes(email, pepper)]
    return bool(database.fetch_all(_IS_CLAIMED, {"hashes": hashes})[0][0]) if hashes else False
