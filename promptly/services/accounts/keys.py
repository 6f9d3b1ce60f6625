"""API keys of an account: create, list, revoke, find.

A raw key exists only as the return value of `create`; the database stores its keyed hash. Callers
that change an account's keys lock the account first (`accounts.lock`), so that a reissue and a
mail that is creating a key run one after the other.
"""

from sqlalchemy import func, select, update

from promptly.errors import InvalidRequest, NotFound
from promptly.extensions import db
from promptly.models import ApiKey, User
from promptly.models.states import KeyScope
from promptly.secret import Secret
from promptly.services.accounts import key_format, peppers
from promptly.services.mail import security_alerts

MOST_KEYS = 50
# An expired key is refused, but stays listed: its owner may extend it.
NOT_EXPIRED = ApiKey.expires_at.is_(None) | (ApiKey.expires_at > func.now())
LONGEST_NAME = 60


def create(
    user_id: int,
    name: str,
    pepper: Secret,
    *,
    scope: KeyScope = KeyScope.FULL,
    batch: bool = False,
    outbox_id: int | None = None,
) -> tuple[ApiKey, str]:
    """Create a key; return its row and, this once, the raw key.

    Raises NotFound if the account is being deleted, or gone.
    """
    account = select(User.id).where(User.id == user_id, User.closed_at.is_(None))
    if db.session.scalar(account) is None:
        raise NotFound("There is no such account.")
    raw = key_format.generate()
    row = ApiKey(
        user_id=user_id,
        name=name,
        scope=scope,
        batch=batch,
        prefix=key_format.prefix(raw),
        key_hash=key_format.digest(raw, pepper.reveal()),
        pepper_version=peppers.version(peppers.SessionDatabase(), pepper),
        outbox_id=outbox_id,
    )
    db.session.add(row)
    db.session.flush()
    _show_newest_prefix(user_id)
    return row, raw


def add_imported(user_id: int, prefix: str, bcrypt_hash: str) -> ApiKey:
    """Store a key of another gateway by its bcrypt hash, until its first use."""
    row = ApiKey(
        user_id=user_id,
        name="imported",
        prefix=prefix,
        key_hash=bcrypt_hash.encode(),
        pepper_version=key_format.IMPORTED_VERSION,
    )
    db.session.add(row)
    db.session.flush()
    _show_newest_prefix(user_id)
    return row


def create_named(
    user_id: int,
    name: str,
    pepper: Secret,
    *,
    scope: KeyScope,
    batch: bool = False,
    by_operator: bool = False,
) -> tuple[ApiKey, str]:
    """As `create`, with a name that a user chose, and an email that reports the key.

    The caller must have locked the account.

    Raises InvalidRequest (param `name`) for an invalid name, one that another key has, or beyond
    MOST_KEYS keys, NotFound as `create` does.
    """
    name = checked_name(name)
    require_free_name(user_id, name)
    if len(list_active(user_id)) >= MOST_KEYS:
        raise InvalidRequest(
            f"An account may have {MOST_KEYS} keys. Revoke one that is not needed.", param="name"
        )
    key, raw = create(user_id, name, pepper, scope=scope, batch=batch)
    security_alerts.key_created(key, by_operator=by_operator)
    return key, raw


def checked_name(name: str) -> str:
    """Return a key's name as stored; raises InvalidRequest (param `name`) with the reason."""
    name = name.strip()
    if not name:
        raise InvalidRequest(
            "Give the key a name, such as the place where it is used.", param="name"
        )
    if len(name) > LONGEST_NAME:
        raise InvalidRequest(f"A name has {LONGEST_NAME} characters at most.", param="name")
    # No control characters, and none that change the direction of adjacent text.
    if not name.isprintable():
        raise InvalidRequest("This name holds characters that cannot be shown.", param="name")
    return name


def require_free_name(user_id: int, name: str) -> None:
    """Raise InvalidRequest (param `name`) if another valid key of the account has this name."""
    taken = select(ApiKey.id).where(
        ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None), ApiKey.name == name
    )
    if db.session.scalar(taken.limit(1)) is not None:
        raise InvalidRequest("Another key of this account has this name.", param="name")


def named(user_id: int, name: str) -> ApiKey:
    """Return the valid key of this name.

    Raises NotFound if there is none, and InvalidRequest (param `name`) if there are several: names
    of earlier releases were not unique.
    """
    found = [key for key in list_active(user_id) if key.name == name]
    if not found:
        raise NotFound("There is no active key of this name.")
    if len(found) > 1:
        raise InvalidRequest("Several keys have this name: choose one by its id.", param="name")
    return found[0]


def checked_scope(scope: str) -> KeyScope:
    """Return the scope of this name; raises InvalidRequest (param `scope`)."""
    try:
        return KeyScope(scope)
    except ValueError:
        choices = " or ".join(f"'{known}'" for known in KeyScope)
        raise InvalidRequest(f"A key's scope is {choices}.", param="scope") from None


def list_active(user_id: int) -> list[ApiKey]:
    """Return the keys of an account that are not revoked, oldest first."""
    query = select(ApiKey).where(ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None))
    return list(db.session.scalars(query.order_by(ApiKey.id)))


def list_all(user_id: int) -> list[ApiKey]:
    """Return all keys of an account, the revoked ones too, newest first."""
    query = select(ApiKey).where(ApiKey.user_id == user_id).order_by(ApiKey.id.desc())
    return list(db.session.scalars(query))


def set_batch(user_id: int, key_id: int, batch: bool) -> bool | None:
    """Let the requests of an active key yield to all others, or not.

    Returns whether they did before, None if the account has no such valid key.
    """
    key = find_active(key_id)
    if key is None or key.user_id != user_id:
        return None
    before, key.batch = key.batch, batch
    db.session.flush()
    return before


def change(user_id: int, key_id: int, name: str | None, scope: KeyScope | None) -> dict[str, str]:
    """Rename a valid key, or give it another scope; return what differs from before, as it was.

    The caller must have locked the account. Raises NotFound if the account has no such valid key,
    InvalidRequest (param `name`) as `create_named` does.
    """
    key = find_active(key_id)
    if key is None or key.user_id != user_id:
        raise NotFound("There is no such active key.")
    before: dict[str, str] = {}
    if name is not None and (name := checked_name(name)) != key.name:
        require_free_name(user_id, name)
        before["name"], key.name = key.name, name
    if scope is not None and scope != key.scope:
        before["scope"], key.scope = str(key.scope), scope
    db.session.flush()
    return before


def revoke(user_id: int, key_id: int) -> bool:
    """Revoke one key of an account; return False if it has no such valid key."""
    return _revoke(user_id, ApiKey.id == key_id) > 0


def revoke_all(user_id: int) -> int:
    """Revoke every key of an account, and with them its sessions; return how many."""
    return _revoke(user_id)


def revoke_of_mail(user_id: int, outbox_id: int) -> int:
    """Revoke the key that an earlier attempt to send a mail has created."""
    return _revoke(user_id, ApiKey.outbox_id == outbox_id)


def find(raw: str, *accepted: Secret) -> ApiKey | None:
    """Return the valid key whose raw form is `raw`, hashed under one of these peppers, or None.

    An expired key is not valid.
    """
    if not key_format.is_well_formed(raw) and not key_format.is_imported(raw):
        return None
    hashes = [key_format.digest(raw, pepper.reveal()) for pepper in accepted]
    query = select(ApiKey).where(
        ApiKey.key_hash.in_(hashes), ApiKey.revoked_at.is_(None), NOT_EXPIRED
    )
    return db.session.scalar(query)


def find_active(key_id: int) -> ApiKey | None:
    """Return the key with this id unless it is revoked."""
    query = select(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
    return db.session.scalar(query)


def _revoke(user_id: int, *conditions: object) -> int:
    statement = (
        update(ApiKey)
        .where(ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None), *conditions)  # type: ignore[arg-type]
        .values(revoked_at=func.now())
        .returning(ApiKey.id)
    )
    revoked = len(db.session.execute(statement).all())
    if revoked:
        _show_newest_prefix(user_id)
    return revoked


def _show_newest_prefix(user_id: int) -> None:
    newest = (
        select(ApiKey.prefix)
        .where(ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None))
        .order_by(ApiKey.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    db.session.execute(update(User).where(User.id == user_id).values(key_prefix=newest))
